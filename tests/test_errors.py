"""The error tree: as its docstring draws it, each with a kind, whole through pickling, silent about secrets."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re
from pathlib import Path

import lmdb
import pytest

import cas
from cas import errors
from cas.errors import ArtifactStoreError, IntegrityError, QueryError, SecretDetectedError, StorageError
from cas.lmdbenv import mapped_errors
from cas.secretscan import SecretScanner

CLASSES = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, ArtifactStoreError)
}


def drawn_tree():
    """Return class name → name of the class above it, as the module's docstring draws them."""
    above, parents = [], {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ((?:│   |    )*)(?:[├└]── )?(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + ("── " in line)
        parents[match[2]] = above[depth - 1] if depth else None
        above[depth:] = [match[2]]
    return parents


def test_docstring_draws_the_tree_of_the_classes():
    assert drawn_tree() == {
        name: None if found is ArtifactStoreError else found.__bases__[0].__name__
        for name, found in CLASSES.items()
    }


def test_every_error_is_public_and_sorted():
    assert sorted(CLASSES) == errors.__all__
    assert set(CLASSES) <= set(cas.__all__)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_has_a_kind_of_its_own(name):
    assert "kind" in vars(CLASSES[name])
    assert re.fullmatch(r"[a-z][a-z_]+", CLASSES[name].kind)
    assert [other for other in CLASSES.values() if other.kind == CLASSES[name].kind] == [CLASSES[name]]
    assert isinstance(CLASSES[name].retryable, bool)
    assert inspect.getdoc(CLASSES[name])


def make(found):
    """Return an error of a class with every field set."""
    if issubclass(found, SecretDetectedError):
        return found(SecretScanner().scan(b"password = '" + b"c0rrectH0rse9" + b"'", "leak.py"))
    if found is QueryError:
        return found("where: no", position=7, hint="look")
    return found("text", hint="look", subject="culprit", kind="special_kind", retryable=True)


def pass_through(error, through):
    if isinstance(through, int):
        return pickle.loads(pickle.dumps(error, through))  # noqa: S301  made right here
    return getattr(copy, through)(error)


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("through", [*range(pickle.HIGHEST_PROTOCOL + 1), "copy", "deepcopy"])
def test_every_error_survives_pickling_with_its_fields(name, through):
    error = make(CLASSES[name])
    back = pass_through(error, through)
    assert type(back) is type(error)
    assert (str(back), vars(back), back.as_dict()) == (str(error), vars(error), error.as_dict())


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_json_able(name):
    import json

    assert json.loads(json.dumps(make(CLASSES[name]).as_dict()))["kind"] == make(CLASSES[name]).kind


def test_no_secret_in_any_form_of_the_error():
    value = "c0rrect" + "H0rse9"
    data = f"password = '{value}'\n" * 30
    findings = SecretScanner().scan(data.encode(), "leak.py")
    error = SecretDetectedError(findings)
    assert len(error.findings) == 30
    forms = [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        repr(error.as_dict()),
        repr(findings),
    ]
    assert not any(value in form or value[:8] in form for form in forms)
    assert value.encode() not in pickle.dumps(error)
    assert "and 20 more" in str(error)


LMDB_ERRORS = sorted(
    (found for found in vars(lmdb).values() if inspect.isclass(found) and issubclass(found, lmdb.Error)),
    key=lambda found: found.__name__,
)
# What each error of lmdb becomes. A new one of a later version fails the test below until somebody decides.
KNOWN = {
    "BadChecksumError": "damaged",
    "BadDbiError": "storage_error",
    "BadRslotError": "storage_error",
    "BadTxnError": "storage_error",
    "BadValsizeError": "storage_error",
    "CorruptedError": "damaged",
    "CryptoFailError": "storage_error",
    "CursorFullError": "storage_error",
    "DbsFullError": "storage_error",
    "DiskError": "disk_full",
    "EnvEncryptionError": "storage_error",
    "Error": "storage_error",
    "IncompatibleError": "damaged",
    "InvalidError": "damaged",
    "InvalidParameterError": "storage_error",
    "KeyExistsError": "storage_error",
    "LockError": "storage_error",
    "MapFullError": "map_full",
    "MapResizedError": "storage_error",
    "MemoryError": "storage_error",
    "NotFoundError": "storage_error",
    "PageFullError": "storage_error",
    "PageNotFoundError": "damaged",
    "PanicError": "io_error",
    "ProblemError": "damaged",
    "ReadersFullError": "readers_full",
    "ReadonlyError": "permission_denied",
    "TlsFullError": "storage_error",
    "TxnFullError": "storage_error",
    "VersionMismatchError": "damaged",
}
CODES = {"DiskError": errno.ENOSPC, "MemoryError": errno.ENOMEM, "ReadonlyError": errno.EACCES}


def mapped(error, path, *, writing=False):
    with pytest.raises(StorageError) as caught, mapped_errors(path, writing=writing):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize("found", LMDB_ERRORS, ids=lambda found: found.__name__)
def test_every_error_of_lmdb_is_known_and_mapped(found, tmp_path):
    error = found("mdb_put: it failed")
    error.code = CODES.get(found.__name__, -30_000)
    ours = mapped(error, tmp_path)
    assert ours.kind == KNOWN[found.__name__], "decide what a new error of lmdb means, in cas.lmdbenv.faults"
    assert isinstance(ours, IntegrityError) == (ours.kind == "damaged")


def test_no_error_of_lmdb_is_listed_that_it_does_not_have():
    # Older supported versions may lack some; none may be listed under a wrong name.
    newest = {found.__name__ for found in LMDB_ERRORS}
    assert set(KNOWN) - newest == set()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.ENOENT, "not_a_store"),
        (errno.ENOTDIR, "not_a_store"),
        (errno.EACCES, "permission_denied"),
        (errno.EPERM, "permission_denied"),
        (errno.EROFS, "read_only"),
        (errno.ENOMEM, "storage_error"),
        (errno.EIO, "io_error"),
        (errno.EFBIG, "io_error"),
    ],
    ids=lambda value: errno.errorcode.get(value, value),
)
def test_errors_of_the_file_system_are_mapped(code, kind, tmp_path):
    assert mapped(OSError(code, "text"), tmp_path).kind == kind
    assert mapped(lmdb_error(code), tmp_path).kind == kind


def lmdb_error(code):
    error = lmdb.Error("mdb_env_open: it failed")
    error.code = code
    return error


def test_our_own_errors_pass_the_mapping_unchanged(tmp_path):
    error = IntegrityError("mine")
    with pytest.raises(IntegrityError) as caught, mapped_errors(tmp_path, writing=True):
        raise error
    assert caught.value is error


def test_foreign_errors_are_mapped_in_one_place():
    # The names of lmdb's errors may be used in its gateway only; import-linter keeps the import itself there.
    root = Path(cas.__file__).parent
    users = {
        path.parent.name for path in root.rglob("*.py") if re.search(r"\blmdb\.\w*Error\b", path.read_text())
    }
    assert users == {"lmdbenv"}


def test_fields_of_an_error_are_given_under_their_names_and_missing_ones_are_left_out():
    error = StorageError("full", hint="free some", subject="/disk", kind="disk_full", retryable=True)
    assert error.as_dict() == {
        "kind": "disk_full", "error": "full", "subject": "/disk", "hint": "free some", "retryable": True,
    }  # fmt: skip
    assert (str(error), error.message, error.args) == ("full", "full", ("full",))
    bare = StorageError("full")
    assert bare.as_dict() == {"kind": "storage_error", "error": "full", "retryable": False}
    assert (bare.hint, bare.subject) == (None, None)
    assert "kind" not in vars(bare)
    assert errors.GitCommandFailedError("x", retryable=False).retryable is False
    assert errors.GitCommandFailedError("x").retryable is True


def test_query_error_tells_its_text_its_position_and_its_hint():
    error = QueryError("no such operator", position=7, hint="use >=")
    assert (str(error), error.position, error.hint) == ("no such operator", 7, "use >=")
    assert QueryError("x").position == 0


def test_secrets_are_counted_and_named_by_place_and_rule():
    findings = SecretScanner().scan(b"x\npassword = '" + b"c0rrectH0rse9" + b"'\n", "leak.py")
    (found,) = findings
    error = SecretDetectedError(findings)
    assert str(error) == f"1 secret detected: leak.py:2:{found.column} [{found.rule}]"
    assert error.subject == "leak.py"
    assert error.as_dict()["findings"] == [found.as_dict()]
    place = f"leak.py:2:{found.column} [{found.rule}]"
    assert str(SecretDetectedError(findings * 10)) == f"10 secrets detected: {', '.join([place] * 10)}"
    assert str(SecretDetectedError(findings * 11)).endswith(f"{place}, and 1 more")
    assert SecretDetectedError([]).subject is None
    purged = errors.PurgedContentError(findings)
    assert str(purged) == purged.message == "purged content came back: leak.py"
    assert purged.findings == tuple(findings)
    assert "removed for good" in purged.hint
