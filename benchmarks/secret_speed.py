"""How fast does the secret gate read real artifacts, with all of its rules?

Each engine scans the files of real backtest runs one by one, as a commit does, and the same files joined to one large
artifact. The engines alternate. Each time an engine's first pass over the files is told by itself, as it finds the
processor's caches full of the other engine's work; the figures are medians of the processor time of the passes after
it. The slow engine is given fewer runs and one such pass. By kind of file the first engine makes passes over that kind
alone. The share of a commit is the scanning of a run's files over the commit of that run with the gate, in turns on the
same runs, by the clock and in processor time; reading them is told beside it. All engines must report the same
findings.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.machine import missing_package
from benchmarks.runs import real_runs
from benchmarks.samples import spread
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig
from cas.secretrules import RULES
from cas.secretscan import SecretScanner, rule_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.plan import Plan
    from benchmarks.runs import StoredRun

_EXTENT: Final = {"tiny": (3, 2), "quick": (40, 3), "full": (200, 3)}  # runs, rounds
_LARGE_BYTES: Final = 32 * 1024 * 1024
# Of how many runs an engine scans one, and how many passes it makes after its first.
_ENGINES: Final = {"hyperscan": (1, 7), "python": (5, 1)}
# Files that are scanned once more with a credential at their end, so that the engines have something to agree on.
_PLANTED_COUNT: Final = 2000

Content = tuple[str, bytes]


class Turns(NamedTuple):
    """One engine's passes: over the files first and after that, and over the large artifact; seconds per byte."""

    scanner: SecretScanner
    contents: Sequence[Content]
    large: bytes
    passes_count: int
    first_s: list[float]
    later_s: list[float]
    large_s: list[float]

    def take(self) -> None:
        """Make the passes of one turn."""
        self.first_s.append(_pass_s(self.scanner, self.contents))
        self.later_s.extend(_pass_s(self.scanner, self.contents) for _ in range(self.passes_count))
        joined = [("large.csv", self.large)]
        self.large_s.extend(_pass_s(self.scanner, joined) for _ in range(self.passes_count))


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    runs = real_runs(runs_count, plan.data)
    contents = [(path.name, path.read_bytes()) for run in runs for path in run.paths]
    large = b"".join(content for _, content in contents)[:_LARGE_BYTES]
    is_installed = importlib.util.find_spec("hyperscan") is not None
    turns = {name: _turns(name, contents, large) for name in _ENGINES if name != "hyperscan" or is_installed}
    for _ in range(rounds_count):
        for each in turns.values():
            each.take()
    size_bytes = sum(len(content) for _, content in contents)
    missing = missing_package("hyperscan", "hyperscan")
    fastest = next(iter(turns.values())).scanner
    return {
        "parameters": {
            "runs_count": runs_count,
            "files_count": len(contents),
            "file_bytes_mean": round(size_bytes / len(contents)),
            "large_bytes": len(large),
            "rounds_count": rounds_count,
            "rules_count": len(rule_ids()),
            "patterns_count": len(RULES),
            "files_to_judge_count": sum(not fastest.has_nothing(content) for _, content in contents),
            "input": "files of real runs, in memory",
            "sync_mode": "full, where it commits",
        },
        "engines": [_figures(name, each, size_bytes / runs_count) for name, each in turns.items()],
        "kinds": _by_kind(fastest, contents, rounds_count),
        "same_findings": _agree([each.scanner for each in turns.values()], contents),
        "share_of_commit": _share_of_commit(plan, runs),
        "skipped": [] if missing is None else [{"name": "hyperscan", **missing}],
    }


def _turns(name: str, contents: Sequence[Content], large: bytes) -> Turns:
    part, passes_count = _ENGINES[name]
    some = contents[: max(1, len(contents) // part)]
    return Turns(_warm(name), some, large[: len(large) // part], passes_count, [], [], [])


def _warm(engine: str) -> SecretScanner:
    scanner = SecretScanner(engine=engine)
    scanner.warm()
    return scanner


def _pass_s(scanner: SecretScanner, contents: Sequence[Content]) -> float:
    """Return the processor seconds a byte of one pass; it neither reads nor waits: a busy machine hardly shows."""
    started_s = time.process_time()
    for name, content in contents:
        scanner.scan(content, name)
    return (time.process_time() - started_s) / sum(len(content) for _, content in contents)


def _by_kind(scanner: SecretScanner, contents: Sequence[Content], rounds_count: int) -> list[dict[str, Any]]:
    """Return the time of one file of each name, over passes of its own after one that is not timed."""
    found: list[dict[str, Any]] = []
    for kind in dict.fromkeys(name for name, _ in contents):
        some = [(name, content) for name, content in contents if name == kind]
        size_bytes = sum(len(content) for _, content in some) / len(some)
        _, *taken = [_pass_s(scanner, some) for _ in range(1 + _ENGINES["hyperscan"][1] * rounds_count)]
        found.append(
            {
                "name": kind,
                "bytes_mean": round(size_bytes),
                "file_us": round(statistics.median(taken) * size_bytes * 1e6, 2),
                "gb_per_s": round(1e-9 / statistics.median(taken), 4),
            }
        )
    return found


def _agree(scanners: Any, contents: Sequence[Content]) -> bool:
    """Tell whether all engines report the same, on the files as they are, and on some with a credential in each."""
    planted = [
        (name, content + f"\napi_secret = 'Zq{number:06d}kV9xT3pLw8Rj'\n".encode())
        for number, (name, content) in enumerate(contents[:_PLANTED_COUNT])
    ]
    found = [[scanner.scan(content, name) for name, content in (*contents, *planted)] for scanner in scanners]
    return all(each == found[0] for each in found) and any(found[0])


def _share_of_commit(plan: Plan, runs: Sequence[StoredRun]) -> dict[str, float]:
    scanner = SecretScanner()
    scanner.warm()
    clock: dict[str, list[float]] = {"commit": [], "read": [], "scan": []}
    processor: dict[str, list[float]] = {"commit": [], "read": [], "scan": []}
    with ArtifactStore(ArtifactStoreConfig(repo_path=plan.fresh("share"), durability="full")) as store:
        for run in runs:
            stamps = [(time.perf_counter(), time.process_time())]
            store.commit_artifacts(**run.as_call())
            stamps.append((time.perf_counter(), time.process_time()))
            contents = [(path.name, path.read_bytes()) for path in run.paths]
            stamps.append((time.perf_counter(), time.process_time()))
            for name, content in contents:
                scanner.scan(content, name)
            stamps.append((time.perf_counter(), time.process_time()))
            for part, (before, after) in zip(clock, pairwise(stamps), strict=True):
                clock[part].append(after[0] - before[0])
                processor[part].append(after[1] - before[1])
    p50_s = {part: statistics.median(taken) for part, taken in clock.items()}
    with_reading_s = statistics.median(map(sum, zip(clock["read"], clock["scan"], strict=True)))
    return {
        **{f"{part}_p50_ms": round(seconds * 1000, 4) for part, seconds in p50_s.items()},
        "share": round(p50_s["scan"] / p50_s["commit"], 4),
        "share_with_reading": round(with_reading_s / p50_s["commit"], 4),
        "share_of_processor": round(
            statistics.median(processor["scan"]) / statistics.median(processor["commit"]), 4
        ),
    }


def _figures(name: str, taken: Turns, run_bytes: float) -> dict[str, Any]:
    later_s = statistics.median(taken.later_s)
    return {
        "name": name,
        "runs_share": round(1 / _ENGINES[name][0], 4),
        "passes_count": len(taken.later_s),
        "small_files_gb_per_s": round(1e-9 / later_s, 4),
        "first_pass_gb_per_s": round(1e-9 / statistics.median(taken.first_s), 4),
        "large_file_gb_per_s": round(1e-9 / statistics.median(taken.large_s), 4),
        "run_us": round(later_s * run_bytes * 1e6, 1),
        "run_us_by_pass": spread([each_s * run_bytes * 1e6 for each_s in taken.later_s]),
    }


_COLUMNS: Final = {
    "files of runs, GB/s": "small_files_gb_per_s",
    "first pass, GB/s": "first_pass_gb_per_s",
    "one large file, GB/s": "large_file_gb_per_s",
    "µs per run": "run_us",
}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [engine["name"], *(figure(engine[key]) for key in _COLUMNS.values())] for engine in result["engines"]
    ]
    kinds = [
        [kind["name"], f"{kind['bytes_mean'] / 1000:.1f}", figure(kind["file_us"]), figure(kind["gb_per_s"])]
        for kind in result["kinds"]
    ]
    share = result["share_of_commit"]
    same = "the same findings" if result["same_findings"] else "different findings"
    note = (
        f"The engines report {same}. Scanning a run takes {share['share'] * 100:.1f} % of its commit: "
        f"{figure(share['scan_p50_ms'])} of {figure(share['commit_p50_ms'])} ms; "
        f"with reading it {share['share_with_reading'] * 100:.1f} %. "
        f"Of the commit's processor time alone it is {share['share_of_processor'] * 100:.1f} %."
    )
    return [
        Table("Scanning", ["engine", *_COLUMNS], rows, note),
        Table("By kind of file", ["file", "KB", "µs per file", "GB/s"], kinds),
    ]
