"""Garbage collection beside writers that reuse what it is about to remove: nothing acknowledged is lost."""

import multiprocessing
import threading

import pytest

from cas import blobs, catalog, gc, manifest, marks
from tests.gc.keeping import collect, commit, digests, pretend_export
from tests.store.stores import make_clock, open_store

CONTENTS = [f"content {number}\n".encode() * 200 for number in range(6)]


def held_digests(store):
    """Return the digests that manifests hold which have not given up their files."""
    with store.environment.read() as transaction:
        rows = [
            row
            for number, row in catalog.iter_rows(transaction)
            if not marks.is_collected(transaction, number)
        ]
    return {entry.digest for row in rows for entry in manifest.decode(row.manifest).files}


def check_all_readable(store, acknowledged):
    report = store.verify()
    assert report.ok, report.faults
    for correlation_id, files in acknowledged.items():
        for name, content in files.items():
            assert store.read_file(correlation_id, name) == content


def test_commit_whose_known_blob_is_collected_meanwhile_stores_it_again(store, monkeypatch):
    commit(store, "old", files={"a": CONTENTS[0]})
    pretend_export(store)
    store.forget(["old"])
    prepare = type(store)._prepare
    runs = []

    def prepare_then_collect(self, *arguments):
        prepared = prepare(self, *arguments)
        if not runs:
            runs.append(collect(store))
        return prepared

    monkeypatch.setattr(type(store), "_prepare", prepare_then_collect)
    commit(store, "new", files={"a": CONTENTS[0]})
    assert runs[0].blobs == 1
    check_all_readable(store, {"new": {"a": CONTENTS[0]}})


def test_commit_between_mark_and_sweep_keeps_its_old_blob(store, monkeypatch):
    commit(store, "old", files={"a": CONTENTS[0]})
    pretend_export(store)
    store.forget(["old"])
    remove = gc._Collector._remove_blobs

    def commit_then_remove(self, marker, batch):
        commit(store, "new", files={"a": CONTENTS[0]})
        remove(self, marker, batch)

    monkeypatch.setattr(gc._Collector, "_remove_blobs", commit_then_remove)
    done = collect(store)
    assert done.blobs == 0
    check_all_readable(store, {"new": {"a": CONTENTS[0]}})


def test_collected_run_shown_again_between_mark_and_sweep_keeps_its_blobs(store, monkeypatch):
    commit(store, "old", files={"a": CONTENTS[0]})
    pretend_export(store)
    store.forget(["old"])
    remove = gc._Collector._remove_blobs

    def undelete_then_remove(self, marker, batch):
        store.undelete("old")
        remove(self, marker, batch)

    monkeypatch.setattr(gc._Collector, "_remove_blobs", undelete_then_remove)
    done = collect(store)
    assert (done.collected_runs, done.blobs) == (1, 0)
    check_all_readable(store, {"old": {"a": CONTENTS[0]}})


def test_reader_of_a_stream_that_moves_meanwhile_reads_it(store, monkeypatch):
    import random

    noise = random.Random(1).randbytes(9000)
    commit(store, "gone", files={"noise": noise, "small": b"small"})
    commit(store, "kept", files={"small": b"small"})
    pretend_export(store)
    store.forget(["gone"])
    run = store._run("kept")
    blob = store._file_blob(run, "small")
    assert collect(store).joined_segments == 1
    assert b"".join(blobs.iter_content(store.environment, blob)) == b"small"


@pytest.mark.parametrize("writer_count", [4])
def test_gc_beside_threads_that_reuse_dying_blobs_loses_nothing(store, writer_count):
    acknowledged = {}
    failures = []

    def write(writer):
        try:
            for number in range(25):
                name = f"w{writer}n{number}"
                files = {"a": CONTENTS[number % len(CONTENTS)], "b": f"{writer} {number // 5}".encode()}
                commit(store, name, files=files)
                if number % 3:
                    pretend_export(store)
                    if "kept" not in store.forget([name])[0]["reason"]:
                        continue
                acknowledged[name] = files
        except Exception as error:  # noqa: BLE001  told by the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writer_count)]
    for thread in threads:
        thread.start()
    collections = 0
    while any(thread.is_alive() for thread in threads):
        collect(store)
        collections += 1
    for thread in threads:
        thread.join()
    assert not failures
    assert collections > 1
    check_all_readable(store, acknowledged)
    collect(store)
    assert digests(store) == held_digests(store)


def _write_in_a_process(directory, writer, count, pipe):
    with open_store(directory, clock=make_clock(1_762_525_800 + 1000 * writer)) as store:
        for number in range(count):
            name = f"p{writer}n{number}"
            files = {"a": CONTENTS[number % len(CONTENTS)], "b": f"{writer} {number}".encode() * 50}
            commit(store, name, files=files)
            if number % 2:
                pretend_export(store)
                store.forget([name])
            else:
                pipe.send((name, files))
        pipe.send(None)


def test_gc_beside_processes_that_reuse_dying_blobs_loses_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    acknowledged = {}
    with open_store(tmp_path) as store:
        ends = []
        for writer in range(2):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(
                target=_write_in_a_process, args=(tmp_path, writer, 30, sending), daemon=True
            )
            process.start()
            sending.close()  # or nobody would hear that the process has ended
            ends.append((process, receiving))
        going_on = [receiving for _, receiving in ends]
        while going_on:
            collect(store)
            for receiving in list(going_on):
                while receiving.poll():
                    told = receiving.recv()
                    if told is None:
                        going_on.remove(receiving)
                        break
                    acknowledged[told[0]] = told[1]
        for process, _ in ends:
            process.join()
            assert process.exitcode == 0
        collect(store)
        assert len(acknowledged) == 30
        check_all_readable(store, acknowledged)


@pytest.mark.parametrize("transactions", range(1, 8))
def test_gc_cut_short_after_any_transaction_is_finished_by_the_next(tmp_path, transactions, monkeypatch):
    import random

    noise = random.Random(2)
    with open_store(tmp_path) as store:
        for number in range(4):
            commit(store, f"gone{number}", files={"big": noise.randbytes(8000), "s": b"%d" % number})
            commit(store, f"kept{number}", files={"s": b"%d" % number})
        pretend_export(store)
        store.forget([f"gone{number}" for number in range(4)])
        monkeypatch.setattr(gc, "_ROWS_PER_TRANSACTION", 2)
        left = transactions

        def stop_at(_):
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            collect(store, pause=stop_at)
        assert store.verify().ok or {fault.check for fault in store.verify().faults} == {
            "segments_referenced"
        }
        collect(store)
        assert store.verify().ok
        assert len(digests(store)) == 4
        for number in range(4):
            assert store.read_file(f"kept{number}", "s") == b"%d" % number
