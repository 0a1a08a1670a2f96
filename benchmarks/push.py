"""How long does the push of 1,000 exported runs take over a file path, git daemon and http, by this exporter and git?

Each push starts from the same exported repository and goes to an empty one on this disk. Over http git compares every
ref pushed with every ref there is, so this exporter cuts its pushes smaller; git alone gets one push with wildcards.
This exporter's time holds reading the outbox, all pushes, and the receipts of what the remote shows.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.engines_git import create_repository, git, require_git
from benchmarks.filling import copy_store, filled_store
from benchmarks.runs import real_runs
from benchmarks.servers import git_daemon, http_server
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from gitexport import Exporter

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from benchmarks.plan import Plan

# runs, rounds
_EXTENT: Final = {"tiny": (3, 1), "quick": (100, 1), "full": (1000, 3)}
_TRANSPORTS: Final = ("file", "git daemon", "http")
_WILDCARDS: Final = ("refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
_TIMEOUT_S: Final = 600


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    require_git()
    runs_count, rounds_count = _EXTENT[plan.size]
    store_dir, _ = filled_store(plan.fresh("store"), real_runs(runs_count, plan.data))
    exported = plan.fresh("exported")
    create_repository(exported / "repository.git", bare=True)
    with _opened(exported / "repository.git", store_dir) as store:
        Exporter(store).run(push=False)
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds_count):
        for transport in _TRANSPORTS:
            for by, push in (("this exporter", _push_by_exporter), ("git push, one", _push_by_git)):
                took_s = _one(plan, transport, exported / "repository.git", store_dir, push)
                samples.setdefault((transport, by), []).append(took_s)
    packs = list((exported / "repository.git" / "objects" / "pack").glob("*.pack"))
    return {
        "parameters": {
            "runs_count": runs_count,
            "refs_count": 3 * runs_count,
            "rounds_count": rounds_count,
            "pack_bytes": sum(path.stat().st_size for path in packs),
            "input": "exported repository in the page cache, remote empty",
            "sync_mode": "git's default at the remote",
        },
        "pushes": [
            {
                "transport": transport,
                "by": by,
                "p50_s": round(statistics.median(values), 4),
                "runs_per_s": round(runs_count / statistics.median(values), 1),
                "samples_s": [round(value, 4) for value in values],
            }
            for (transport, by), values in samples.items()
        ],
        "skipped": [],
    }


def _opened(repository: Path, store_dir: Path) -> ArtifactStore:
    config = ArtifactStoreConfig(repo_path=repository, store_path=store_dir, push_timeout=_TIMEOUT_S)
    return ArtifactStore(config, create=False)


@contextlib.contextmanager
def _served(transport: str, folder: Path) -> Generator[str, None, None]:
    """Yield the URL of the repository ``remote.git`` in a folder."""
    if transport == "file":
        yield str(folder / "remote.git")
    elif transport == "http":
        with http_server(folder) as server:
            yield server.url("remote.git")
    else:
        with git_daemon(folder) as url:
            yield f"{url}/remote.git"


def _one(plan: Plan, transport: str, exported: Path, store_dir: Path, push: Any) -> float:
    folder = plan.fresh("push")
    create_repository(folder / "remote.git", bare=True)
    git(folder / "remote.git", "config", "http.receivepack", "true")
    copy_store(store_dir, folder / "store")
    shutil.copytree(exported, folder / "repository.git")
    with _served(transport, folder) as url:
        git(folder / "repository.git", "remote", "add", "origin", url)
        took_s: float = push(folder / "repository.git", folder / "store")
    shown = git(folder / "remote.git", "for-each-ref")
    if shown != git(exported, "for-each-ref"):
        raise AssertionError(f"the push over {transport} did not bring every ref")
    return took_s


def _push_by_exporter(repository: Path, store_dir: Path) -> float:
    with _opened(repository, store_dir) as store:
        started_s = time.perf_counter()
        summary = Exporter(store).run(push=True)
        took_s = time.perf_counter() - started_s
    if summary.state != "done":
        raise RuntimeError(f"the push is {summary.state}: {summary.failures[:3]}")
    return took_s


def _push_by_git(repository: Path, _store_dir: Path) -> float:
    started_s = time.perf_counter()
    git(repository, "push", "--quiet", "origin", *_WILDCARDS)
    return time.perf_counter() - started_s


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [push["transport"], push["by"], figure(push["p50_s"]), figure(push["runs_per_s"])]
        for push in result["pushes"]
    ]
    title = f"Push of {result['parameters']['runs_count']:,} runs to an empty repository on the same disk"
    return [Table(title, ["over", "by", "s", "runs/s"], rows)]
