"""The main job, start to end, on real input: a parameter sweep whose every run is stored, exported and proved.

Worker processes run backtests on real prices, write each run's five files to disk as a strategy agent would, and
commit them. Then the runs go to a git repository and on to a bare remote, ``main`` is rolled back to an earlier run,
and store, repository and remote are compared byte for byte.

    python examples/backtest_sweep.py --runs 200 --dir build/demo
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

if __name__ == "__main__":  # run as a script: make the sibling module importable, in the workers as well
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cas import ArtifactStore, ArtifactStoreConfig
from examples.backtest_runs import RunSpec, make_run, write_run
from gitexport import Exporter, verify_export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gitexport import ExportSummary

_MEGABYTE: Final = 1_000_000
_store: ArtifactStore | None = None
_RUNS_PER_TASK: Final = 4  # small enough that both workers end at about the same time


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """What a worker tells of one committed run: its tag, its raw bytes, and how long the commit took."""

    tag: str
    raw_bytes: int
    commit_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Folders of a demonstration; all below one that is made anew each time."""

    root: Path

    @property
    def runs(self) -> Path:
        """Where workers leave the files of their runs."""
        return self.root / "runs"

    @property
    def repository(self) -> Path:
        """The git repository that exports go to; the store lies in its ``.cas``."""
        return self.root / "repository"

    @property
    def remote(self) -> Path:
        """The bare repository that is pushed to."""
        return self.root / "remote.git"

    def config(self) -> ArtifactStoreConfig:
        """Return the store's settings."""
        return ArtifactStoreConfig(repo_path=self.repository)


def prepare(places: Places) -> None:
    """Make the folders, a repository with one commit on ``main``, and its remote."""
    shutil.rmtree(places.root, ignore_errors=True)
    places.runs.mkdir(parents=True)
    places.repository.mkdir()
    git(places, "init", "--quiet", "--bare", "--initial-branch=main", str(places.remote))
    git(places, "init", "--quiet", "--initial-branch=main", ".")
    git(places, "remote", "add", "origin", str(places.remote))
    (places.repository / "README.md").write_text("Strategies live below Backtest/codes.\n")
    git(places, "add", "README.md")
    person = ["-c", "user.name=A Person", "-c", "user.email=person@example.com"]
    git(places, *person, "commit", "--quiet", "--message=Begin")
    git(places, "push", "--quiet", "origin", "main")
    # The demonstration moves main by export; a person who looks around is better off on another branch.
    git(places, "switch", "--quiet", "--create", "looking-around")


def git(places: Places, *arguments: str) -> str:
    """Run git in the repository and return what it printed."""
    command = ["git", "-C", str(places.repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def open_store(places: Places) -> None:
    """Open the store a worker process keeps for its life; the other processes' end does not touch it."""
    global _store  # noqa: PLW0603  one per process, set by the pool's initializer
    _store = ArtifactStore(places.config())
    _store.warm_up()


def commit_runs(places: Places, specs: Sequence[RunSpec]) -> list[Committed]:
    """Run backtests, leave their files on disk and commit them; the work of a worker process."""
    committed: list[Committed] = []
    if _store is None:
        raise SystemExit("a worker has no store; the pool starts it with open_store")
    for spec in specs:
        run = make_run(spec)
        raw_bytes = write_run(run, places.runs)
        folder = places.runs / run.workflow_id / run.task_id
        started_s = time.perf_counter()
        result = _store.commit_artifacts(
            workflow_id=run.workflow_id,
            task_id=run.task_id,
            files=[folder / name for name in run.files],
            metadata=dict(run.metadata),
            correlation_id=run.correlation_id,
            prompt_hash=run.prompt_hash,
        )
        elapsed_s = time.perf_counter() - started_s
        committed.append(Committed(str(result["tags"][0]), raw_bytes, elapsed_s))  # type: ignore[index]
    return committed


def sweep(places: Places, count: int, workers: int, seed: int) -> Iterator[list[Committed]]:
    """Run the sweep in worker processes and yield what each task committed."""
    specs = [RunSpec(index, seed) for index in range(count)]
    tasks = [specs[start : start + _RUNS_PER_TASK] for start in range(0, count, _RUNS_PER_TASK)]
    with ProcessPoolExecutor(workers, get_context("spawn"), open_store, (places,)) as pool:
        for future in [pool.submit(commit_runs, places, task) for task in tasks]:
            yield future.result()


def report(
    console: Console,
    places: Places,
    committed: Sequence[Committed],
    figures: dict[str, object],
    export: ExportSummary,
) -> None:
    """Print what happened, and where to look."""
    raw_bytes = sum(run.raw_bytes for run in committed)
    stored_bytes = int(str(figures["stored_bytes"]))
    times_ms = sorted(run.commit_s * 1000 for run in committed)
    table = Table(title="Backtest sweep", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("runs", f"{len(committed)}")
    table.add_row("raw", f"{raw_bytes / _MEGABYTE:.1f} MB")
    table.add_row("stored", f"{stored_bytes / _MEGABYTE:.1f} MB (1 : {raw_bytes / max(stored_bytes, 1):.2f})")
    table.add_row("commit p50", f"{statistics.median(times_ms):.2f} ms")
    table.add_row("commit p99", f"{times_ms[int(len(times_ms) * 0.99)]:.2f} ms")
    table.add_row("export and push", f"{export.duration_s:.2f} s")
    table.add_row("refs", f"{export.refs}")
    table.add_row("verified", "store, repository and remote agree")
    console.print(table)
    console.print("Look around:")
    cas = Path(sys.executable).parent / "cas"
    here = f"--repo {places.repository}"
    branch = git(places, "for-each-ref", "--count=1", "--format=%(refname:short)", "refs/heads/ai/").strip()
    for command in (
        f"{cas} {here} list --limit 5",
        f"{cas} {here} show {committed[0].tag}",
        f"git -C {places.repository} log --oneline --graph main {branch}",
    ):
        console.print(f"  {command}", soft_wrap=True, highlight=False)


def demonstrate(console: Console, places: Places, count: int, workers: int, seed: int) -> None:
    """Go through the whole job; raises when any part does not hold."""
    prepare(places)
    committed: list[Committed] = []
    with progress_on(console) as bar:
        advance = phase(bar, "backtest and commit", count)
        for task in sweep(places, count, workers, seed):
            committed += task
            advance(len(committed), count)
        with ArtifactStore(places.config()) as store:
            rollback = store.revert_to_tag(committed[count // 2].tag, "main", reason="demonstration")
            summary = Exporter(store).run(progress=named(bar, "export and push", count))
            if summary.state != "done":
                raise SystemExit(f"the export is {summary.state}: {summary.failures or summary.warnings}")
            tip = git(places, "rev-parse", "main").strip()
            if tip != rollback["commit_sha"]:
                raise SystemExit(f"main is at {tip}, the store promised {rollback['commit_sha']}")
            stored = store.verify(progress=named(bar, "verify store", count))
            proved = verify_export(store, remote="origin", progress=named(bar, "verify git", count))
            if not (stored.ok and proved.ok):
                raise SystemExit(f"verification failed: {stored.faults + list(proved.faults)}")
            figures = store.stats()
    report(console, places, committed, figures, summary)


def progress_on(console: Console) -> Progress:
    """Return progress bars for a terminal; on anything else they stay silent."""
    columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def phase(bar: Progress, description: str, total: int) -> Callable[[int, int], None]:
    """Add a bar and return what moves it."""
    task = bar.add_task(description, total=total)
    return lambda done, new_total: bar.update(task, completed=done, total=new_total)


def named(bar: Progress, description: str, total: int) -> Callable[[str, int, int], None]:
    """Add a bar for a call that reports phase, items done and items in all."""
    move = phase(bar, description, total)
    return lambda _phase, done, new_total: move(done, new_total)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the demonstration."""
    parser = argparse.ArgumentParser(description="Run a sweep of real backtests, store, export and prove it.")
    parser.add_argument("--runs", type=int, default=200, help="how many runs (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="another one, another sweep (default: %(default)s)"
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("build/demo"), help="folder to make anew (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    demonstrate(Console(), Places(options.dir.absolute()), options.runs, options.workers, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
