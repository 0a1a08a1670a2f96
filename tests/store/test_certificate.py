"""The certificate of a rollback: good only when the branch holds exactly what the tag does, all of it hashed again."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cas import (
    IntegrityError,
    NotFoundError,
    blobs,
    catalog,
    certificate,
    manifest,
    outbox,
    records,
    rollback,
)
from cas.digest import digest_bytes
from cas.lmdbenv import Table
from tests.gc.keeping import flip_byte
from tests.store.stores import FILES, commit, dump, open_store
from tests.store.test_rollback import BRANCH, Reader, artifact_root, make_tip


def spoil(store, content):
    with store.environment.read() as transaction:
        blob = blobs.require(transaction, digest_bytes(content))
    flip_byte(store, Table.SEGMENTS, blobs.segment_key(blob.segment, 0), blob.offset + blob.stored_bytes // 2)


def test_certificate_of_a_rollback_is_good_and_names_what_was_hashed(store):
    commit(store)
    commit(store, files={"f": b"other"})
    result = store.revert_to_tag("corr_1", BRANCH)
    proof = store.verify_rollback("corr_1", BRANCH)
    assert proof.ok
    assert proof.as_dict() == result["certificate"]
    assert proof.commit_oid.hex() == result["commit_sha"]
    assert proof.artifact_root == proof.held_root == artifact_root(store, 1)
    assert (proof.file_count, proof.byte_count) == (len(FILES), sum(map(len, FILES.values())))
    assert (proof.read_from, proof.kept_paths) == ("store", 0)
    json.dumps(result)


def test_certificate_reads_and_changes_nothing(store):
    commit(store)
    store.revert_to_tag("corr_1")
    before = dump(store)
    store.verify_rollback("corr_1")
    store.verify_rollback("corr_1", "nowhere")
    assert dump(store) == before


def test_certificate_of_a_branch_that_went_on_says_to_what(store):
    commit(store)
    store.revert_to_tag("corr_1")
    commit(store, "2", task_id="two", files={"f": b"2"})
    store.revert_to_tag("corr_2")
    assert store.verify_rollback("corr_1").differences == ("main was taken back to corr_2 since",)
    commit(store, "3", files={"f": b"3"})
    proof = store.verify_rollback("corr_1", BRANCH)
    assert proof.differences == (f"{BRANCH} has gone on to the run 3, revision 1",)
    assert not proof.damage
    assert store.verify_rollback("corr_1", "nowhere").differences == ("there is no branch nowhere",)


def test_certificate_hashes_the_files_again_at_every_call(store):
    commit(store)
    store.revert_to_tag("corr_1")
    spoil(store, FILES["trades.csv"])
    proof = store.verify_rollback("corr_1")
    assert not proof.ok
    assert [text.split(":")[0] for text in proof.damage] == ["trades.csv"]
    assert proof.file_count == len(FILES) - 1


def test_certificate_in_the_result_is_made_after_the_branch_moved(store, monkeypatch):
    commit(store)
    certify = certificate.certify

    def damaged_meanwhile(environment, tag, branch, base, progress):
        assert store.history("main")[0]["reverted_to"] == "corr_1", "the branch has moved"
        spoil(store, FILES["trades.csv"])
        return certify(environment, tag, branch, base, progress)

    monkeypatch.setattr(certificate, "certify", damaged_meanwhile)
    assert store.revert_to_tag("corr_1")["certificate"]["ok"] is False


def test_certificate_notices_content_that_is_gone_or_another(store):
    commit(store)
    store.revert_to_tag("corr_1")
    with store.environment.write() as transaction:
        other = blobs.require(transaction, digest_bytes(FILES["strategy.py"]))
        fields = {name: getattr(other, name) for name in type(other).__annotations__}
        wrong = blobs.Blob(**fields | {"oid": b"\1" * 20})
        transaction.put(Table.BLOBS, other.digest, blobs.encode(wrong))
        transaction.delete(Table.BLOBS, digest_bytes(FILES["trades.csv"]))
    damage = store.verify_rollback("corr_1").damage
    assert damage == (
        "strategy.py: the stored oid is not the content's",
        "trades.csv: its content is not in the store",
    )


def test_certificate_notices_a_rollback_whose_ids_do_not_fit(store):
    commit(store)
    store.revert_to_tag("corr_1")
    with store.environment.write() as transaction:
        row = catalog.get_row(transaction, 2)
        wrong = manifest.ManifestRow(row.manifest, b"\7" * 20, row.tree_oid, row.tags, row.signature)
        transaction.put(Table.MANIFESTS, catalog.sequence_key(2), manifest.encode_row(wrong))
    assert "is not what its manifest gives" in store.verify_rollback("corr_1").damage[0]


def test_certificate_notices_a_rollback_that_dropped_another_path(tmp_path, monkeypatch):
    reader = Reader({"main": make_tip()})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store, "1", task_id="one")
        commit(store, "2", task_id="two", files={"f": b"2"})
        first = store.revert_to_tag("corr_1")
        assert first["certificate"]["kept_paths"] is None, "the commit before is people's"
        stored_base = rollback.stored_base

        def without_readme(transaction, branch):
            base = stored_base(transaction, branch)
            return dataclasses.replace(base, root_entries=base.root_entries[1:])

        monkeypatch.setattr(rollback, "stored_base", without_readme)
        second = store.revert_to_tag("corr_2")
        assert second["certificate"]["ok"] is False
        monkeypatch.undo()
        proof = store.verify_rollback("corr_2")
        assert proof.differences == (
            f"paths beside the artifact root differ from those of {first['commit_sha']}",
        )


def test_certificate_of_a_branch_that_people_moved_on_is_read_from_git(tmp_path):
    reader = Reader({"main": make_tip()})
    with open_store(tmp_path, git_reader=reader) as store:
        commit(store)
        store.revert_to_tag("corr_1")
        with store.environment.write() as transaction:
            outbox.record_exported(transaction, [1, 2], 1)
        reader.tips["main"] = make_tip(9, artifact_root=artifact_root(store, 1))
        proof = store.verify_rollback("corr_1")
        assert (proof.ok, proof.read_from, proof.commit_oid) == (True, "git", b"\x09" * 20)
        reader.tips["main"] = make_tip(9, artifact_root=b"\5" * 20)
        proof = store.verify_rollback("corr_1")
        assert proof.differences == ("main was moved on in git, to another artifact root",)


def test_certificate_of_an_unknown_tag_lists_near_matches(store):
    commit(store, "abc")
    with pytest.raises(NotFoundError) as caught:
        store.verify_rollback("corr_abd")
    assert "corr_abc" in caught.value.hint


def test_certificate_of_a_damaged_manifest_is_refused(store):
    commit(store)
    store.revert_to_tag("corr_1")
    flip_byte(store, Table.MANIFESTS, catalog.sequence_key(1))
    with pytest.raises(IntegrityError):
        store.verify_rollback("corr_1")


def test_certificate_of_a_prompt_tag_and_of_an_unchanged_branch_are_good(store):
    commit(store, prompt_hash="7a8b9c0d1e2f3a4b")
    present = store.revert_to_tag("prompt_7a8b9c0d1e2f", BRANCH)
    assert (present["created"], present["certificate"]["ok"]) == (False, True)
    assert present["certificate"]["kept_paths"] is None
    with store.environment.read() as transaction:
        assert records.find_commit(transaction, bytes.fromhex(present["commit_sha"])) == 1


def test_rollback_and_its_certificate_tell_how_far_the_reading_is(store):
    commit(store)
    told = []

    def progress(phase, done, total):
        told.append((phase, done, total))

    store.revert_to_tag("corr_1", BRANCH, progress=progress)
    sizes = [len(content) for content in FILES.values()]
    steps = [(sum(sizes[: count + 1]), sum(sizes)) for count in range(len(sizes))]
    assert told == [(phase, *step) for phase in ("read", "hash again") for step in steps]
    told.clear()
    store.verify_rollback("corr_1", BRANCH, progress=progress)
    assert told == [("hash again", *step) for step in steps]


def test_certificate_notices_a_tag_whose_ids_do_not_fit(store):
    commit(store)
    store.revert_to_tag("corr_1")
    with store.environment.write() as transaction:
        row = catalog.get_row(transaction, 1)
        wrong = manifest.ManifestRow(row.manifest, row.commit_oid, b"\7" * 20, row.tags, row.signature)
        transaction.put(Table.MANIFESTS, catalog.sequence_key(1), manifest.encode_row(wrong))
    (damage,) = store.verify_rollback("corr_1").damage
    assert "is not what its manifest gives" in damage
