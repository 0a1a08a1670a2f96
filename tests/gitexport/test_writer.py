"""One batch into a repository: what is collected and asked for, what is written once more, what is proved."""

from __future__ import annotations

import os
import random
import socket
import zlib

import msgspec
import pytest
from msgspec.structs import replace

from cas import blobs, catalog
from cas.errors import ConflictError, IntegrityError
from cas.lmdbenv import Table
from cas.objects import GitObject, object_id
from gitexport import writer
from gitexport.entries import load_entry
from gitexport.plan import Plan
from gitexport.refvalues import RefChange
from gitexport.writer import Objects, Written, collect, gc_is_running, write_batch, write_made, write_missing
from tests.gitexport.refplaces import commit as git_commit
from tests.gitexport.refplaces import git, leftovers, values
from tests.store.stores import FILES, commit, open_store


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "s") as opened:
        commit(opened, "a", task_id="t1")
        commit(opened, "b", task_id="t2", files={"strategy.py": FILES["strategy.py"], "own.csv": b"own\n"})
        yield opened


def entries(store, *sequences):
    with store.environment.read() as transaction:
        return [load_entry(transaction, sequence) for sequence in sequences]


def plan_of(*some):
    return Plan(
        write=list(some),
        branch_moves={entry.branch: (None, entry.commit) for entry in some},
        new_tags={name: oid for entry in some for name, oid in entry.tags},
    )


def test_objects_of_entries_are_collected_once_each(store):
    first, second = entries(store, 1, 2)
    wanted = collect(store.environment, [first, second])
    assert set(wanted.made) == {item.oid.hex() for entry in (first, second) for item in entry.objects}
    assert set(wanted.blobs) == {file.oid.hex() for entry in (first, second) for file in entry.files}
    assert wanted.collected == {}
    assert wanted.count == len(wanted.oids) == len(set(wanted.oids)) == len(wanted.made) + len(wanted.blobs)
    assert wanted.newest_segment == max(blob.segment for blob in wanted.blobs.values()) > 0
    assert Objects().newest_segment == 0
    some = {first.commit, first.files[0].oid.hex()}
    only = wanted.only(some)
    assert set(only.oids) == some
    assert (list(only.made), list(only.blobs)) == ([first.commit], [first.files[0].oid.hex()])


def test_file_that_equals_a_made_object_is_taken_in_one_form(store):
    commit(store, "c", task_id="t3", files={"x": b"pnl\n"})
    (entry,) = entries(store, 3)
    file = entry.files[0]
    made = GitObject("blob", file.oid, b"pnl\n")
    wanted = collect(store.environment, [replace(entry, objects=(*entry.objects, made))])
    assert file.oid.hex() in wanted.made
    assert file.oid.hex() not in wanted.blobs


def test_blob_that_is_not_the_one_its_manifest_names_is_damage(store):
    (entry,) = entries(store, 1)
    for changes in ({"oid": b"\x01" * 20}, {"size_bytes": 99}):
        file = msgspec.structs.replace(entry.files[0], **changes)
        with pytest.raises(IntegrityError):
            collect(store.environment, [replace(entry, files=(file,))])


def test_blob_that_the_store_has_no_more_must_be_in_git(store, repo):
    (entry,) = entries(store, 1)
    in_git = git(repo.path, "hash-object", "-w", "--stdin", stdin="in git")
    there = msgspec.structs.replace(entry.files[0], digest=b"\x07" * 32, oid=bytes.fromhex(in_git))
    lost = msgspec.structs.replace(entry.files[0], digest=b"\x08" * 32, oid=b"\x08" * 20)
    wanted = collect(store.environment, [replace(entry, files=(there, lost))])
    assert wanted.collected == {in_git: b"\x07" * 32, "08" * 20: b"\x08" * 32}
    for call in (
        lambda: write_batch(store.environment, repo, plan_of(replace(entry, files=(there, lost)))),
        lambda: write_missing(store.environment, repo, [replace(entry, files=(there, lost))], check="full"),
    ):
        with pytest.raises(IntegrityError) as caught:
            call()
        assert caught.value.subject == "08" * 32
        assert caught.value.message == f"blob {'08' * 6} is in neither the store nor git"
        assert caught.value.hint
    written = write_batch(store.environment, repo, plan_of(replace(entry, files=(there,))))
    assert written.object_count == len(entry.objects)


@pytest.mark.parametrize("check", ["full", "crc"])
def test_batch_is_in_git_when_it_is_written_and_written_again_is_nothing(store, repo, check):
    some = entries(store, 1, 2)
    wanted = collect(store.environment, some)
    written = write_batch(store.environment, repo, plan_of(*some), check=check)
    assert (written.object_count, written.ref_count) == (wanted.count, 4)
    assert written.newest_segment == wanted.newest_segment
    (pack,) = (repo.common_dir / "objects" / "pack").glob("*.pack")
    assert written.pack_bytes == pack.stat().st_size
    assert values(repo) == {name: oid for e in some for name, oid in (*e.tags, (e.branch, e.commit))}
    assert repo.fsck_strict() == ()
    assert leftovers(repo) == []
    assert list(repo.common_dir.rglob("*.keep")) == []
    for known_segment in (None, 0, wanted.newest_segment):
        again = write_batch(store.environment, repo, plan_of(*some), known_segment=known_segment)
        assert (again.object_count, again.pack_bytes, again.ref_count) == (0, 0, 4)
    assert write_batch(store.environment, repo, Plan()) == Written()


def test_lost_objects_are_written_without_a_move_of_refs(store, repo):
    some = entries(store, 1, 2)
    written = write_missing(store.environment, repo, some, check="full")
    assert written.object_count == collect(store.environment, some).count
    assert written.pack_bytes > 0
    assert (written.ref_count, values(repo)) == (0, {})
    assert write_missing(store.environment, repo, some, check="full") == Written()
    assert list(repo.common_dir.rglob("*.keep")) == []


def missing(store, repo, some, known_segment):
    wanted = collect(store.environment, some)
    asked = []
    ask = repo.missing_objects
    repo.missing_objects = lambda oids: asked.append(set(oids)) or ask(oids)
    found = writer._find_missing(repo, wanted, some, known_segment)
    del repo.missing_objects
    return found, asked, wanted


def test_git_is_asked_about_what_it_may_have_and_nothing_else(store, repo):
    some = entries(store, 1, 2)
    found, asked, wanted = missing(store, repo, some, None)
    assert (found, asked) == (set(wanted.oids), [set(wanted.oids)])
    commits = {entry.commit for entry in some}
    found, asked, _ = missing(store, repo, some, 0)
    assert (found, asked) == (set(wanted.oids), [commits])
    found, asked, _ = missing(store, repo, some, wanted.newest_segment)
    assert (found, asked) == (set(wanted.oids), [commits | set(wanted.blobs)])
    oldest = min(blob.segment for blob in wanted.blobs.values())
    older = {oid for oid, blob in wanted.blobs.items() if blob.segment <= oldest}
    assert older != set(wanted.blobs)
    assert missing(store, repo, some, oldest)[1] == [commits | older]


def test_batch_that_was_begun_is_asked_about_whole(store, repo):
    some = entries(store, 1, 2)
    write_missing(store.environment, repo, some[1:], check="full")
    found, asked, wanted = missing(store, repo, some, 0)
    assert asked[1:] == [set(wanted.oids)]
    assert found == set(wanted.oids) - set(collect(store.environment, some[1:]).oids)


def test_blob_that_git_has_is_not_written_again(store, repo):
    some = entries(store, 1)
    one = git(repo.path, "hash-object", "-w", "--stdin", stdin=FILES["trades.csv"].decode())
    found, _, wanted = missing(store, repo, some, 99)
    assert one in wanted.blobs
    assert found == set(wanted.oids) - {one}


def test_rollback_is_asked_about_with_all_it_brings(store, repo):
    store.revert_to_tag("corr_a", "main")
    (entry,) = entries(store, 3)
    _, asked, wanted = missing(store, repo, [entry], 0)
    assert asked == [set(wanted.oids)]


def test_only_the_first_commits_are_probed(store, repo, monkeypatch):
    monkeypatch.setattr(writer, "_PROBE_COUNT", 1)
    some = entries(store, 1, 2)
    assert missing(store, repo, some, 0)[1] == [{some[0].commit}]


def test_what_git_seemed_to_have_is_written_while_a_gc_runs(store, repo):
    some = entries(store, 1)
    wanted = collect(store.environment, some)
    assert writer._secure(store.environment, repo, Objects(), "full") == []
    write_missing(store.environment, repo, some, check="full")
    assert writer._secure(store.environment, repo, wanted, "full") == []
    (repo.common_dir / "gc.pid").write_text(f"{os.getpid()} {socket.gethostname()}")
    (receipt,) = writer._secure(store.environment, repo, wanted, "full")
    receipt.release_keep()
    assert receipt.object_count == wanted.count


def test_gc_is_believed_to_run_while_its_note_may_be_true(repo):
    note = repo.common_dir / "gc.pid"
    assert not gc_is_running(repo)
    here = socket.gethostname()
    for text, running in (
        (f"{os.getpid()} {here}\n", True), (f"{2**22 + 1} {here}", False), (f"1 {here}", True), ("", True),
        (f"x {here}", True), (f"{2**22 + 1} elsewhere", True), ("caf\xe9", True),
    ):  # fmt: skip
        note.write_bytes(text.encode("latin-1"))
        assert gc_is_running(repo) is running, text
    note.write_text("1 elsewhere")
    now_s = note.stat().st_mtime
    for age_s, running in ((11.9 * 3600, True), (12.1 * 3600, False)):
        os.utime(note, (now_s - age_s, now_s - age_s))
        assert gc_is_running(repo) is running


def entry_of(item):
    """Return the pack entry of an object, whose CRC-32 is the one told."""
    oid, crc, header, stream = writer._entry_of(item)
    assert (oid, crc) == (item.oid, zlib.crc32(header + stream))
    return header + stream


def test_made_objects_are_packed_in_the_form_that_suits_them(repo):
    text = b"a text that compresses " * 100
    noise = random.Random(1).randbytes(100)
    objects = [
        GitObject(kind, object_id(kind, data), data) for kind, data in (("blob", text), ("blob", noise))
    ]
    receipt = write_made(repo, objects)
    assert (receipt.object_count, receipt.existed) == (2, False)
    assert receipt.keep_path.exists()
    receipt.release_keep()
    assert [repo.read_object(item.oid.hex()) for item in objects] == [("blob", text), ("blob", noise)]
    tree = GitObject("tree", b"", b"x" * 1000)
    assert zlib.decompress(entry_of(tree)[2:]) == tree.data
    assert len(entry_of(tree)) > 1000
    assert len(entry_of(GitObject("commit", b"", b"x" * 1000))) < 100
    assert len(entry_of(GitObject("tree", b"", b"x" * 100_000))) < 1000


def test_refs_may_name_commits_and_tags_with_what_is_behind_them(store):
    (entry,) = entries(store, 1)
    found = writer._targets(collect(store.environment, [entry]))
    assert found == {entry.commit: None, **{oid: entry.commit for _, oid in entry.tags}}


def test_ref_that_git_does_not_show_as_it_was_set_is_no_proof(repo):
    one, two = git_commit(repo.path, "1"), git_commit(repo.path, "2")
    repo.update_refs([RefChange("refs/heads/a", None, one)])
    writer._prove(repo, [RefChange("refs/heads/a", None, one), RefChange("refs/heads/b", one, None)])
    with pytest.raises(ConflictError) as caught:
        writer._prove(repo, [RefChange("refs/heads/b", one, None), RefChange("refs/heads/a", None, two)])
    assert caught.value.subject == "refs/heads/a"
    assert caught.value.message == f"refs/heads/a is {one} right after it was set to {two}"


def test_damaged_blob_stops_the_batch_and_no_ref_moves(store, repo):
    (entry,) = entries(store, 1)
    with store.environment.write() as transaction:
        blob = blobs.find(transaction, entry.files[0].digest)
        table = next(t for t in Table if transaction.has(t, blobs.segment_key(blob.segment, 0)))
        data = bytearray(transaction.get(table, blobs.segment_key(blob.segment, 0)))
        data[blob.offset + 3] ^= 255
        transaction.put(table, blobs.segment_key(blob.segment, 0), bytes(data))
    for check in ("full", "crc"):
        with pytest.raises(IntegrityError) as caught:
            write_batch(store.environment, repo, plan_of(entry), check=check)
        assert caught.value.subject in {blob.digest.hex(), blob.oid.hex()}
    assert values(repo) == {}
    assert list(repo.common_dir.rglob("*.keep")) == []


def test_blobs_are_read_in_stored_order(store):
    wanted = collect(store.environment, entries(store, 1, 2))
    ordered = sorted(wanted.blobs.values(), key=writer._place)
    assert [(blob.segment, blob.offset) for blob in ordered] == sorted(
        (blob.segment, blob.offset) for blob in wanted.blobs.values()
    )
    with store.environment.read() as transaction:
        assert catalog.next_sequence(transaction) == 3
