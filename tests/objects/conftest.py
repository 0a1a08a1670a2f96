"""Scratch git repositories of both formats for the object tests."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cas.config import ObjectFormat


class ScratchRepository:
    """A bare repository that knows nothing of the user's configuration."""

    def __init__(self, path: Path, object_format: ObjectFormat) -> None:
        self.path = path
        self.object_format: ObjectFormat = object_format
        path.mkdir()
        self.git("init", "--quiet", "--bare", f"--object-format={object_format}", ".")

    def run(
        self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, bytes]:
        """Run git; returns exit code, output, errors."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        clean |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C", **(env or {})}
        done = subprocess.run(
            ["git", *args], input=stdin, env=clean, cwd=self.path, capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def git(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Run git, which must succeed; returns its output."""
        code, out, err = self.run(*args, stdin=stdin, env=env)
        assert code == 0, err.decode("utf-8", "replace")
        return out

    def write(self, kind: str, data: bytes) -> str:
        """Store an object as it is, unchecked; returns the oid git gives it, hexadecimal."""
        return (
            self.git("hash-object", "-w", "--literally", "-t", kind, "--stdin", stdin=data).decode().strip()
        )

    def fsck(self) -> None:
        """Fail unless every object of the repository passes git's strict check."""
        code, out, err = self.run("fsck", "--strict", "--full", "--no-dangling")
        assert (code, out) == (0, b""), out + err


@pytest.fixture(scope="session", params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScratchRepository:
    """A repository that all tests of one format share; they only add objects."""
    folder: Path = tmp_path_factory.mktemp(f"objects-{request.param}")
    return ScratchRepository(folder / "repo.git", request.param)


@pytest.fixture(params=["sha1", "sha256"])
def fresh_repository(request: pytest.FixtureRequest, tmp_path: Path) -> ScratchRepository:
    """A repository of the test's own, for whole-repository checks."""
    return ScratchRepository(tmp_path / "repo.git", request.param)
