"""The orchestrator's page and its example: both run as they are written."""

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from cas import ArtifactStore, ArtifactStoreConfig
from cas.events import Channels, EventType
from cli.verbs import load_verb
from gitexport import webhook

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "orchestrator.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_example_stores_the_run_and_answers(tmp_path):
    words = [sys.executable, ROOT / "examples" / "orchestrator.py"]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "artifact.committed ai/generated/wf_rsi_strategy/task_coder_001\n"
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path)) as store:
        assert store.get_artifact_by_correlation_id("corr_abc123")["test_metrics"]["total_trades"] == 12


def test_page_code_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spaces = [{"__name__": "page"} for _ in blocks("python")]
    for code, space in zip(blocks("python"), spaces, strict=True):
        exec(compile(code, "orchestrator.md", "exec"), space)  # noqa: S102  our own text
    signed = webhook.signature(b"a secret of some length", 1000, b"{}")
    assert spaces[1]["is_genuine"](b"a secret of some length", "1000", b"{}", signed)
    assert not spaces[1]["is_genuine"](b"a secret of some length", "1001", b"{}", signed)


def test_page_unit_and_commands_use_options_that_exist():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(blocks("ini")[0])
    lines = [
        unit["Service"]["ExecStart"].partition("/cas ")[2],
        *re.findall(r"^\$ cas (.*)$", PAGE, re.MULTILINE),
    ]
    known = {name for param in load_verb("listen").params for name in param.opts}
    for line in lines:
        verb, *words = shlex.split(line)
        assert verb == "listen"
        assert {word for word in words if word.startswith("--")} <= known


def test_page_settings_exist():
    assert tomllib.loads(blocks("toml")[0]).keys() <= set(ArtifactStoreConfig.__slots__)


def test_page_names_every_event_and_channel():
    for name in {*EventType, *Channels} - {EventType.TEST_FAILED}:
        assert f"`{name.value}`" in PAGE
