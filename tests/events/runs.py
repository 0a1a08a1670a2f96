"""Runs of the events' tests: their files in a workspace, the event that tells of them, a clock."""

from __future__ import annotations

from cas.events import Event

FIRST_NS = 1_767_225_600_000_000_000


class Clock:
    """A clock that moves a second each time it is asked."""

    def __init__(self):
        self.now_ns = FIRST_NS

    def __call__(self):
        self.now_ns += 1_000_000_000
        return self.now_ns


def write_run(folder, task_id):
    (folder / "Backtest" / "codes" / f"{task_id}.py").write_text(f"# {task_id}\nFAST = 5\n")
    for name in ("test_report.json", "trades.csv", "equity_curve.csv", "events.log"):
        path = folder / "artifacts" / task_id / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{task_id} {name}\n")


def passed(task_id="task1", correlation_id="c1", **changes):
    """A ``test.passed`` event."""
    base = f"artifacts/{task_id}"
    data = {
        "artifacts": {
            "test_report": f"{base}/test_report.json",
            "trades": f"{base}/trades.csv",
            "equity_curve": f"{base}/equity_curve.csv",
            "events_log": f"{base}/events.log",
        },
        "metrics": {"total_trades": 12, "net_pnl": 120.5},
    }
    fields = {
        "event_id": "evt_0123456789ab",
        "event_type": "test.passed",
        "correlation_id": correlation_id,
        "workflow_id": "wf",
        "task_id": task_id,
        "timestamp": "2026-01-01T00:00:00Z",
        "data": data,
        "source": "tester",
    }
    return Event(**{**fields, **changes})
