"""Arguments of another kind than a call of `gitexport` can use: each told by its name, before anything is done."""

from __future__ import annotations

import math

import pytest

from cas import ConfigError, InvalidFileError
from gitexport import Exporter, archive_branches, export_status, import_repository, verify_export
from gitexport.remoteurl import is_address
from gitexport.repository import GitRepository
from tests.store.test_arguments import refuse

NAN = math.nan


@pytest.mark.parametrize(
    "call", [Exporter, archive_branches, export_status, import_repository, verify_export]
)
@pytest.mark.parametrize("store", [None, 5, "store"], ids=repr)
def test_store_of_another_kind_is_refused_given_by_place_or_name(call, store):
    assert refuse(call, store).message == f"store must be an ArtifactStore, not {type(store).__name__}"
    assert refuse(call, store=store).subject == "store"


def test_every_call_takes_the_store_by_its_name(place):
    place.commit("one")
    place.export(push=False)
    assert verify_export(store=place.store).ok
    assert export_status(store=place.store)["queued"] == 0
    assert archive_branches(store=place.store, dry_run=True).branch_count == 1
    assert import_repository(store=place.store, dry_run=True).present == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("sample", value) for value in (None, "1", 0, 1.5, NAN)),
        *(("max_duration_s", value) for value in ("1", NAN, math.inf)),
        *(("seed", value) for value in ([], "x", None)),
        ("progress", 5),
    ],
    ids=str,
)
def test_verify_told_something_of_another_kind_is_refused_by_its_name(place, argument, value):
    assert refuse(verify_export, place.store, **{argument: value}).subject == argument


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("older_than_s", value) for value in ("x", "", [], NAN, math.inf)),
        *(("keep_newest", value) for value in ("x", 1.5, True)),
        *(("wait_s", value) for value in ("x", NAN)),
        *(("should_stop", value) for value in (None, 5)),
        *(("pause", value) for value in (None, 5)),
        ("progress", 5),
    ],
    ids=str,
)
def test_archive_told_something_of_another_kind_is_refused_by_its_name(place, argument, value):
    place.commit("one")
    place.export(push=False)
    assert refuse(archive_branches, place.store, **{argument: value}).subject == argument
    assert archive_branches(place.store, dry_run=True).branch_count == 1


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("branches", value) for value in (5, "ai/generated/wf/task", b"x")),
        *(("on_secret", value) for value in ("alow", None, [])),
        *(("wait_s", value) for value in ("x", NAN)),
        ("progress", 5),
    ],
    ids=str,
)
def test_import_told_something_of_another_kind_is_refused_by_its_name(place, argument, value):
    assert refuse(import_repository, place.store, **{argument: value}).subject == argument


@pytest.mark.parametrize("wait_s", ["x", NAN], ids=str)
def test_export_told_to_wait_for_what_is_no_time_is_refused(place, wait_s):
    place.commit("one")
    assert refuse(place.export, wait_s=wait_s).subject == "wait_s"
    assert export_status(place.store)["queued"] == 1


@pytest.mark.parametrize("path", [5, b"bytes", [1]], ids=repr)
def test_repository_at_what_is_no_path_is_refused_by_every_call(place, path):
    for call in (verify_export, import_repository):
        refuse(call, place.store, path, kind=InvalidFileError)
    refuse(archive_branches, place.store, repository=path, kind=InvalidFileError)


def test_repository_may_be_named_by_text(place):
    assert GitRepository.open(str(place.path)).path == GitRepository.open(place.path).path


@pytest.mark.parametrize("remote", [5, b"origin", ["origin"]], ids=repr)
def test_remote_that_is_no_text_is_refused_by_every_call(place, remote):
    for call in (verify_export, archive_branches):
        assert refuse(call, place.store, remote=remote, kind=ConfigError).subject == "remote"
    assert refuse(is_address, remote, kind=ConfigError).subject == "remote"


@pytest.mark.parametrize(
    ("named", "subject"),
    [
        ({"limit": "x"}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": -1}, "limit"),
        ({"only": "c1"}, "only"),
        ({"only": 5}, "only"),
        ({"progress": 5}, "progress"),
        ({"should_stop": None}, "should_stop"),
        ({"pause": None}, "pause"),
    ],
    ids=str,
)
def test_export_by_arguments_of_another_kind_is_refused(place, named, subject):
    place.commit("one")
    exporter = Exporter(place.store)
    assert refuse(exporter.run, **named).subject == subject
    assert export_status(place.store)["queued"] == 1
    assert place.refs() == {}


def test_exporter_knows_its_levels_of_checking(place):
    error = refuse(Exporter, place.store, check="all")
    assert (error.subject, error.message) == ("check", "check must be one of full, deposit, crc")
