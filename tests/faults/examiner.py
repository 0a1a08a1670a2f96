"""Opens images after a power cut in a process of its own: a badly damaged one may take the process with it.

Run as a script, it answers each line of JSON (folder, promises) by one: how many of the last promises are gone, or what
is wrong. Invariant: an image that ends the examiner counts as broken, and the next one gets a new examiner.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cas import ArtifactStore, ArtifactStoreConfig, NotFoundError
from tests.faults.workload import CHECKOUTS, REPOSITORY, NoRepository, shrink_steps

ROOT = Path(__file__).parents[2]


def is_stored(store, promise):
    if "correlation_id" in promise:
        found = store.get_artifact_by_correlation_id(promise["correlation_id"], revision=promise["revision"])
        return found is not None and found["commit_sha"] == promise["commit_sha"]
    try:
        history = store.history(promise["branch"], limit=10_000)
    except NotFoundError:
        return False
    return promise["commit_sha"] in {step["commit_sha"] for step in history}


def count_lost(store, promises):
    """Return how many of the last promises are missing; one missing before a kept one is damage."""
    kept = [is_stored(store, promise) for promise in promises]
    lost_count = kept.count(False)
    assert all(kept[: len(kept) - lost_count]), "a run is missing that is older than one that is there"
    return lost_count


def check_folders(store, checkouts):
    """A folder of a checkout is whole as soon as it has its name."""
    for folder in checkouts.glob("*") if checkouts.is_dir() else ():
        if not folder.name.startswith("."):
            for file in store.list_files(folder.name):
                assert (folder / file["name"]).read_bytes() == store.read_file(folder.name, file["name"])


def examine(image, promises):
    """Open an image as the next start of the program would; return how many of the last promises are gone."""
    config = ArtifactStoreConfig(repo_path=image / REPOSITORY, scan_for_secrets=False)
    with ArtifactStore(config, git_reader=NoRepository()) as store:
        lost_count = count_lost(store, promises)
        # A large file's parts that came before the cut stay until a collection; they are nobody's loss.
        faults = [fault for fault in store.verify().faults if fault.check != "segments_referenced"]
        assert faults == [], [(fault.check, fault.detail) for fault in faults[:3]]
        check_folders(store, image / CHECKOUTS)
        store.commit_artifacts("wf", "after", {"f": b"after the cut"}, correlation_id="after the cut")
        assert store.read_file("latest", "f") == b"after the cut"
    return lost_count


class Examiner:
    """An examiner in another process, started again when an image ended it."""

    def __init__(self):
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def ask(self, image, promises):
        """Return (promises lost, None), or (0, what is wrong)."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        self._process.stdin.write(json.dumps([str(image), promises]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            return 0, f"the examiner ended with {self._stop()}"
        return json.loads(answer)

    def _stop(self):
        if self._process is None:
            return None
        with self._process as process:
            process.stdin.close()
            status = process.wait()
        self._process = None
        return status


def main():
    shrink_steps()
    for line in sys.stdin:
        image, promises = json.loads(line)
        try:
            answer = [examine(Path(image), promises), None]
        except Exception as error:  # noqa: BLE001  whatever it is, the image counts as broken
            answer = [0, f"{type(error).__name__}: {error}"]
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
