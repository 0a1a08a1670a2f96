"""Repositories to move refs in: git as a person uses it, what it holds, what must not be left behind."""

from __future__ import annotations

import os
import subprocess

from gitexport.packedrefs import HEADER

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "LC_ALL": "C",
}
BRANCH = "refs/heads/ai/generated/w/t"


def git(directory, *args, stdin="", check=True):
    done = subprocess.run(
        ["git", *args],
        cwd=directory,
        env=CLEAN,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip() if check else done.returncode


def commit(directory, text="x", *parents):
    tree = git(directory, "mktree")
    return git(directory, "commit-tree", tree, *(word for p in parents for word in ("-p", p)), stdin=text)


def tag(directory, target):
    text = f"object {target}\ntype commit\ntag t\ntagger a <a@example.com> 1 +0000\n\nm\n"
    return git(directory, "mktag", stdin=text)


def packed(repo):
    path = repo.common_dir / "packed-refs"
    return path.read_text() if path.exists() else ""


def loose(repo):
    return sorted(
        str(p.relative_to(repo.common_dir)) for p in (repo.common_dir / "refs").rglob("*") if p.is_file()
    )


def values(repo):
    return {name: value.oid for name, value in repo.list_refs().items()}


def leftovers(repo):
    names = [
        path.name
        for path in repo.common_dir.rglob("*")
        if path.suffix in {".lock", ".journal", ".cas", ".new"}
    ]
    return sorted(names)


def hook(repo, name, script):
    path = repo.git_dir / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def fill_packed(repo, count, oid):
    """Put so many tags into ``packed-refs``, as git would have left it."""
    lines = sorted(f"{oid} refs/tags/filling_{number:060d}\n" for number in range(count))
    (repo.common_dir / "packed-refs").write_bytes(HEADER + "".join(lines).encode())
