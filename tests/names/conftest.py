"""A scratch git repository for the name tests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class RunGit(Protocol):
    """Runs git in the scratch repository and returns its output."""

    def __call__(self, *args: str, stdin: bytes = b"") -> bytes: ...


@pytest.fixture(scope="session")
def names_git(tmp_path_factory: pytest.TempPathFactory) -> RunGit:
    """A bare repository, with nothing of the user's configuration."""
    folder: Path = tmp_path_factory.mktemp("names") / "repo.git"
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}

    def run(*args: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", *args], input=stdin, env=env, cwd=folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
        return done.stdout

    folder.mkdir()
    run("init", "--quiet", "--bare", ".")
    return run
