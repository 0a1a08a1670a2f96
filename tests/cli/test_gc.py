"""`cas gc`."""

from tests.cli.kept import export


def fill(commit, count=3):
    for number in range(count):
        commit(f"r{number}", content=f"{number}\n" * 50)


def test_gc_with_nothing_forgotten_removes_nothing(store, commit):
    fill(commit)
    assert "removed 0 stored files of 0 forgotten runs, freed 0 B" in store.ok("gc").out


def test_gc_removes_the_files_of_forgotten_runs(store, commit, git):
    fill(commit)
    export(store, git)
    store.ok("forget", "r0", "r1")
    assert "would remove 2 stored files of 2 forgotten runs" in store.ok("gc", "--dry-run").out
    assert "removed 2 stored files of 2 forgotten runs" in store.ok("gc").out
    store.ok("verify")


def test_gc_with_a_policy_shows_a_reason_for_each_run(store, commit, git):
    fill(commit)
    export(store, git)
    ended = store.ok("gc", "--keep-last", "1", "--dry-run")
    assert "no rule keeps it" in ended.out
    assert "would forget 2 runs, keep 1" in ended.out
    found = store.ok("gc", "--keep-last", "1", "--json").json
    assert (found["collected_runs"], found["blobs"], len(found["runs"])) == (2, 2, 3)


def test_gc_compact_tells_the_sizes(store, commit, git):
    fill(commit)
    ended = store.ok("gc", "--compact")
    assert "the store file went from " in ended.out
    store.ok("verify")
    assert "compaction" in store.ok("gc", "--compact", "--json").json


def test_gc_compact_while_somebody_has_the_store_open_is_refused(store, commit, place):
    from tests.store.stores import open_store

    fill(commit, 1)
    with open_store(place, read_only=True):
        pass
    with open_store(place):
        assert store("gc", "--compact").code == 10
