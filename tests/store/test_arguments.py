"""Arguments of another kind than a call can use: each told by its name, before anything is done."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from cas import (
    ArtifactStore,
    ArtifactStoreConfig,
    ArtifactStoreError,
    ConfigError,
    InvalidFileError,
    InvalidInputError,
    QueryError,
    RetentionPolicy,
    SecretScanner,
    compact_store,
    restore_store,
)
from cas.arguments import check_instance, check_list, check_seconds, check_share, check_threads, check_whole
from tests.store.stores import commit, dump

SECRET = b"aws_access_key_id = AKIAIOSFODNN7EXAMPLK\n"
NAN = math.nan


def refuse(call, *arguments, kind=InvalidInputError, **named):
    with pytest.raises(ArtifactStoreError) as caught:
        call(*arguments, **named)
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((check_whole, value) for value in ("5", 1.0, True, None, NAN)),
        *((check_share, value) for value in ("1", True, None, 0, 1.01, -0.5, NAN, 10**400)),
        *((check_seconds, value) for value in ("1", True, b"1", NAN, math.inf, -math.inf, 10**400)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:5]),
)
def test_number_of_another_kind_is_refused_by_its_name(check, value):
    assert refuse(check, value, "amount").subject == "amount"


def test_number_of_the_right_kind_passes():
    for whole in (0, -3, 2**70):
        check_whole(whole, "amount")
    for share in (1, 1.0, 1e-9):
        check_share(share, "amount")
    for seconds in (None, 0, -1, 0.5, 10**9):
        check_seconds(seconds, "amount")
    check_seconds(math.inf, "amount", endless=True)
    for threads in (None, 1, 64):
        check_threads(threads)


@pytest.mark.parametrize("value", [NAN, -math.inf, 10**400], ids=["nan", "minus", "huge"])
def test_wait_without_an_end_is_a_number_all_the_same(value):
    assert refuse(check_seconds, value, "wait_s", endless=True).subject == "wait_s"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", NAN], ids=str)
def test_number_of_threads_of_another_kind_is_refused(value):
    assert refuse(check_threads, value).subject == "threads"


@pytest.mark.parametrize("value", [5, None, "text", b"bytes", bytearray(b"x"), {"a": 1}], ids=repr)
def test_list_of_another_kind_is_refused_by_its_name(value):
    error = refuse(check_list, value, "refs", "names")
    assert (error.subject, type(value).__name__ in error.message) == ("refs", True)
    assert "list of names" in error.message


@pytest.mark.parametrize("value", [[], (), {"a"}, iter("ab")], ids=["list", "tuple", "set", "iterator"])
def test_list_of_any_iterable_passes(value):
    check_list(value, "refs", "names")


def test_instance_of_another_class_is_refused_by_both():
    assert (
        refuse(check_instance, 5, ArtifactStore, "store").message == "store must be an ArtifactStore, not int"
    )
    assert refuse(check_instance, 5, RetentionPolicy, "p").message == "p must be a RetentionPolicy, not int"


@pytest.mark.parametrize("config", [None, 5, "x", Path(), {}], ids=repr)
def test_config_of_another_kind_is_refused_by_every_call_that_takes_one(config):
    for call in (compact_store, lambda given: restore_store("somewhere", given)):
        assert "must be an ArtifactStoreConfig" in refuse(call, config, kind=ConfigError).message
    if config is not None:
        for call in (SecretScanner, ArtifactStore):
            assert "must be an ArtifactStoreConfig" in refuse(call, config, kind=ConfigError).message


@pytest.mark.parametrize("source", [None, 5, b"bytes", ""], ids=repr)
def test_restore_from_what_is_no_path_is_refused(tmp_path, source):
    config = ArtifactStoreConfig(repo_path=tmp_path)
    refuse(restore_store, source, config, kind=InvalidFileError)
    assert list(tmp_path.iterdir()) == []


PROGRESS = {
    "backup": lambda store, given: store.backup("there", progress=given),
    "checkout": lambda store, given: store.checkout("corr_1", "there", progress=given),
    "commit": lambda store, given: commit(store, "corr_2", progress=given),
    "gc": lambda store, given: store.gc(progress=given),
    "heal": lambda store, given: store.heal(progress=given),
    "purge": lambda store, given: store.purge("00" * 32, progress=given),
    "revert": lambda store, given: store.revert_to_tag("corr_1", "release", progress=given),
    "scan": lambda store, given: store.scan_all(progress=given),
    "verify": lambda store, given: store.verify(progress=given),
    "verify rollback": lambda store, given: store.verify_rollback("corr_1", "release", progress=given),
}


@pytest.mark.parametrize("call", PROGRESS.values(), ids=PROGRESS)
def test_progress_that_cannot_be_called_is_refused_before_anything_is_done(
    store, tmp_path, monkeypatch, call
):
    monkeypatch.chdir(tmp_path)
    commit(store)
    before = dump(store)
    assert refuse(call, store, 5).subject == "progress"
    assert dump(store) == before
    assert not (tmp_path / "there").exists()


def test_restore_told_to_call_something_else_is_refused(tmp_path):
    config = ArtifactStoreConfig(repo_path=tmp_path)
    assert refuse(restore_store, tmp_path, config, progress=5).subject == "progress"


def test_clock_that_cannot_be_called_is_refused_before_a_store_is_made(tmp_path):
    config = ArtifactStoreConfig(repo_path=tmp_path)
    assert refuse(ArtifactStore, config, clock=5).subject == "clock"
    assert refuse(ArtifactStore, config, clock=None).subject == "clock"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threads", [NAN, "2", -1, 0])
def test_heal_by_a_number_of_threads_that_is_none_is_refused_and_does_not_wait_for_ever(store, threads):
    commit(store)
    assert refuse(store.heal, threads=threads).subject == "threads"


@pytest.mark.parametrize("sources", [5, "text", [None], [5]], ids=repr)
def test_heal_from_something_else_than_functions_is_refused(store, sources):
    assert refuse(store.heal, sources).subject == "sources"


@pytest.mark.parametrize("seed", ["x", [], 1.5, None, True], ids=repr)
def test_verify_of_a_seed_that_is_no_whole_number_is_refused(store, seed):
    assert refuse(store.verify, seed=seed).subject == "seed"


def test_forget_of_something_else_than_a_list_is_refused(store):
    assert refuse(store.forget, 5).subject == "refs"
    assert refuse(store.forget, policy=5).subject == "policy"
    assert refuse(store.forget, policy=RetentionPolicy(keep_last=1), where=5, kind=QueryError)


def test_policy_per_something_that_cannot_be_hashed_is_refused():
    assert refuse(RetentionPolicy, keep_last=1, per=[]).subject == "per"


def test_history_of_a_limit_above_every_machine_word_is_all_of_it(store):
    branch = commit(store)["branch"]
    assert len(store.history(branch, sys.maxsize + 1)) == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("engine", []),
        ("engine", None),
        ("disabled_rules", 5),
        ("disabled_rules", "aws"),
        ("disabled_rules", [5]),
        ("path_rules", 5),
        ("path_rules", {"a": None}),
        ("path_rules", {"a": "aws"}),
        ("path_rules", {5: []}),
        ("baseline", 5),
        ("baseline", "baseline.json"),
    ],
    ids=repr,
)
def test_scanner_setting_of_another_kind_is_refused_by_its_name(argument, value):
    error = refuse(SecretScanner, kind=ConfigError, **{argument: value})
    assert error.subject == argument


@pytest.mark.parametrize("data", ["text", None, 5, [1]], ids=repr)
def test_scan_of_what_is_no_bytes_is_refused(data):
    scanner = SecretScanner(engine="python")
    assert refuse(scanner.scan, data, "a.txt").subject == "data"
    assert refuse(scanner.stream("a.txt").feed, data).subject == "data"


@pytest.mark.parametrize("name", [None, 5, b"a.txt"], ids=repr)
@pytest.mark.parametrize("data", [b"nothing", SECRET], ids=["clean", "secret"])
def test_scan_under_a_name_that_is_no_text_is_refused_whatever_is_scanned(data, name):
    scanner = SecretScanner(engine="python")
    assert refuse(scanner.scan, data, name).subject == "name"
    assert refuse(scanner.stream, name).subject == "name"


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_scan_of_any_form_of_bytes_finds_the_same(form):
    scanner = SecretScanner(engine="python")
    assert scanner.scan(form(SECRET), "a.txt") == scanner.scan(SECRET, "a.txt") != []
