"""Engines that are programs: restic, borg and DVC, one snapshot of their kind for each run.

Each run costs one or more processes, as it costs a script that uses them. restic always encrypts; borg is told not to,
as this store does not either. DVC tracks a folder for each run, and git its small file, with a tag for each run, as its
manual shows. `beside` names the folders that are no part of the store: caches, and copies in a work tree.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import tools
from benchmarks.engines_git import create_repository, git, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.runs import StoredRun

_LOCK_WAIT_S: Final = 120


class Restic:
    """A restic repository in a folder, at its default compression; a snapshot per run, tagged with its ids."""

    def __init__(self, folder: Path, _room_bytes: int = 0) -> None:
        self._folder = folder
        self.beside = (folder / "cache",)
        self._environment = {
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD_FILE": str(folder / "password"),
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        if not (folder / "password").exists():
            (folder / "password").write_text(secrets.token_hex(16))
            self._run("init")

    def _run(self, *arguments: str) -> bytes:
        return tools.run("restic", *arguments, cwd=self._folder, environment=self._environment)

    def commit(self, run: StoredRun) -> None:
        """Back up the files of one run."""
        tags = [f"--tag={run.correlation_id}", f"--tag={run.workflow_id}", f"--tag={run.task_id}"]
        self._run("backup", "--quiet", *tags, *map(str, run.paths))

    def commit_all(self, runs: Sequence[StoredRun]) -> None:
        """Back up all runs as one snapshot."""
        listed = self._folder / "files"
        listed.write_text("".join(f"{path}\n" for run in runs for path in run.paths))
        self._run("backup", "--quiet", f"--files-from-verbatim={listed}")

    def newest(self, count: int) -> list[str]:
        """Return the correlation ids of the newest snapshots; restic can list all of them only."""
        found = json.loads(self._run("snapshots", "--json", "--no-lock"))
        found.sort(key=lambda snapshot: snapshot["time"], reverse=True)
        return [snapshot["tags"][0] for snapshot in found[:count]]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Restore one run's snapshot and return the folder of its files."""
        self._run(
            "restore", "latest", f"--tag={run.correlation_id}", f"--target={target}", "--quiet", "--no-lock"
        )
        return target / run.paths[0].parent.relative_to("/")

    def close(self) -> None:
        """Nothing is held."""


class Borg:
    """A borg repository without encryption, at its default compression; an archive per run."""

    def __init__(self, folder: Path, _room_bytes: int = 0) -> None:
        self._folder = folder
        self.beside = (folder / "base",)
        self._environment = {
            "BORG_REPO": str(folder / "repository"),
            "BORG_BASE_DIR": str(folder / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        if not (folder / "repository").exists():
            (folder / "base").mkdir()
            self._run("init", "--encryption=none")

    def _run(self, *arguments: str, cwd: Path | None = None) -> bytes:
        command = (*arguments[:1], f"--lock-wait={_LOCK_WAIT_S}", *arguments[1:])
        return tools.run("borg", *command, cwd=cwd or self._folder, environment=self._environment)

    def commit(self, run: StoredRun) -> None:
        """Make an archive of one run's files."""
        names = [path.name for path in run.paths]
        about = f"--comment={run.workflow_id}/{run.task_id}"
        self._run("create", about, f"::{run.correlation_id}", *names, cwd=run.paths[0].parent)

    def commit_all(self, runs: Sequence[StoredRun]) -> None:
        """Make one archive of all runs."""
        folders = [path.parent for run in runs for path in run.paths[:1]]
        above = Path(os.path.commonpath(folders))
        self._run("create", "::all", *(str(folder.relative_to(above)) for folder in folders), cwd=above)

    def newest(self, count: int) -> list[str]:
        """Return the names of the newest archives."""
        listed = self._run("list", "--short", f"--last={count}").decode().split()
        return listed[::-1]

    def restore(self, run: StoredRun, target: Path) -> Path:
        """Extract one run's archive."""
        target.mkdir(parents=True)
        self._run("extract", f"::{run.correlation_id}", cwd=target)
        return target

    def close(self) -> None:
        """Nothing is held."""


class Dvc:
    """DVC in a git work tree: a tracked folder per run, its small file committed and tagged by git."""

    def __init__(self, folder: Path, _room_bytes: int = 0) -> None:
        self._folder = folder / "project"
        self.beside = (folder / "site", self._folder / "runs")
        self._environment = {
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(folder / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(folder / "system"),
            "DVC_SITE_CACHE_DIR": str(folder / "site"),
        }
        if not self._folder.exists():
            self._folder.mkdir()
            create_repository(self._folder, bare=False)
            self._run("init")
            (self._folder / "runs").mkdir()
            git(self._folder, "commit", "--quiet", "--message=Begin")

    def _run(self, *arguments: str) -> bytes:
        return tools.run("dvc", *arguments, "--quiet", cwd=self._folder, environment=self._environment)

    def _copy(self, run: StoredRun) -> None:
        target = self._folder / "runs" / run.correlation_id
        target.mkdir()
        for path in run.paths:
            shutil.copyfile(path, target / path.name)

    def commit(self, run: StoredRun) -> None:
        """Copy the run into the work tree, track its folder, commit and tag."""
        self._copy(run)
        self._run("add", f"runs/{run.correlation_id}")
        git(self._folder, "add", "--", f"runs/{run.correlation_id}.dvc", "runs/.gitignore")
        git(self._folder, "commit", "--quiet", f"--message={message_of(run)}")
        git(self._folder, "tag", "--annotate", f"--message={message_of(run)}", run.correlation_id)

    def commit_all(self, runs: Sequence[StoredRun]) -> None:
        """Track the folder of all runs as one."""
        for run in runs:
            self._copy(run)
        self._run("add", "runs")
        git(self._folder, "add", "--", "runs.dvc", ".gitignore")
        git(self._folder, "commit", "--quiet", "--message=Add all runs")

    def newest(self, count: int) -> list[str]:
        """Return the newest tags: DVC leaves the history to git."""
        listed = git(
            self._folder,
            "for-each-ref",
            "--sort=-creatordate",
            f"--count={count}",
            "--format=%(refname:lstrip=2)",
            "refs/tags",
        )
        return listed.decode().split()

    def restore(self, run: StoredRun, _target: Path) -> Path:
        """Bring a run's folder back into the work tree."""
        shutil.rmtree(self._folder / "runs" / run.correlation_id)
        self._run("checkout", f"runs/{run.correlation_id}.dvc")
        return self._folder / "runs" / run.correlation_id

    def restore_all(self, runs: Sequence[StoredRun], _target: Path) -> list[Path]:
        """Bring all folders back by one command."""
        folders = [self._folder / "runs" / run.correlation_id for run in runs]
        for folder in folders:
            shutil.rmtree(folder)
        self._run("checkout")
        return folders

    def close(self) -> None:
        """Nothing is held."""
