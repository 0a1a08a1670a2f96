"""The replaced system's integration code, unchanged but for its imports, on a bus in memory.

``OrchestratorService`` is what an orchestrator had: it commits the run itself, with the paths that the event tells.
`cas.events.ArtifactEventHandler` does the same and more (retries, refusals, ``artifact.pushed``); see
docs/orchestrator.md. Run it in an empty folder: ``python examples/orchestrator.py``.
"""

from __future__ import annotations

from pathlib import Path

from cas import ArtifactStore
from cas.events import Channels, Event, EventType, MemoryBus
from cas.events.event import new_event


class OrchestratorService:
    """Stores the runs whose tests pass."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.artifact_store = ArtifactStore()
        self.bus.subscribe(Channels.TEST_RESULTS, self.handle_test_result)

    def handle_test_result(self, event: Event) -> None:
        """Commit the files of a passed test and say so."""
        if event.event_type != EventType.TEST_PASSED:
            return

        # Collect artifact files
        files = [
            Path(event.data["artifacts"]["test_report"]),
            Path(event.data["artifacts"]["trades"]),
            Path(event.data["artifacts"]["equity_curve"]),
            Path(event.data["artifacts"]["events_log"]),
            Path(f"Backtest/codes/{event.task_id}.py"),
        ]

        # Commit to artifact store
        result = self.artifact_store.commit_artifacts(
            workflow_id=event.workflow_id,
            task_id=event.task_id,
            files=files,
            metadata={"agent_version": "tester-v1.0", "test_metrics": event.data["metrics"]},
            correlation_id=event.correlation_id,
        )

        if result["success"]:
            # Publish artifact committed event
            self.publish_artifact_committed(event, result)

    def publish_artifact_committed(self, event: Event, result: dict[str, object]) -> None:
        """Tell the workflow where the run is."""
        data = {name: result[name] for name in ("branch", "commit_sha", "tags", "pushed")}
        committed = new_event(
            EventType.ARTIFACT_COMMITTED,
            cause=event.event_id,
            correlation_id=event.correlation_id,
            workflow_id=event.workflow_id,
            task_id=event.task_id,
            data=data,
            now_us=0,
        )
        self.bus.publish(Channels.WORKFLOW_EVENTS, committed)


def write_files() -> dict[str, str]:
    """Write what a tester leaves behind; return kinds and paths."""
    names = {
        "test_report": "test_report.json",
        "trades": "trades.csv",
        "equity_curve": "equity_curve.csv",
        "events_log": "events.log",
    }
    folder = Path("artifacts")
    folder.mkdir(exist_ok=True)
    for name in names.values():
        (folder / name).write_text("{}\n")
    strategy = Path("Backtest/codes/task_coder_001.py")
    strategy.parent.mkdir(parents=True, exist_ok=True)
    strategy.write_text("FAST, SLOW = 10, 30\n")
    return {kind: str(folder / name) for kind, name in names.items()}


def main() -> None:
    """Send one passed test through the service and print the answer."""
    bus = MemoryBus()
    service = OrchestratorService(bus)
    bus.subscribe(Channels.WORKFLOW_EVENTS, lambda event: print(event.event_type, event.data["branch"]))
    bus.publish(
        Channels.TEST_RESULTS,
        Event(
            event_id="evt_0123456789ab",
            event_type=EventType.TEST_PASSED,
            correlation_id="corr_abc123",
            workflow_id="wf_rsi_strategy",
            task_id="task_coder_001",
            timestamp="2025-11-07T14:30:00Z",
            data={"artifacts": write_files(), "metrics": {"total_trades": 12, "win_rate": 0.58}},
            source="tester",
        ),
    )
    service.artifact_store.close()
    for failure in bus.failures:
        raise failure


if __name__ == "__main__":
    main()
