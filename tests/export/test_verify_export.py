"""The proof: each kind of tampering with the repository or the remote is found and named."""

from __future__ import annotations

import subprocess
import zlib

import pytest

from cas.catalog import sequence_key
from cas.lmdbenv import Table
from gitexport import verify, verify_export
from tests.export.places import refs_of, run_git

BRANCH = "refs/heads/ai/generated/wf/t1"


@pytest.fixture
def exported(place):
    place.commit("t1", "a", files={"data.csv": b"of run a\n"}, prompt="p")
    place.commit("t1", "b")
    place.commit("t2", "c")
    place.store.revert_to_tag("corr_a", "restored")
    assert place.export().state == "done"
    return place


def faults(place, **settings):
    return [
        (fault.label, fault.subject, fault.detail) for fault in verify_export(place.store, **settings).faults
    ]


def explode(place):
    """Turn all packs into loose objects, which can be tampered with one by one."""
    packs = list((place.path / "objects" / "pack").glob("pack-*.pack"))
    for pack in packs:
        target = place.path / pack.name
        pack.rename(target)
        for path in (place.path / "objects" / "pack").glob(f"{pack.stem}.*"):
            path.unlink()
        with target.open("rb") as file:
            subprocess.run(["git", "-C", place.path, "unpack-objects", "-q"], stdin=file, check=True)
        target.unlink()


def loose(place, oid):
    return place.path / "objects" / oid[:2] / oid[2:]


def test_everything_in_order_is_reported_with_its_extent(exported):
    report = verify_export(exported.store)
    assert report.ok
    assert (report.run_count, report.not_exported, report.complete) == (4, 0, True)
    assert report.object_count > 20
    exported.commit("t9")
    assert verify_export(exported.store).not_exported == 1


@pytest.mark.parametrize("kind", ["blob", "metadata", "tree", "commit", "tag"])
@pytest.mark.parametrize("how", ["changed", "garbled", "removed"])
def test_object_that_was_tampered_with_is_named(exported, kind, how):
    explode(exported)
    commit = exported.git("rev-parse", "corr_a^{commit}")
    name = {
        "blob": f"{commit}:Backtest/codes/t1/data.csv",
        "metadata": f"{commit}:Backtest/codes/t1/metadata.json",
        "tree": f"{commit}:Backtest/codes",
        "commit": commit,
        "tag": "refs/tags/corr_a",
    }[kind]
    oid = exported.git("rev-parse", name)
    path = loose(exported, oid)
    data = zlib.decompress(path.read_bytes())
    path.chmod(0o644)
    if how == "changed":
        path.write_bytes(zlib.compress(data[:-2] + b"#" + data[-1:]))
    elif how == "garbled":
        path.write_bytes(b"garbage")
    else:
        path.unlink()
    found = faults(exported)
    assert any(subject == oid for _, subject, _ in found), found
    named = [label for label, subject, _ in found if subject == oid]
    assert all(label.startswith(("a@", "rollback", "corr_a@")) for label in named)


def test_tag_that_was_moved_deleted_or_replaced_is_named(exported):
    commits = [exported.git("rev-parse", f"{name}^{{commit}}") for name in ("corr_a", "corr_b")]
    exported.git("update-ref", "refs/tags/corr_a", commits[0])
    exported.git("update-ref", "refs/tags/corr_b", exported.refs()["refs/tags/corr_c"])
    exported.git("update-ref", "-d", "refs/tags/corr_c")
    exported.git("update-ref", "-d", "refs/tags/prompt_p")
    assert {subject for _, subject, _ in faults(exported)} == {
        f"refs/tags/{name}" for name in ("corr_a", "corr_b", "corr_c", "prompt_p")
    }


@pytest.mark.parametrize("how", ["back", "gone", "elsewhere", "foreign", "other branch"])
def test_branch_that_was_moved_is_named(exported, how):
    target = {
        "back": exported.git("rev-parse", f"{BRANCH}~1"),
        "elsewhere": exported.git("commit-tree", exported.git("mktree"), stdin="x"),
        "foreign": exported.git("commit-tree", exported.git("mktree"), "-p", f"{BRANCH}~1", stdin="x"),
        "other branch": exported.refs()["refs/heads/ai/generated/wf/t2"],
    }.get(how)
    exported.git("update-ref", *([BRANCH, target] if target else ["-d", BRANCH]))
    assert {subject for _, subject, _ in faults(exported)} == {BRANCH}


def test_branch_that_went_on_holds_what_was_exported(exported):
    exported.git(
        "update-ref", BRANCH, exported.git("commit-tree", exported.git("mktree"), "-p", BRANCH, stdin="x")
    )
    assert faults(exported) == []


def test_remote_that_was_tampered_with_is_named(place, remote):
    for name in ("a", "b", "c"):
        place.commit("t1" if name != "c" else "t2", name)
    place.export(push=True)
    assert verify_export(place.store, remote="origin").ok
    run_git(remote, "update-ref", BRANCH, run_git(remote, "rev-parse", f"{BRANCH}~1"))
    run_git(remote, "update-ref", "refs/tags/corr_b", refs_of(remote)["refs/tags/corr_a"])
    run_git(remote, "update-ref", "-d", "refs/heads/ai/generated/wf/t2")
    run_git(remote, "update-ref", "-d", "refs/tags/corr_c")
    found = {subject for _, subject, _ in faults(place, remote="origin")}
    assert found == {BRANCH, "refs/heads/ai/generated/wf/t2", "refs/tags/corr_b", "refs/tags/corr_c"}
    assert faults(place) == []


def test_damaged_pack_is_written_again_once_it_was_moved_away(exported, tmp_path):
    (pack,) = (exported.path / "objects" / "pack").glob("*.pack")
    damaged = bytearray(pack.read_bytes())
    damaged[60:64] = b"\xff" * 4
    pack.chmod(0o600)
    pack.write_bytes(damaged)
    found = faults(exported)
    assert any(str(pack) in detail for _, _, detail in found)
    exported.export(rebuild=True)
    assert faults(exported) == found  # git shows the object, so that nothing seems to be missing
    for path in (pack, pack.with_suffix(".idx")):
        path.rename(tmp_path / path.name)
    assert exported.export(rebuild=True).state == "done"
    assert faults(exported) == []


def test_sample_and_time_box_say_that_the_report_is_not_complete(exported, monkeypatch):
    report = verify_export(exported.store, sample=0.5, seed=3)
    assert not report.complete
    assert report.run_count < 4
    assert verify_export(exported.store, max_duration_s=0).complete  # nothing is left once it is late
    monkeypatch.setattr(verify, "_BATCH_RUNS", 1)
    report = verify_export(exported.store, max_duration_s=0)
    assert (report.complete, report.run_count) == (False, 1)


def test_receipt_that_the_store_has_damaged_is_named_and_the_rest_compared(exported):
    with exported.store.environment.write() as transaction:
        transaction.put(Table.RECEIPTS, sequence_key(2), b"garbage")
    report = verify_export(exported.store)
    assert [(fault.label, fault.subject) for fault in report.faults] == [("manifest 2", "store")]
    assert "receipt" in report.faults[0].detail
    assert (report.run_count, report.not_exported) == (3, 0)


def test_manifest_that_the_store_has_damaged_is_named(exported):
    with exported.store.environment.write() as transaction:
        key, value = next(iter(transaction.scan(Table.MANIFESTS)))
        transaction.put(Table.MANIFESTS, key, value[:-3] + b"xyz")
    assert next(label for label, _, _ in faults(exported)) == "manifest 1"
