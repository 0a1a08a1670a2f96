"""How fast does the secret gate read real artifacts, with all of its rules?

Each engine scans the files of real backtest runs one by one, as a commit does, and the same files joined to one large
artifact. Rounds of the engines alternate; the figures are medians of processor time. The share of a commit is the
scanning of a run's files over the commit of that run with the gate, both by the clock, in turns on the same runs;
reading them is told beside it. All engines must report the same findings.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

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
_ENGINES: Final = ("hyperscan", "python")
# Files that are scanned once more with a credential at their end, so that the engines have something to agree on.
_PLANTED_COUNT: Final = 2000

Content = tuple[str, bytes]


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count, rounds_count = _EXTENT[plan.size]
    runs = real_runs(runs_count, plan.data)
    contents = [(path.name, path.read_bytes()) for run in runs for path in run.paths]
    large = b"".join(content for _, content in contents)[:_LARGE_BYTES]
    is_installed = importlib.util.find_spec("hyperscan") is not None
    scanners = {name: _warm(name) for name in _ENGINES if name != "hyperscan" or is_installed}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in scanners}
    for _ in range(rounds_count):
        for name, scanner in scanners.items():
            times[name].append((_scan_all(scanner, contents), _scan_all(scanner, [("large.csv", large)])))
    size_bytes = sum(len(content) for _, content in contents)
    missing = missing_package("hyperscan", "hyperscan")
    return {
        "parameters": {
            "runs_count": runs_count,
            "files_count": len(contents),
            "file_bytes_mean": round(size_bytes / len(contents)),
            "large_bytes": len(large),
            "rounds_count": rounds_count,
            "rules_count": len(rule_ids()),
            "patterns_count": len(RULES),
            "input": "files of real runs, in memory",
            "sync_mode": "full, where it commits",
        },
        "engines": [
            _figures(name, taken, size_bytes, len(large), runs_count) for name, taken in times.items()
        ],
        "same_findings": _agree(scanners.values(), contents),
        "share_of_commit": _share_of_commit(plan, runs),
        "skipped": [] if missing is None else [{"name": "hyperscan", **missing}],
    }


def _warm(engine: str) -> SecretScanner:
    scanner = SecretScanner(engine=engine)
    scanner.warm()
    return scanner


def _scan_all(scanner: SecretScanner, contents: Sequence[Content]) -> float:
    """Return the processor seconds of scanning; it neither reads nor waits, so that a busy machine hardly shows."""
    started_s = time.process_time()
    for name, content in contents:
        scanner.scan(content, name)
    return time.process_time() - started_s


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
    commits_s, reads_s, scans_s = [], [], []
    with ArtifactStore(ArtifactStoreConfig(repo_path=plan.fresh("share"), durability="full")) as store:
        for run in runs:
            started_s = time.perf_counter()
            store.commit_artifacts(**run.as_call())
            committed_s = time.perf_counter()
            contents = [(path.name, path.read_bytes()) for path in run.paths]
            read_s = time.perf_counter()
            for name, content in contents:
                scanner.scan(content, name)
            scans_s.append(time.perf_counter() - read_s)
            reads_s.append(read_s - committed_s)
            commits_s.append(committed_s - started_s)
    return {
        "commit_p50_ms": round(statistics.median(commits_s) * 1000, 4),
        "read_p50_ms": round(statistics.median(reads_s) * 1000, 4),
        "scan_p50_ms": round(statistics.median(scans_s) * 1000, 4),
        "share": round(statistics.median(scans_s) / statistics.median(commits_s), 4),
        "share_with_reading": round(
            statistics.median(map(sum, zip(reads_s, scans_s, strict=True))) / statistics.median(commits_s), 4
        ),
    }


def _figures(
    name: str, taken: Sequence[tuple[float, float]], size_bytes: int, large_bytes: int, runs_count: int
) -> dict[str, Any]:
    small_s = statistics.median(pair[0] for pair in taken)
    large_s = statistics.median(pair[1] for pair in taken)
    return {
        "name": name,
        "small_files_gb_per_s": round(size_bytes / small_s / 1e9, 4),
        "large_file_gb_per_s": round(large_bytes / large_s / 1e9, 4),
        "run_us": round(small_s / runs_count * 1e6, 1),
        "run_us_by_round": spread([pair[0] / runs_count * 1e6 for pair in taken]),
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    rows = [
        [
            engine["name"],
            figure(engine["small_files_gb_per_s"]),
            figure(engine["large_file_gb_per_s"]),
            figure(engine["run_us"]),
        ]
        for engine in result["engines"]
    ]
    share = result["share_of_commit"]
    same = "the same findings" if result["same_findings"] else "different findings"
    note = (
        f"The engines report {same}. Scanning a run takes {share['share'] * 100:.1f} % of its commit: "
        f"{figure(share['scan_p50_ms'])} of {figure(share['commit_p50_ms'])} ms; "
        f"with reading it {share['share_with_reading'] * 100:.1f} %."
    )
    heads = ["engine", "files of runs, GB/s", "one large file, GB/s", "µs per run"]
    return [Table("Scanning", heads, rows, note)]
