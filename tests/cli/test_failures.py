"""Exit codes: every error has one, and the table lists each."""

import inspect

import pytest

from cas import errors
from cli import failures
from cli.report import tell
from cli.session import Session

CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, errors.ArtifactStoreError) and each is not errors.ArtifactStoreError
]
EXPECTED = {
    "ConfigError": 4,
    "ConflictError": 9,
    "ExportError": 9,
    "GitCommandFailedError": 9,
    "IntegrityError": 7,
    "InvalidFileError": 4,
    "InvalidIdError": 4,
    "InvalidInputError": 4,
    "InvalidMetadataError": 4,
    "InvalidNameError": 4,
    "LeaseHeldError": 10,
    "NotFoundError": 3,
    "QueryError": 4,
    "ReadOnlyStoreError": 6,
    "SecretDetectedError": 5,
    "StateError": 4,
    "StorageError": 6,
    "StoreSuspectError": 6,
    "WaitTimeoutError": 8,
}


def made(error_class):
    return error_class(()) if issubclass(error_class, errors.SecretDetectedError) else error_class("text")


@pytest.mark.parametrize("error_class", CLASSES, ids=lambda each: each.__name__)
def test_exit_code_of_every_error_is_in_the_table(error_class):
    code = failures.exit_code(made(error_class))
    assert code in {row.code for row in failures.EXIT_CODES} - {0, 1}
    nearest = next(each.__name__ for each in error_class.__mro__ if each.__name__ in EXPECTED)
    assert code == EXPECTED[nearest]


def test_exit_code_of_a_missing_store_is_not_found():
    assert failures.exit_code(errors.StorageError("x", kind="not_a_store")) == 3


@pytest.mark.parametrize("kind", ["store_in_use", "gc_running"])
def test_exit_code_of_another_process_in_the_way_is_lease_held(kind):
    assert failures.exit_code(errors.StateError("x", kind=kind)) == 10


def test_exit_code_of_a_target_that_exists_is_invalid_input():
    assert failures.exit_code(errors.StorageError("x", kind="target_exists")) == 4


def test_exit_codes_are_distinct_and_in_order():
    codes = [row.code for row in failures.EXIT_CODES]
    assert codes == sorted(set(codes))
    assert len({row.name for row in failures.EXIT_CODES}) == len(codes)


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("pending", 8), ("parked", 9)])
def test_export_code_follows_the_state(state, code):
    assert failures.export_code(state) == code


def test_unexpected_error_is_named_a_defect_without_a_trace(capsys):
    assert tell(ZeroDivisionError("division by zero"), Session()) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ZeroDivisionError: division by zero\n")
    assert "Traceback" not in err


def test_unexpected_error_shows_its_trace_on_request(capsys, monkeypatch):
    monkeypatch.setenv("CAS_DEBUG", "1")
    tell(ZeroDivisionError("division by zero"), Session())
    assert "ZeroDivisionError" in capsys.readouterr().err.splitlines()[0]
