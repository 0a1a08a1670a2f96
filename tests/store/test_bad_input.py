"""Bad input: each a typed error that names the culprit, and not one row of the store changed."""

from __future__ import annotations

import datetime
import errno
import itertools
import os
import socket
from fractions import Fraction
from pathlib import Path

import pytest

from cas import (
    ArtifactStore,
    ArtifactStoreConfig,
    ConfigError,
    InvalidFileError,
    InvalidIdError,
    InvalidInputError,
    InvalidMetadataError,
    InvalidNameError,
    StorageError,
    intake,
)
from tests.store.stores import METADATA, commit, dump, open_store

SMALL = b"x"
BAD_NAMES = [
    "",
    ".",
    "..",
    "../up.txt",
    "a/../b",
    "a/./b",
    "a//b",
    "/etc/passwd",
    "a/",
    "nul\0byte",
    "new\nline",
    "tab\t",
    "back\\slash",
    "C:drive",
    "stream:ads",
    ".git",
    ".GIT/config",
    "sub/.git/hooks/x",
    ".g\u200cit",
    ".git.",
    ".git ",
    "git~1",
    ".git::$INDEX_ALLOCATION",
    ".gitmodules",
    ".GITMODULES",
    "con",
    "NUL.txt",
    "trailing.",
    "trailing ",
    "metadata.json",
    "Metadata.JSON",
    "x" * 256,
    "d/" * 40 + "deep",
    "lone\ud800",
    7,
    None,
    b"bytes",
]


def refuse(store, kind, **arguments):
    before = dump(store)
    with pytest.raises(kind) as caught:
        commit(store, **arguments)
    assert dump(store) == before
    assert not list(store.environment.directory.glob("*.tmp*"))
    return caught.value


@pytest.mark.parametrize(
    "name", BAD_NAMES, ids=lambda name: ascii(name).replace("::", ":").replace("\\", "%")
)
def test_commit_bad_artifact_name_is_refused_by_name(shared_store, name):
    error = refuse(shared_store, InvalidNameError, files={"good.txt": SMALL, name: SMALL})
    assert error.kind == "invalid_name"
    assert error.subject == str(name).encode("utf-8", "backslashreplace").decode()
    assert not error.retryable


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.txt", "A.TXT"),
        ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("d", "d/e"),
        ("D/e", "d/f"),
    ],
)
def test_commit_names_that_meet_on_some_file_system_are_refused_by_both(shared_store, first, second):
    error = refuse(shared_store, InvalidNameError, files={first: SMALL, second: SMALL})
    assert repr(first) in error.message
    assert repr(second) in error.message


def test_commit_two_paths_with_one_last_part_are_refused(shared_store, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_bytes(SMALL)
    error = refuse(shared_store, InvalidNameError, files=[tmp_path / "a/same.txt", tmp_path / "b/same.txt"])
    assert error.subject == "same.txt"


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ([], InvalidInputError),
        ({}, InvalidInputError),
        (None, InvalidInputError),
        (7, InvalidInputError),
        ("one.txt", InvalidInputError),
        (b"one.txt", InvalidInputError),
        ([""], InvalidNameError),
        ([7], InvalidInputError),
        ([b"bytes.txt"], InvalidInputError),
        (["/"], InvalidNameError),
        ([".."], InvalidNameError),
        ({"a": 7}, InvalidFileError),
        ({"a": None}, InvalidFileError),
        ({"a": "with\0nul"}, InvalidFileError),
        ({"a": ""}, InvalidFileError),
        ({"a": "x" * 5000}, InvalidFileError),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_commit_files_argument_of_another_form_is_refused(shared_store, files, kind):
    refuse(shared_store, kind, files=files)


def test_commit_files_without_an_end_are_refused_once_they_are_too_many(tmp_path):
    counter = itertools.count()
    with open_store(tmp_path, max_files=3) as store, pytest.raises(InvalidInputError, match="3 files"):
        commit(store, files=(f"{number}.txt" for number in counter))
    assert next(counter) == 4


def test_commit_path_of_bytes_is_read_and_one_that_is_missing_refused(shared_store, tmp_path):
    (tmp_path / "there.txt").write_bytes(SMALL)
    (there,) = os.scandir(os.fsencode(tmp_path))
    commit(shared_store, "of-bytes", files={"a.txt": there})
    assert shared_store.read_file("of-bytes", "a.txt") == SMALL
    (tmp_path / "there.txt").unlink()
    assert refuse(shared_store, InvalidFileError, files={"b.txt": there}).subject == "b.txt"


def make_missing(folder):
    return folder / "missing.txt"


def make_directory(folder):
    path = folder / "folder"
    path.mkdir()
    return path


def make_link(folder):
    (folder / "target").write_bytes(SMALL)
    path = folder / "link"
    path.symlink_to(folder / "target")
    return path


def make_fifo(folder):
    path = folder / "fifo"
    os.mkfifo(path)
    return path


def make_socket(folder, monkeypatch):
    monkeypatch.chdir(folder)  # a socket's path may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    return folder / "socket"


@pytest.mark.parametrize(
    "make", [make_missing, make_directory, make_link, make_fifo], ids=lambda f: f.__name__[5:]
)
def test_commit_input_that_is_no_regular_file_is_refused_by_name(shared_store, tmp_path, make):
    path = make(tmp_path)
    error = refuse(shared_store, InvalidFileError, files={"good.txt": SMALL, "input.txt": path})
    assert error.subject == "input.txt"
    assert str(path) in error.message


def test_commit_socket_is_refused_by_name(shared_store, tmp_path, monkeypatch):
    path = make_socket(tmp_path, monkeypatch)
    assert refuse(shared_store, InvalidFileError, files=[path]).subject == "socket"


@pytest.mark.parametrize(
    ("code", "says", "passes"),
    [
        (errno.EACCES, "not readable", False),
        (errno.EIO, "cannot be read", False),
        (errno.EMFILE, "cannot be read", True),
    ],
)
@pytest.mark.parametrize("call", ["open", "pread"])
def test_commit_unreadable_file_is_refused_by_name(
    shared_store, tmp_path, monkeypatch, call, code, says, passes
):
    path = tmp_path / "closed.txt"
    path.write_bytes(SMALL)
    real = getattr(os, call)

    def fail(what, *arguments):  # root, as whom tests may run, is refused nothing by the file system
        if what in {path, str(path)} or (
            call == "pread" and Path(f"/proc/self/fd/{what}").readlink() == path
        ):
            raise OSError(code, os.strerror(code))
        return real(what, *arguments)

    monkeypatch.setattr(os, call, fail)
    error = refuse(shared_store, InvalidFileError, files=[path])
    assert error.subject == "closed.txt"
    assert says in error.message
    assert error.retryable == passes


@pytest.mark.parametrize("size_bytes", [10, intake.LARGE_FILE_BYTES + 10], ids=["small", "large"])
@pytest.mark.parametrize("change", ["grow", "shrink", "touch"])
def test_commit_file_that_changes_while_it_is_read_is_refused(
    shared_store, tmp_path, monkeypatch, change, size_bytes
):
    path = tmp_path / "growing.csv"
    path.write_bytes(bytes(size_bytes))
    real, reads = os.pread, []

    def pread(descriptor, count, offset):
        data = real(descriptor, count, offset)
        if not reads:
            reads.append(1)
            if change == "grow":
                with path.open("ab") as file:
                    file.write(b"more")
            elif change == "shrink":
                os.truncate(path, size_bytes // 2)
            else:
                os.utime(path, ns=(1, 1))
        return data

    monkeypatch.setattr(os, "pread", pread)
    error = refuse(shared_store, InvalidFileError, files=[path])
    assert error.subject == "growing.csv"
    assert error.retryable


def test_commit_large_file_rewritten_between_its_two_readings_is_refused(shared_store, tmp_path, monkeypatch):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(intake.LARGE_FILE_BYTES + 1))
    status = path.stat()
    real = os.pread

    def pread(descriptor, count, offset):
        data = real(descriptor, count, offset)
        if not data:  # the first reading is over
            with path.open("r+b") as file:
                file.write(b"other")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return data

    monkeypatch.setattr(os, "pread", pread)
    assert refuse(shared_store, InvalidFileError, files=[path]).subject == "big.bin"


def cyclic():
    value = {}
    value["self"] = value
    return value


BAD_METADATA = [
    ({"note": ...}, "note"),
    ({"test_metrics": {"sharpe": float("nan")}}, "test_metrics.sharpe"),
    ({"test_metrics": {"sharpe": float("inf")}}, "test_metrics.sharpe"),
    ({"when": datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)}, "when"),
    ({"list": [1, {2}]}, "list[1]"),
    ({"raw": b"bytes"}, "raw"),
    ({"deep": {1: 2}}, "deep"),
    ({1: 2}, None),
    ({"text": "\ud800"}, "text"),
    ({"k\udfff": 1}, None),
    ({"whole": 10**700}, "whole"),
    ({"ratio": Fraction(10**400)}, "ratio"),
    ({"files": []}, "files"),
    ({"workflow_id": "other"}, "workflow_id"),
    ({"big": "x" * 2_000_000}, None),
]


@pytest.mark.parametrize(("metadata", "subject"), BAD_METADATA, ids=lambda value: repr(value)[:40])
def test_commit_metadata_that_is_not_json_is_refused_by_its_place(shared_store, metadata, subject):
    assert refuse(shared_store, InvalidMetadataError, metadata=metadata).subject == subject


@pytest.mark.parametrize("metadata", [[], "text", 7, [("a", 1)]], ids=repr)
def test_commit_metadata_that_is_no_mapping_is_refused(shared_store, metadata):
    refuse(shared_store, InvalidMetadataError, metadata=metadata)


def test_commit_cyclic_metadata_is_refused(shared_store):
    refuse(shared_store, InvalidMetadataError, metadata=cyclic())


@pytest.mark.parametrize("what", ["workflow_id", "task_id", "correlation_id", "prompt_hash"])
@pytest.mark.parametrize("value", ["", 7, b"x", "\ud800"], ids=ascii)
def test_commit_bad_id_is_refused_by_its_name(shared_store, what, value):
    assert refuse(shared_store, InvalidIdError, **{what: value}).subject == what


@pytest.mark.parametrize("what", ["workflow_id", "task_id", "correlation_id"])
def test_commit_missing_id_is_refused_by_its_name(shared_store, what):
    assert refuse(shared_store, InvalidIdError, **{what: None}).subject == what


def test_commit_above_the_limits_is_refused(tmp_path):
    with open_store(tmp_path, max_files=2, max_file_bytes=10, max_metadata_bytes=200) as store:
        refuse(store, InvalidInputError, files=dict.fromkeys("abc", SMALL))
        assert refuse(store, InvalidFileError, files={"long": b"x" * 11}).subject == "long"
        (tmp_path / "long.txt").write_bytes(b"x" * 11)
        assert refuse(store, InvalidFileError, files=[tmp_path / "long.txt"]).subject == "long.txt"
        refuse(store, InvalidMetadataError, metadata={"note": "x" * 200})
        assert commit(store, files={"a": b"x" * 10, "b": b""}, metadata=METADATA)["success"]


def test_commit_failing_without_raise_errors_tells_why_and_changes_nothing(tmp_path):
    with open_store(tmp_path, raise_errors=False) as store:
        before = dump(store)
        result = commit(store, files=[tmp_path / "missing.txt"])
        assert (result["success"], result["commit_sha"], result["tags"]) == (False, None, [])
        assert "missing.txt" in result["error"]
        assert result["correlation_id"] == "corr_1"
        assert set(result) <= {*commit(store), "kind", "hint", "subject", "retryable"}
        assert (result["kind"], result["subject"], result["retryable"]) == (
            "invalid_file",
            "missing.txt",
            False,
        )
        assert store.revert_to_tag("corr_none")["success"] is False
        assert store.revert_to_tag("corr_1", "..")["error"]
        assert before != dump(store)


@pytest.mark.parametrize("value", ["false", 1, None])
def test_trust_in_a_foreign_owner_is_true_or_false_and_nothing_else(value):
    with pytest.raises(ConfigError) as caught:
        ArtifactStoreConfig(git_trust_foreign_owner=value)
    assert caught.value.subject == "git_trust_foreign_owner"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store_path", "with\ud800surrogate"),
        ("secret_baseline", Path("\ud800")),
        ("map_size_bytes", 10**30),
        ("max_files", 2**63),
        ("indexed_metrics", ["\ud800"]),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_setting_that_the_system_could_not_take_is_refused_when_it_is_made(field, value):
    with pytest.raises(ConfigError) as caught:
        ArtifactStoreConfig(scan_for_secrets=False, **{field: value})
    assert caught.value.subject == field


@pytest.mark.parametrize("config", [{}, {"repo_path": "."}, ".", Path()], ids=repr)
def test_store_of_something_else_than_a_config_is_refused(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="must be an ArtifactStoreConfig"):
        ArtifactStore(config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_store_path_that_is_too_long_is_said_to_be(tmp_path, create):
    with pytest.raises(StorageError, match="longer than a path") as caught:
        open_store(tmp_path, store_path=tmp_path / ("x" * 300), create=create)
    assert caught.value.kind == "not_a_store"


def test_store_opened_with_too_many_open_files_blames_no_disk(tmp_path, monkeypatch):
    with open_store(tmp_path):
        pass

    def fail(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("cas.lmdbenv.environment.share_directory", fail)
    with pytest.raises(StorageError, match="too many open files") as caught:
        open_store(tmp_path)
    assert caught.value.retryable


@pytest.mark.parametrize("limit", ["5", 1.5, True, None], ids=str)
def test_history_of_a_limit_that_is_no_number_is_refused(store, limit):
    commit(store)
    with pytest.raises(InvalidInputError, match="limit"):
        store.history("ai/generated/wf/task", limit)
