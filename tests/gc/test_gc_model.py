"""Random histories of commits, forgetting, bringing back and collecting, against a model of plain dictionaries."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cas import InvalidInputError, NotFoundError
from cas.digest import digest_bytes
from tests.gc.keeping import collect, commit, digests, pretend_export
from tests.store.stores import open_store

NAMES = st.sampled_from(["r0", "r1", "r2", "r3"])
# Few contents, so that runs share blobs; one that compresses badly, so that segments differ in size.
POOL = (b"one", b"two" * 400, bytes(range(256)) * 40, b"", b"three" * 9)
CONTENTS = st.integers(0, len(POOL) - 1)


class KeepingMachine(RuleBasedStateMachine):
    """The store beside a model: revision → files, and which are queued, forgotten, pinned or collected."""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(Path(self.folder.name))
        self.runs = {}  # (name, revision) → {"files", "sha", "queued", "hidden", "collected", "pinned"}

    def teardown(self):
        if hasattr(self, "store"):
            report = self.store.verify()
            assert report.ok, report.faults
            self.store.close()
            self.folder.cleanup()

    @rule(name=NAMES, files=st.dictionaries(st.sampled_from(["a", "b", "c"]), CONTENTS, min_size=1))
    def commit(self, name, files):
        files = {file: POOL[number] for file, number in files.items()}
        result = commit(self.store, name, files=files, task="shared")
        key = (name, result["revision"])
        known = next((k for k, run in self.runs.items() if k[0] == name and run["files"] == files), None)
        if known is None:
            assert key not in self.runs
            assert result["revision"] == 1 + sum(1 for other in self.runs if other[0] == name)
            self.runs[key] = {
                "files": files,
                "sha": result["commit_sha"],
                "queued": True,
                "hidden": False,
                "collected": False,
                "pinned": False,
            }
        else:
            assert key == known
            assert result["commit_sha"] == self.runs[key]["sha"]
            self.runs[key].update(hidden=False, collected=False)

    @rule()
    def export(self):
        pretend_export(self.store)
        for run in self.runs.values():
            run["queued"] = False

    def pick(self, data, **state):
        keys = [
            key
            for key, run in self.runs.items()
            if all(run[name] == wanted for name, wanted in state.items())
        ]
        return data.draw(st.sampled_from(sorted(keys))) if keys else None

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def forget(self, data):
        key = self.pick(data, hidden=False)
        if key is None:
            return
        run = self.runs[key]
        decision = self.store.forget([tag(key)])[0]
        may_go = not run["queued"] and not run["pinned"]
        assert decision["action"] == ("forget" if may_go else "keep")
        run["hidden"] = may_go

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def undelete(self, data):
        key = self.pick(data, hidden=True)
        if key is None:
            return
        run = self.runs[key]
        held = self.held()
        can = not run["collected"] or all(digest_bytes(c) in self.stored(held) for c in run["files"].values())
        try:
            self.store.undelete(tag(key))
        except NotFoundError:
            assert not can
        else:
            run.update(hidden=False, collected=False)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data, pinned):
        key = self.pick(data, hidden=False)
        if key is None:
            return
        if pinned:
            self.store.pin(tag(key))
        else:
            assert self.store.unpin(tag(key)) == self.runs[key]["pinned"]
        self.runs[key]["pinned"] = pinned

    @rule()
    def collect(self):
        done = collect(self.store)
        for run in self.runs.values():
            run["collected"] = run["collected"] or (run["hidden"] and not run["queued"])
        assert digests(self.store) == self.held()
        assert done.waiting_runs == 0
        again = collect(self.store, dry_run=True)
        assert (again.blobs, again.segments, again.joined_segments) == (0, 0, 0)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = open_store(Path(self.folder.name))

    def held(self):
        return {
            digest_bytes(content)
            for run in self.runs.values()
            if not run["collected"]
            for content in run["files"].values()
        }

    def stored(self, held):
        return digests(self.store) | held

    @invariant()
    def readers_see_the_model(self):
        if not hasattr(self, "store"):
            return
        shown = {key for key, run in self.runs.items() if not run["hidden"]}
        listed = {(run["correlation_id"], run["revision"]) for run in self.store.list_artifacts()}
        assert listed == shown
        listed = {(run["correlation_id"], run["revision"]) for run in self.store.list_artifacts("wf")}
        assert listed == shown
        assert self.held() <= digests(self.store)
        for key in shown:
            for name, content in self.runs[key]["files"].items():
                assert self.store.read_file(tag(key), name) == content
            assert self.store.show(tag(key))["commit_sha"] == self.runs[key]["sha"]
        for key in self.runs.keys() - shown:
            try:
                self.store.show(tag(key))
            except (NotFoundError, InvalidInputError):
                continue
            raise AssertionError(f"{key} is forgotten and shown")


def tag(key):
    name, revision = key
    return f"corr_{name}" if revision == 1 else f"corr_{name}@{revision}"


TestKeeping = KeepingMachine.TestCase
TestKeeping.settings = settings(max_examples=25, stateful_step_count=25)
