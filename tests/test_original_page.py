"""Every example of the replaced system's page, in the page's order, with only its import line changed.

Each example stands here as the page has it, except that ``from artifacts import`` reads ``from cas import``, and is run
with the names it takes for granted. Where the page writes ``...`` for arguments, the call is given those of the page's
own example. The page's trees, metadata and tables are compared as well.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import textwrap
import types
import unittest
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from cas import ArtifactStore, ArtifactStoreConfig, ArtifactStoreError, SecretDetectedError

IMPORTS_OLD, IMPORTS_NEW = "from artifacts import", "from cas import"
METRICS = {"total_trades": 12, "net_pnl": 120.5, "win_rate": 0.58, "max_drawdown": 45.2}
FILES = {
    "Backtest/codes/rsi_strategy.py": "PERIOD, LOW, HIGH = 14, 30, 70\n",
    "Backtest/codes/task_coder_001.py": "FAST, SLOW = 10, 30\n",
    "artifacts/test_report.json": json.dumps({"metrics": METRICS}),
    "artifacts/trades.csv": "time,side,price,pnl\n2025-01-02,buy,101.5,2.5\n",
    "artifacts/equity_curve.csv": "time,equity\n2025-01-02,10002.5\n",
    "artifacts/events.log": "2025-01-02 FILL buy 1 @ 101.5\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working folder that the page takes for granted: the files of a run, relative to it."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class FilledIn(ast.NodeTransformer):
    """Replaces the page's ``commit_artifacts(...)`` by a call with arguments; an argument the page gives is kept."""

    def visit_Call(self, node):
        self.generic_visit(node)
        dots = [item for item in node.args if isinstance(item, ast.Constant) and item.value is ...]
        if dots:
            node.args = [item for item in node.args if item not in dots]
            given = {keyword.arg for keyword in node.keywords}
            unpacked = ast.parse(f"f(**filled_in({sorted(given)!r}))", mode="eval").body.keywords
            node.keywords += unpacked
        return node

    def visit_Expr(self, node):
        self.generic_visit(node)
        return node


ARGUMENTS = {
    "workflow_id": "wf_rsi_strategy",
    "task_id": "task_coder_001",
    "files": [Path("Backtest/codes/rsi_strategy.py"), Path("artifacts/trades.csv")],
    "metadata": {"agent_version": "coder-v1.0", "test_metrics": METRICS},
    "correlation_id": "corr_abc123",
    "prompt_hash": "7a8b9c0d1e2f",
}


def filled_in(given):
    return {name: value for name, value in ARGUMENTS.items() if name not in given}


def run_example(source, **taken_for_granted):
    """Run an example as the page prints it; return the names it leaves and what it printed."""
    page = textwrap.dedent(source).replace(IMPORTS_OLD, IMPORTS_NEW)
    tree = ast.fix_missing_locations(FilledIn().visit(ast.parse(page)))
    names = {"Path": Path, "filled_in": filled_in, "__name__": "example", **taken_for_granted}
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, "original page", "exec"), names)  # noqa: S102  the page's own examples are what is tested
    return types.SimpleNamespace(**names), printed.getvalue()


@pytest.fixture
def store(project):
    with ArtifactStore() as opened:
        yield opened


@pytest.fixture
def first(store):
    return store.commit_artifacts(**ARGUMENTS)


def test_branch_naming(first):
    assert first["branch"] == "ai/generated/wf_rsi_strategy/task_coder_001"


def test_tag_convention(first):
    assert first["tags"] == ["corr_abc123", "prompt_7a8b9c0d1e2f"]


def test_commit_structure(store, project):
    paths = [
        "Backtest/codes/task_coder_001.py",
        *sorted(name for name in FILES if name.startswith("artifacts/")),
    ]
    named = {Path(path).name.replace("task_coder_001", "strategy"): path for path in paths}
    store.commit_artifacts(**{**ARGUMENTS, "files": named})
    written = store.checkout("corr_abc123", project / "out")
    assert set(written) == {
        *("strategy.py", "test_report.json", "trades.csv", "equity_curve.csv", "events.log", "metadata.json")
    }


def test_metadata_tracking(store):
    store.commit_artifacts(
        **{
            **ARGUMENTS,
            "prompt_hash": "7a8b9c0d1e2f3a4b",
            "metadata": {"agent_version": "coder-v1.0", "llm_version": "gpt-4", "test_metrics": METRICS},
        }
    )
    document = json.loads(store.read_file("corr_abc123", "metadata.json"))
    assert list(document) == [
        *("workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp"),
        *("agent_version", "llm_version", "test_metrics", "files"),
    ]
    stamp = document.pop("commit_timestamp")
    assert len(stamp) == len("2025-11-07T14:30:00Z")
    assert stamp[10] + stamp[-1] == "TZ"
    assert document == {
        "workflow_id": "wf_rsi_strategy",
        "task_id": "task_coder_001",
        "correlation_id": "corr_abc123",
        "prompt_hash": "7a8b9c0d1e2f3a4b",
        "agent_version": "coder-v1.0",
        "llm_version": "gpt-4",
        "test_metrics": METRICS,
        "files": ["rsi_strategy.py", "trades.csv"],
    }


# Put together here, so that no line of this file is itself something that a scanner would report.
LEAKS = {
    "api_key": 'api_key = "{}"'.format("a1B2c3D4" * 4),
    "apikey": "apikey: '{}'".format("Zx9Qw8Er" * 3),
    "secret_key": 'secret_key = "{}"'.format("q7W8e9R0" * 4),
    "secretkey": "secretkey={}".format("m4N5b6V7" * 4),
    "password": 'password = "{}"'.format("tr0ub4dor" + "&3xyz"),
    "passwd": "passwd: '{}'".format("c0rrect" + "H0rse9"),
    "pwd": "pwd = '{}'".format("b4ttery" + "St4ple"),
    "token": 'token = "{}"'.format("f0e1D2c3" * 4),
    "sk_test_": "sk_" + "test_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "sk_live_": "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "aws_access_key_id": "aws_access_key_id = " + "AKIA" + "QYLPMN5HFIQR7XYA",
    "aws_secret_access_key": "aws_secret_access_key = " + "p9Lk3Jh7Gf2Ds8Aq1Zx6Cv0Bn5Mw4Er3Ty7Ui2Op"[:40],
}


@pytest.mark.parametrize("pattern", LEAKS)
def test_secret_scanning(store, project, pattern):
    path = project / "leak.py"
    path.write_text(f"SYMBOL = 'GOOG'\n{LEAKS[pattern]}\n")
    with pytest.raises(SecretDetectedError) as caught:
        store.commit_artifacts(**{**ARGUMENTS, "files": [path]})
    assert caught.value.findings[0].name == "leak.py"
    assert caught.value.findings[0].line == 2
    assert store.list_artifacts() == [], "the commit was aborted"


def test_rollback_support(store, first):
    left, _ = run_example(
        """
        # Revert to specific version
        result = store.revert_to_tag(
            tag="corr_abc123",
            target_branch="main"
        )

        # Result: {'success': True, 'commit_sha': '...', 'reverted_to': 'corr_abc123'}
        """,
        store=store,
    )
    assert left.result["success"] is True
    assert left.result["reverted_to"] == "corr_abc123"
    assert len(left.result["commit_sha"]) == 40


def test_query_capabilities(store, first):
    left, _ = run_example(
        """
        # List all artifacts
        artifacts = store.list_artifacts(limit=50)

        # Filter by workflow
        artifacts = store.list_artifacts(workflow_id="wf_rsi_strategy")

        # Get by correlation ID
        artifact = store.get_artifact_by_correlation_id("corr_abc123")
        """,
        store=store,
    )
    assert left.artifacts == [left.artifact]
    assert left.artifact["commit_sha"] == first["commit_sha"]


INTEGRATION_CODE = """
    from contracts.event_types import EventType
    from artifacts import ArtifactStore

    class OrchestratorService:
        def __init__(self):
            self.artifact_store = ArtifactStore()
            self.bus.subscribe(Channels.TEST_RESULTS, self.handle_test_result)

        def handle_test_result(self, event):
            if event.event_type != EventType.TEST_PASSED:
                return

            # Collect artifact files
            files = [
                Path(event.data['artifacts']['test_report']),
                Path(event.data['artifacts']['trades']),
                Path(event.data['artifacts']['equity_curve']),
                Path(event.data['artifacts']['events_log']),
                Path(f"Backtest/codes/{event.task_id}.py")
            ]

            # Commit to artifact store
            result = self.artifact_store.commit_artifacts(
                workflow_id=event.workflow_id,
                task_id=event.task_id,
                files=files,
                metadata={
                    "agent_version": "tester-v1.0",
                    "test_metrics": event.data['metrics']
                },
                correlation_id=event.correlation_id
            )

            if result['success']:
                # Publish artifact committed event
                self.publish_artifact_committed(event, result)
"""


def failed_test_event():
    return types.SimpleNamespace(
        event_type="test.failed",
        workflow_id="wf_rsi_strategy",
        task_id="task_coder_001",
        correlation_id="corr_abc123",
        data={
            "artifacts": {
                "test_report": "artifacts/test_report.json",
                "trades": "artifacts/trades.csv",
                "equity_curve": "artifacts/equity_curve.csv",
                "events_log": "artifacts/events.log",
            },
            "metrics": METRICS,
        },
    )


def test_integration_code_example(project, monkeypatch):
    contracts = types.ModuleType("contracts.event_types")
    contracts.EventType = types.SimpleNamespace(TEST_PASSED="test.passed")
    monkeypatch.setitem(__import__("sys").modules, "contracts", types.ModuleType("contracts"))
    monkeypatch.setitem(__import__("sys").modules, "contracts.event_types", contracts)
    left, _ = run_example(INTEGRATION_CODE, Channels=types.SimpleNamespace(TEST_RESULTS="test.results"))
    handlers, published = {}, []

    class Service(left.OrchestratorService):
        bus = types.SimpleNamespace(subscribe=handlers.__setitem__)

        def publish_artifact_committed(self, event, result):
            published.append(result)

    service = Service()
    event = failed_test_event()
    handlers["test.results"](event)
    assert published == []
    event.event_type = "test.passed"
    handlers["test.results"](event)
    handlers["test.results"](event)
    assert published[0] == published[1], "an event that is delivered again commits nothing new"
    assert len(published[0]["files"]) == 5
    service.artifact_store.close()


def test_basic_usage(project):
    left, printed = run_example(
        """
        from artifacts import ArtifactStore, ArtifactStoreConfig

        # Initialize
        store = ArtifactStore()

        # Commit artifacts
        result = store.commit_artifacts(
            workflow_id="wf_rsi_strategy",
            task_id="task_coder_001",
            files=[
                Path("Backtest/codes/rsi_strategy.py"),
                Path("artifacts/test_report.json"),
                Path("artifacts/trades.csv")
            ],
            metadata={
                "agent_version": "coder-v1.0",
                "llm_version": "gpt-4",
                "test_metrics": {"total_trades": 12, "win_rate": 0.58}
            },
            correlation_id="corr_abc123",
            prompt_hash="7a8b9c0d1e2f"
        )

        print(f"Branch: {result['branch']}")
        print(f"Commit: {result['commit_sha']}")
        print(f"Tags: {result['tags']}")
        print(f"Pushed: {result['pushed']}")
        """
    )
    left.store.close()
    assert printed.splitlines() == [
        "Branch: ai/generated/wf_rsi_strategy/task_coder_001",
        f"Commit: {left.result['commit_sha']}",
        "Tags: ['corr_abc123', 'prompt_7a8b9c0d1e2f']",
        "Pushed: False",
    ]


def test_custom_configuration(project):
    source = """
        config = ArtifactStoreConfig(
            repo_path=Path("/path/to/repo"),
            branch_prefix="ai/generated",
            auto_push=True,
            scan_for_secrets=True,
            require_correlation_id=True
        )

        store = ArtifactStore(config)
    """
    # The page's path is a stand-in for the reader's own.
    left, _ = run_example(
        source.replace("/path/to/repo", str(project / "repo")),
        ArtifactStore=ArtifactStore,
        ArtifactStoreConfig=ArtifactStoreConfig,
    )
    with left.store as store:
        assert store.config.repo_path == project / "repo"
        assert store.commit_artifacts(**ARGUMENTS)["success"]


def test_rollback(store, first):
    _, printed = run_example(
        """
        # Revert to previous version
        result = store.revert_to_tag(
            tag="corr_abc123",
            target_branch="main"
        )

        if result['success']:
            print(f"Reverted to {result['reverted_to']}")
        """,
        store=store,
    )
    assert printed == "Reverted to corr_abc123\n"


def test_configuration_options(project):
    defaults = {
        "repo_path": Path.cwd(),
        "remote_name": "origin",
        "branch_prefix": "ai/generated",
        "commit_author_name": "algo-agent-bot",
        "commit_author_email": "algo-agent@example.com",
        "scan_for_secrets": True,
        "include_metadata": True,
        "auto_push": True,
        "push_timeout": 30,
        "require_correlation_id": True,
    }
    config = ArtifactStoreConfig()
    assert {name: getattr(config, name) for name in defaults} == defaults
    # The page's eight patterns are among the built-in rules (see test_secret_scanning); the option adds the user's.
    assert ArtifactStoreConfig(secret_patterns=[r"internal-[0-9]{6}"]).secret_patterns == (
        r"internal-[0-9]{6}",
    )


@pytest.fixture
def logger(caplog):
    caplog.set_level(logging.INFO)
    return logging.getLogger("example")


def test_secret_detected_error(store, project, logger, caplog, monkeypatch):
    leak = project / "leak.py"
    leak.write_text(LEAKS["api_key"] + "\n")
    monkeypatch.setitem(ARGUMENTS, "files", [leak])
    run_example(
        """
        from artifacts import SecretDetectedError

        try:
            result = store.commit_artifacts(...)
        except SecretDetectedError as e:
            logger.error(f"Secrets detected: {e}")
            # Remove secrets and retry
        """,
        store=store,
        logger=logger,
    )
    (record,) = caplog.records
    assert record.message.startswith("Secrets detected: ")
    assert "leak.py:1:" in record.message
    assert "a1B2c3D4" not in record.message


def test_artifact_store_error(store, project, logger, caplog, monkeypatch):
    monkeypatch.setitem(ARGUMENTS, "files", [project / "missing.csv"])
    run_example(
        """
        from artifacts import ArtifactStoreError

        try:
            result = store.commit_artifacts(...)
        except ArtifactStoreError as e:
            logger.error(f"Git operation failed: {e}")
            # Check permissions, network, git status
        """,
        store=store,
        logger=logger,
    )
    assert "missing.csv" in caplog.records[0].message


GRACEFUL = """
    result = store.commit_artifacts(...)

    if result['success']:
        if result['pushed']:
            logger.info("Artifacts committed and pushed")
        else:
            logger.warning("Artifacts committed locally, push failed")
            # Schedule retry or alert admin
    else:
        logger.error(f"Commit failed: {result['error']}")
        # Handle failure
"""


def test_graceful_degradation_of_a_commit(store, logger, caplog):
    run_example(GRACEFUL, store=store, logger=logger)
    assert caplog.records[0].message == "Artifacts committed locally, push failed"


def test_graceful_degradation_of_a_failure(project, logger, caplog, monkeypatch):
    monkeypatch.setitem(ARGUMENTS, "files", [project / "missing.csv"])
    with ArtifactStore(ArtifactStoreConfig(raise_errors=False)) as store:
        run_example(GRACEFUL, store=store, logger=logger)
    assert caplog.records[0].message.startswith("Commit failed: ")


def test_unit_tests_of_the_page(project):
    leak = project / "leak.py"
    leak.write_text(LEAKS["password"] + "\n")
    left, _ = run_example(
        """
        import unittest
        from artifacts import ArtifactStore, ArtifactStoreConfig

        class TestArtifactStore(unittest.TestCase):
            def test_commit_artifacts_success(self):
                store = ArtifactStore()
                result = store.commit_artifacts(...)
                self.assertTrue(result['success'])
                self.assertIn('ai/generated', result['branch'])

            def test_secret_detection(self):
                store = ArtifactStore()
                with self.assertRaises(SecretDetectedError):
                    store.commit_artifacts(files=[file_with_secret], ...)
        """.replace(
            "files=[file_with_secret], ...", "..., files=[file_with_secret]"
        ),  # the page's order is no Python
        SecretDetectedError=SecretDetectedError,
        file_with_secret=leak,
    )
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(left.TestArtifactStore)
    outcome = unittest.TextTestRunner(stream=io.StringIO()).run(suite)
    assert outcome.testsRun == 2
    assert outcome.wasSuccessful(), outcome.failures + outcome.errors


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_end_to_end_workflow(project):
    # 1. to 3. of the page: a strategy is made, its test passes, the store is called.
    from gitexport import Exporter

    git(project, "init", "--quiet")
    with ArtifactStore(ArtifactStoreConfig(repo_path=project, auto_push=False)) as store:
        result = store.commit_artifacts(**ARGUMENTS)
        Exporter(store).run()
        assert store.export_status("corr_abc123")["export_state"] == "exported"
    # 4. Verify git commit created
    assert git(project, "rev-parse", result["branch"]).strip() == result["commit_sha"]
    # 5. Verify tags applied
    assert git(project, "tag", "--points-at", result["branch"]).split() == sorted(result["tags"])
    # 6. Verify metadata.json present
    shown = git(project, "show", f"{result['branch']}:Backtest/codes/task_coder_001/metadata.json")
    assert json.loads(shown)["correlation_id"] == "corr_abc123"


def test_api_reference(store, first):
    again = store.commit_artifacts(*(ARGUMENTS[name] for name in ARGUMENTS))
    assert again == first
    assert set(again) >= {"success", "branch", "commit_sha", "tags", "pushed", "error"}
    reverted = store.revert_to_tag("corr_abc123")
    assert set(reverted) >= {"success", "commit_sha", "reverted_to", "branch", "error"}
    assert reverted["branch"] == "main"
    assert isinstance(store.list_artifacts(None, 50), list)
    assert store.get_artifact_by_correlation_id("corr_unknown") is None
    assert issubclass(SecretDetectedError, ArtifactStoreError)
