"""The README's quickstart, and what it leaves in git; all examples of the README are run by tests/docs."""

import re
import subprocess
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_quickstart_runs_as_written(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "quickstart"})  # noqa: S102  our own text
    refs = subprocess.run(
        ["git", "for-each-ref"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert {line.split("\t")[1] for line in refs.splitlines()} == {
        "refs/heads/ai/generated/wf_rsi_strategy/task_coder_001",
        "refs/heads/main",
        "refs/tags/corr_abc123",
        "refs/tags/prompt_7a8b9c0d1e2f",
    }
