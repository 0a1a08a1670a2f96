"""Do pages of `cas browse` come quickly from a store of 10,000 runs, and is a curve of a million rows cheap to plot?

Pages are asked for over HTTP on this machine, one after another, by a client in the same process, so a time holds both
ends. *First* is the first request for a page in a fresh server, which for a list looks at every run the question may be
about; *later* is the median of the ones after it. The curve is a file of 1,000,000 rows with a time and a value each.
"""

from __future__ import annotations

import random
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from benchmarks.samples import summary_ms
from benchmarks.tables import Table, figure
from cas import ArtifactStore, ArtifactStoreConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.plan import Plan

_RUNS_COUNT: Final = {"tiny": 120, "quick": 2000, "full": 10_000}
_CURVE_ROWS: Final = {"tiny": 20_000, "quick": 100_000, "full": 1_000_000}
_LATER_COUNT: Final = {"tiny": 3, "quick": 20, "full": 50}
_BATCH_RUNS: Final = 500
_CURVE_CHUNK_ROWS: Final = 100_000
_FILTER: Final = "net_pnl+%3E+100+and+win_rate+%3E+0.5"
_PAGES: Final = {
    "newest runs": "",
    "newest runs, last page": "?page={last}",
    "sorted by a metric": "?sort=net_pnl",
    "sorted by a metric, last page": "?sort=net_pnl&page={last}",
    "filtered": f"?where={_FILTER}",
    "filtered and sorted": f"?where={_FILTER}&sort=sharpe_ratio",
    "runs of a workflow": "?workflow=wf_3",
    "one run": "run?ref=run_000007",
    "two runs compared": "diff?a=run_000007&b=run_000008",
    "branches": "branches?page=2",
    "history of a branch": "log?branch=ai/generated/wf_0/task_000",
    "export": "export",
    "one run, long curve": "run?ref=long",
}


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    runs_count = _RUNS_COUNT[plan.size]
    parameters = {
        "runs_count": runs_count,
        "curve_rows_count": _CURVE_ROWS[plan.size],
        "sync_mode": "full",
        "input": "files of 45 rows; store warm",
    }
    try:
        from cli.browse.server import Server
    except ModuleNotFoundError as error:
        missing = {
            "name": "browse",
            "reason": f"{error.name} is missing",
            "install": "pip install cas-gitexport[browse]",
        }
        return {"parameters": parameters, "pages": {}, "skipped": [missing]}
    with ArtifactStore(ArtifactStoreConfig(repo_path=plan.fresh("browse"), scan_for_secrets=False)) as store:
        for first in range(0, runs_count, _BATCH_RUNS):
            store.commit_many([_run(number) for number in range(first, min(first + _BATCH_RUNS, runs_count))])
        curve = {"equity_curve.csv": b"".join(_long_curve(_CURVE_ROWS[plan.size]))}
        store.commit_artifacts("wf_long", "long", curve, {}, "long")
        server = Server(store, "127.0.0.1", 0, _refuse)
        server.start()
        try:
            pages = {
                name: _ask(server.url, path.format(last=-(-runs_count // 50)), _LATER_COUNT[plan.size])
                for name, path in _PAGES.items()
            }
        finally:
            server.stop()
    return {"parameters": parameters, "pages": pages, "skipped": []}


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the table of the page."""
    parameters = result["parameters"]
    rows = [
        [
            name,
            figure(each["first_ms"]),
            figure(each["later"]["p50_ms"]),
            figure(each["later"]["p99_ms"]),
            figure(each["answer_bytes"] / 1000),
        ]
        for name, each in result["pages"].items()
    ]
    title = f"{parameters['runs_count']:,} runs; the long curve has {parameters['curve_rows_count']:,} rows"
    return [Table(title, ["page", "first ms", "later p50 ms", "later p99 ms", "size kB"], rows)]


def _ask(base: str, path: str, count: int) -> dict[str, Any]:
    samples_s: list[float] = []
    answer_bytes = 0
    for _ in range(count + 1):
        started_s = time.perf_counter()
        with urllib.request.urlopen(base + path) as answer:  # noqa: S310  our own server
            answer_bytes = len(answer.read())
        samples_s.append(time.perf_counter() - started_s)
    return {
        "first_ms": round(samples_s[0] * 1000, 2),
        "later": summary_ms(samples_s[1:]),
        "answer_bytes": answer_bytes,
    }


def _run(number: int) -> dict[str, Any]:
    draw = random.Random(number)
    equity, rows = 10_000.0, []
    for day in range(45):
        equity *= 1 + draw.gauss(0.0005, 0.01)
        rows.append(f"2024-{1 + day // 28:02}-{1 + day % 28:02},{equity:.2f}")
    return {
        "workflow_id": f"wf_{number % 7}",
        "task_id": f"task_{number % 100:03}",
        "correlation_id": f"run_{number:06}",
        "prompt_hash": f"{number % 300:012}",
        "files": {"strategy.py": f"FAST = {number}\n".encode(), "equity_curve.csv": _table(rows)},
        "metadata": {
            "agent_version": "tester-v1.0",
            "test_metrics": {
                "net_pnl": round(draw.gauss(50, 200), 2),
                "win_rate": round(draw.random(), 4),
                "sharpe_ratio": round(draw.gauss(0.5, 1), 4),
                "max_drawdown": round(draw.random() * 40, 2),
                "total_trades": draw.randrange(200),
            },
        },
    }


def _table(rows: list[str]) -> bytes:
    return "\n".join(["Time,Equity", *rows, ""]).encode()


def _long_curve(rows_count: int) -> Iterator[bytes]:
    draw = random.Random(0)
    equity, at_s = 10_000.0, 1_600_000_000
    yield b"Time,Equity\n"
    for first in range(0, rows_count, _CURVE_CHUNK_ROWS):
        rows: list[str] = []
        for _ in range(first, min(first + _CURVE_CHUNK_ROWS, rows_count)):
            equity += draw.gauss(0, 1)
            at_s += 60
            rows.append(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at_s))},{equity:.2f}\n")
        yield "".join(rows).encode()


def _refuse(error: BaseException) -> None:
    raise error
