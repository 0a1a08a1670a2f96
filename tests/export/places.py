"""Places to export from and to: a store with the runs it promised, repositories, git, what must not be left behind."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from pathlib import Path

from gitexport import Exporter
from gitexport.repository import GitRepository

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.com",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.com",
    "LC_ALL": "C",
}
START_NS = 1_767_225_600_000_000_000


def run_git(folder, *words, stdin="", env=None):
    """Run git as a person would and return what it printed."""
    done = subprocess.run(
        ["git", *map(str, words)],
        cwd=folder,
        env=CLEAN | (env or {}),
        input=stdin,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"git {words}: {done.stderr}"
    return done.stdout.strip()


def format_words(ref_format):
    """Return the words by which ``git init`` makes a repository of a ref format."""
    return [] if ref_format == "files" else [f"--ref-format={ref_format}"]


def refs_of(folder):
    """Return every ref of a repository, name to oid."""
    listed = run_git(folder, "for-each-ref", "--format=%(refname) %(objectname)")
    return dict(line.split(" ") for line in listed.splitlines())


def leftovers(folder):
    """Return what a finished export must not leave in a repository."""
    return [
        str(path)
        for path in Path(folder).rglob("*")
        if path.name.startswith(("tmp_", "cas_pack_", "cas_idx_", "cas_keep_", "cas_lock_", "cas-push-"))
        or path.suffix in {".lock", ".keep", ".journal", ".cas"}
        if ".cas" not in path.parent.parts
    ]


def assert_sound(folder):
    """Check that git finds nothing wrong and that nothing is left behind."""
    git_dir = run_git(folder, "rev-parse", "--absolute-git-dir")
    assert leftovers(git_dir) == []
    assert GitRepository.open(folder).fsck_strict() == ()


class Clock:
    """A clock that moves a second each time it is asked, so that no two commits have one time."""

    def __init__(self):
        self.now_ns = START_NS

    def __call__(self):
        self.now_ns += 1_000_000_000
        return self.now_ns


@dataclasses.dataclass
class Place:
    """A store, the repository it is exported to, and the runs that were promised."""

    store: object
    path: object
    promised: dict = dataclasses.field(default_factory=dict)

    def commit(self, task="t1", correlation_id=None, *, files=None, workflow="wf", prompt=None, **metadata):
        """Store a run and remember the ids it was promised."""
        correlation_id = correlation_id or f"c{len(self.promised)}"
        files = files or {"strategy.py": b"FAST = 5\n", "trades.csv": f"x,y\n{correlation_id},2\n".encode()}
        result = self.store.commit_artifacts(workflow, task, files, metadata, correlation_id, prompt)
        self.promised[result["commit_sha"]] = result
        return result

    def export(self, **settings):
        settings = {"push": False} | settings
        return Exporter(self.store, repository=self.path).run(**settings)

    def git(self, *words, **settings):
        return run_git(self.path, *words, **settings)

    def refs(self):
        return refs_of(self.path)

    def state(self, result):
        return self.store.export_status(result["correlation_id"], revision=result["revision"])

    def assert_exported(self, folder=None):
        """Check that every promised commit is reachable under its branch, and every tag leads to its commit."""
        folder = folder or self.path
        refs = refs_of(folder)
        for sha, result in self.promised.items():
            tip = refs[f"refs/heads/{result['branch']}"]
            run_git(folder, "merge-base", "--is-ancestor", sha, tip)
            for tag in result["tags"]:
                assert run_git(folder, "rev-parse", f"refs/tags/{tag}^{{commit}}") == sha
        own = [
            name
            for name in refs
            if name.startswith(("refs/heads/ai/", "refs/tags/corr_", "refs/tags/prompt_"))
        ]
        branches = {f"refs/heads/{result['branch']}" for result in self.promised.values()}
        tags = {f"refs/tags/{tag}" for result in self.promised.values() for tag in result["tags"]}
        assert sorted(own) == sorted(branches | tags)
        assert_sound(folder)


def hook(folder, name, script):
    """Install a hook in a bare repository."""
    path = folder / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def digest_of_tree(folder):
    """Return a digest of every file below a folder, by relative name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }
