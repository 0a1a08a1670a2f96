"""Values of refs: which oids and names pass, and what git's refusals mean."""

import pytest

from cas.errors import ConflictError, GitCommandFailedError, IntegrityError, InvalidNameError
from gitexport.git import GitResult
from gitexport.refvalues import check_oid, check_ref_name, ref_failure, ref_folders

OID = "0123456789abcdef" * 4


@pytest.mark.parametrize("oid", [OID[:40], OID])
def test_check_oid_of_either_format_comes_back(oid):
    assert check_oid(oid) == oid


@pytest.mark.parametrize(
    "oid", ["", OID[:39], OID[:41], OID[:63], OID + "0", OID[:40].upper(), OID[:39] + "g", OID[:40] + "\n"]
)
def test_check_oid_of_anything_else_is_refused_and_named(oid):
    with pytest.raises(IntegrityError) as caught:
        check_oid(oid)
    assert caught.value.subject == oid


@pytest.mark.parametrize(
    "name", ["refs/heads/a", "refs/tags/a/b", "refs/heads/a.b", "refs/heads/Ä", "refs/x/y"]
)
def test_check_ref_name_full_name_comes_back(name):
    assert check_ref_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "refs", "refs/", "refs/a", "heads/a/b", "/refs/heads/a", "refs/heads/", "refs/heads//a", "refs/heads/.a",
        "refs/heads/a.", "refs/heads/a./b", "refs/heads/a.lock", "refs/heads/a.lock/b", "refs/heads/a..b",
        "refs/heads/a@{b", "refs/heads/a b", "refs/heads/a\nb", "refs/heads/a\0", "refs/heads/a\x7f", "refs/heads/a~",
        "refs/heads/a^", "refs/heads/a:", "refs/heads/a?", "refs/heads/a*", "refs/heads/a[", "refs/heads/a\\",
    ],
)  # fmt: skip
def test_check_ref_name_unfit_is_refused_and_named(name):
    with pytest.raises(InvalidNameError) as caught:
        check_ref_name(name)
    assert caught.value.subject == name


def failure(stderr):
    return ref_failure(GitResult(exit_code=128, stdout=b"", stderr=stderr))


def test_ref_failure_names_the_ref_in_the_way():
    error = failure(
        "fatal: cannot lock ref 'refs/heads/a/b': 'refs/heads/a' exists; cannot create 'refs/heads/a/b'"
    )
    assert isinstance(error, ConflictError)
    assert error.subject == "refs/heads/a"
    assert "refs/heads/a exists, so refs/heads/a/b cannot be created" in str(error)
    assert "Rename or delete" in error.hint


def test_ref_failure_names_the_lock_file():
    error = failure(
        "fatal: cannot lock ref 'refs/heads/a': Unable to create '/r/refs/heads/a.lock': File exists."
    )
    assert isinstance(error, GitCommandFailedError)
    assert (error.subject, error.kind) == ("/r/refs/heads/a.lock", "ref_locked")
    assert "/r/refs/heads/a.lock" in str(error)
    assert "remove it" in error.hint


def test_ref_failure_of_locked_reftables_names_their_lock():
    error = failure("fatal: prepare: cannot lock references\n")
    assert isinstance(error, GitCommandFailedError)
    assert (error.subject, error.kind, error.retryable) == ("reftable/tables.list.lock", "ref_locked", True)


@pytest.mark.parametrize(
    "what", ["nonexistent object", "non-commit object", "missing object", "invalid object"]
)
def test_ref_failure_of_an_object_that_is_not_there_is_an_integrity_error(what):
    error = failure(f"fatal: cannot update ref 'refs/heads/a': trying to write {what} {OID[:40]}\n")
    assert isinstance(error, IntegrityError)
    assert str(error).endswith(OID[:40])


def test_ref_failure_of_a_moved_ref_says_what_git_said():
    error = failure("fatal: cannot lock ref 'refs/heads/a': is at 1 but expected 2")
    assert isinstance(error, ConflictError)
    assert error.subject == "refs/heads/a"
    assert "refs/heads/a: is at 1 but expected 2" in str(error)
    assert "refs/heads/a: cannot be locked" in str(failure("fatal: cannot lock ref 'refs/heads/a'"))


def test_ref_failure_of_an_unknown_text_is_a_failed_command():
    error = failure("fatal: something new")
    assert type(error) is GitCommandFailedError
    assert "update-ref" in str(error)
    assert "something new" in str(error)


def test_folders_of_a_ref_are_those_that_could_be_refs():
    assert ref_folders("refs/heads/a/b/c") == ("refs/heads/a/b", "refs/heads/a")
    assert ref_folders("refs/heads/a") == ()
