"""The public surface of ``cas``, and what a commit must not need: git, other processes, the network, heavy imports."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cas

ROOT = Path(cas.__file__).parents[1]
PROMISED = (
    *("commit_artifacts", "revert_to_tag", "list_artifacts", "get_artifact_by_correlation_id", "read_file"),
    *(
        "checkout",
        "history",
        "diff",
        "verify",
        "gc",
        "pin",
        "unpin",
        "stats",
        "export_status",
        "wait_for_export",
    ),
)


def test_all_is_sorted_and_every_name_is_there():
    assert cas.__all__ == sorted(cas.__all__)
    assert len(cas.__all__) == len(set(cas.__all__))
    for name in cas.__all__:
        assert getattr(cas, name) is not None
    assert set(cas.__all__) >= {
        "ArtifactStore",
        "ArtifactStoreConfig",
        "ArtifactStoreError",
        "SecretDetectedError",
    }
    with pytest.raises(AttributeError):
        cas.nothing_of_that_name  # noqa: B018  asking is the test


def test_every_public_call_is_documented():
    for name in PROMISED:
        assert inspect.getdoc(getattr(cas.ArtifactStore, name)), name
    for name, member in inspect.getmembers(cas.ArtifactStore, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(member), name


def test_signatures_of_the_replaced_system_are_kept():
    parameters = {
        "commit_artifacts": ["workflow_id", "task_id", "files", "metadata", "correlation_id", "prompt_hash"],
        "revert_to_tag": ["tag", "target_branch"],
        "list_artifacts": ["workflow_id", "limit"],
        "get_artifact_by_correlation_id": ["correlation_id"],
    }
    for name, expected in parameters.items():
        signature = inspect.signature(getattr(cas.ArtifactStore, name))
        positional = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == ["self", *expected], name
    assert inspect.signature(cas.ArtifactStore.revert_to_tag).parameters["target_branch"].default == "main"
    assert inspect.signature(cas.ArtifactStore.list_artifacts).parameters["limit"].default == 50


def test_version_is_the_distributions():
    try:
        assert cas.__version__ == importlib.metadata.version("cas-gitexport")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the distribution is not installed")


def run(script, *arguments, path="/nonexistent"):
    """Run a script in an interpreter of its own, with no program on PATH; return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": path, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LOADED = "import json, sys; import cas; print(json.dumps(sorted(sys.modules)))"


def test_import_loads_no_heavy_module():
    modules = set(run(LOADED))
    heavy = {
        "git",
        "gitexport",
        "cli",
        "hyperscan",
        "cryptography",
        "redis",
        "rich",
        "typer",
        "asyncio",
        "numpy",
    }
    assert {name for name in modules if name.split(".")[0] in heavy} == set()
    assert "cas.secretscan" not in modules
    assert "subprocess" not in modules


def test_type_checkers_see_the_names_that_load_late():
    tree = ast.parse(Path(cas.__file__).read_text())
    late = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    ]
    assert set(late) >= {"Finding", "SecretScanner"}
    for name in late:
        assert getattr(cas, name).__module__.startswith("cas.")


# Everything that starts a process or opens a socket raises one of these events (see the audit events table of Python).
COMMIT = """
import json, sys
from pathlib import Path

FORBIDDEN = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "socket.", "pty.")
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith(FORBIDDEN) else None)

from cas import ArtifactStore, ArtifactStoreConfig

folder = Path(sys.argv[1])
(folder / "trades.csv").write_text("time,pnl\\n1,2.5\\n")
with ArtifactStore(ArtifactStoreConfig(repo_path=folder, scan_for_secrets=sys.argv[2] == "scan")) as store:
    files = {"a.py": b"x = 1\\n", "trades.csv": folder / "trades.csv"}
    first = store.commit_artifacts("wf", "task", files, {"test_metrics": {"n": 1}}, "corr_1", "p")
    second = store.commit_artifacts("wf", "task", [folder / "trades.csv"], None, "corr_1")
    rolled = store.revert_to_tag("corr_1", "ai/generated/wf/task")
    assert first["success"] and second["revision"] == 2 and rolled["success"]
    assert store.list_artifacts() and store.verify().ok
print(json.dumps({"seen": seen, "modules": sorted(sys.modules)}))
"""


@pytest.mark.parametrize("scan", ["scan", "plain"])
def test_commit_starts_no_process_and_opens_no_socket_and_needs_no_git(tmp_path, scan):
    found = run(COMMIT, tmp_path, scan)
    assert found["seen"] == []
    assert not (tmp_path / ".git").exists()
    loaded = {name for name in found["modules"] if name.split(".")[0] in {"git", "gitexport", "cli"}}
    assert loaded == set(), "the exporter's half is for a rollback onto a branch that only git may know"


def test_audit_hook_of_this_test_sees_a_process_and_a_socket(tmp_path):
    script = COMMIT.replace(
        "from cas import",
        "import socket, subprocess\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
        "socket.socket().close()\n"
        "from cas import",
        1,
    )
    seen = run(script, tmp_path, "plain")["seen"]
    assert "subprocess.Popen" in seen
    assert "socket.__new__" in seen


def test_shipped_code_prints_nothing_and_reads_no_environment():
    for path in sorted((ROOT / "cas").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"print", "input", "os.getenv", "os.system", "os.popen"}, (
                    f"{path}:{node.lineno}"
                )
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) != "os.environ", f"{path}:{node.lineno}"
