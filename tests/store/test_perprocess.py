"""Objects that a process has once for each open store."""

import gc
import multiprocessing
import weakref

from cas import ArtifactStore, ArtifactStoreConfig
from cas.perprocess import PerProcess

made = PerProcess()


def test_object_is_made_once_for_each_environment(tmp_path):
    with (
        ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path / "a")) as one,
        ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path / "a")) as same,
        ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path / "b")) as other,
    ):
        first = made.get(one.environment, object)
        assert made.get(same.environment, object) is first
        assert made.get(other.environment, object) is not first


def test_object_goes_with_its_environment(tmp_path):
    class Made:
        """Weakly referable."""

    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        gone = weakref.ref(made.get(store.environment, Made))
        assert gone() is not None
    del store
    gc.collect()
    assert gone() is None


def _report(environment, first, answer):
    answer.put(made.get(environment, object) is first)


def test_forked_child_makes_its_own_even_when_the_lock_was_held(tmp_path):
    fork = multiprocessing.get_context("fork")
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        first = made.get(store.environment, object)
        answer = fork.SimpleQueue()
        with made._lock:  # as a thread of the parent that is just making one
            child = fork.Process(target=_report, args=(store.environment, first, answer), daemon=True)
            child.start()
        child.join(60)
        assert child.exitcode == 0
        assert answer.get() is False
