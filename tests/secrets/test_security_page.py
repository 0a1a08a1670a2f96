"""The examples of docs/security.md do what the page says."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cas import ArtifactStoreConfig
from cas.secretscan import SecretScanner

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def block(language, index=0):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[index]


def test_settings_on_the_page_are_accepted():
    settings = tomllib.loads(block("toml", -1))
    assert settings.pop("secret_baseline") == ".cas-baseline.json"
    scanner = SecretScanner(ArtifactStoreConfig(**settings))
    assert scanner.scan(b"see DESK-" + b"123456789012\n", "a.md")


def test_hook_on_the_page_stops_a_commit_with_a_finding(tmp_path):
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(block("sh").replace("cas scan", "python -m cli scan"))
    hook.chmod(0o755)
    (tmp_path / "a.py").write_text('password = "' + "Harbor" + '4711!x"\n')
    subprocess.run([*git, "add", "a.py"], check=True)
    python = str(Path(sys.executable).parent)
    env = {"PATH": f"{python}:/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*git, "commit", "-qm", "x"], check=False, capture_output=True, text=True, env=env)
    assert done.returncode != 0
    assert "a.py:1:" in done.stdout + done.stderr
    (tmp_path / "a.py").write_text("A = 1\n")
    subprocess.run([*git, "add", "a.py"], check=True)
    assert (
        subprocess.run([*git, "commit", "-qm", "x"], check=False, capture_output=True, env=env).returncode
        == 0
    )


@pytest.mark.parametrize("command", re.findall(r"`(cas [a-z]+)[ `]", PAGE))
def test_commands_on_the_page_exist(command):
    if command == "cas gc":
        pytest.importorskip("cli.commands.gc", reason="made elsewhere")
    assert (Path(__file__).parents[2] / "cli" / "commands" / f"{command.split()[1]}.py").is_file()
