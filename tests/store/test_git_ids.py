"""The commit id told by the store is the one git computes, from nothing but its own plumbing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from cas import gitform, records
from cas.signing import SshSigner
from tests.store.stores import FILES, METADATA, commit, open_store

MESSAGE = """Add artifacts for wf/task

Workflow: wf
Task: task
Correlation ID: corr_1
{extra}Test Metrics:
  total_trades: 12
  net_pnl: 120.5
  win_rate: 0.58
Agent: coder-v1.0
LLM: gpt-4
"""
PERSON = "algo-agent-bot <algo-agent@example.com>"


class Repository:
    def __init__(self, path, object_format):
        path.mkdir()
        self.path = path
        self.git("init", "--quiet", "--bare", f"--object-format={object_format}")

    def git(self, *arguments, stdin="", date_s=0):
        person = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (
                ("NAME", "algo-agent-bot"),
                ("EMAIL", "algo-agent@example.com"),
                ("DATE", f"{date_s} +0000"),
            )
        }
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            ["git", *arguments],
            input=data,
            env={**os.environ, **person},
            cwd=self.path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def write(self, data):
        return self.git("hash-object", "-w", "--stdin", stdin=data)

    def tree(self, entries):
        lines = [
            f"040000 tree {self.tree(entry)}\t{name}"
            if isinstance(entry, dict)
            else f"100644 blob {entry}\t{name}"
            for name, entry in entries.items()
        ]
        return self.git("mktree", stdin="\n".join(lines) + "\n")


def seconds_of(record):
    return record["created_at_us"] // 1_000_000


def run_tree(repository, store, ref, task="task"):
    files = {
        entry["name"]: repository.write(store.read_file(ref, entry["name"]))
        for entry in store.list_files(ref)
    }
    files["metadata.json"] = repository.write(store.read_file(ref, "metadata.json"))
    return repository.tree({"Backtest": {"codes": {task: files}}})


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_commit_sha_is_what_git_computes(tmp_path, object_format):
    repository = Repository(tmp_path / "git", object_format)
    with open_store(tmp_path / "store", object_format=object_format) as store:
        first = commit(store, prompt_hash="7a8b9c0d1e2f3a4b")
        second = commit(store, metadata={**METADATA, "note": "again"})
        parents, extra = [], "Prompt Hash: 7a8b9c0d1e2f3a4b\n"
        for result in (first, second):
            record = store.show(result["commit_sha"])
            tree = run_tree(repository, store, result["commit_sha"])
            sha = repository.git(
                *("commit-tree", tree, *parents, "-F", "-"),
                stdin=MESSAGE.format(extra=extra),
                date_s=seconds_of(record),
            )
            assert sha == result["commit_sha"]
            parents, extra = ["-p", sha], "Revision: 2\n"
        repository.git("fsck", "--strict")


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_tag_ids_are_what_git_computes(tmp_path, object_format):
    repository = Repository(tmp_path / "git", object_format)
    with open_store(tmp_path / "store", object_format=object_format) as store:
        result = commit(store, prompt_hash="7a8b9c0d1e2f3a4b")
        record = store.show("corr_1")
        with store.environment.read() as transaction:
            loaded, row = records.load(transaction, 1)
        commit_form = gitform.commit_form(loaded, row.tree_oid, None)
        assert (
            repository.git(
                "hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=commit_form.data
            )
            == (result["commit_sha"])
        )
        for tag, oid in row.tags:
            text = (
                f"object {result['commit_sha']}\ntype commit\ntag {tag}\n"
                f"tagger {PERSON} {seconds_of(record)} +0000\n\nAdd artifacts for wf/task\n"
            )
            assert repository.git("mktag", stdin=text) == oid.hex()


def test_nested_names_make_the_trees_git_makes(tmp_path):
    repository = Repository(tmp_path / "git", "sha1")
    names = ["a.txt", "a/b/c.txt", "a/b.txt", "a-b/x", "z", "sub/metadata.json", "\u00e9t\u00e9/caf\u00e9"]
    with open_store(tmp_path / "store", include_metadata=False) as store:
        result = commit(store, files={name: name.encode() for name in names})
        index = "".join(f"100644 {repository.write(name)}\tBacktest/codes/task/{name}\0" for name in names)
        repository.git("update-index", "-z", "--index-info", stdin=index)
        with store.environment.read() as transaction:
            _, row = records.load(transaction, 1)
        assert repository.git("write-tree") == row.tree_oid.hex()
        assert row.commit_oid.hex() == result["commit_sha"]


def test_awkward_ids_cannot_forge_lines_of_the_message(store):
    commit(
        store,
        "corr\nAgent: forged",
        workflow_id=" wf\u2028",
        task_id="t\x1b[31m",
        metadata={"llm_version": "a\nb"},
    )
    with store.environment.read() as transaction:
        loaded, _ = records.load(transaction, 1)
    lines = gitform.message(loaded).split("\n")
    assert lines == [
        'Add artifacts for " wf\\u2028"/"t\\u001b[31m"',
        "",
        'Workflow: " wf\\u2028"',
        'Task: "t\\u001b[31m"',
        'Correlation ID: "corr\\nAgent: forged"',
        'LLM: "a\\nb"',
        "",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        # Assigned in Unicode 15.1 and 16: printable for a new Python, not for an old one; the id must not depend on it.
        ("\u2ffc", "\u2ffc"),
        ("\U00010d40", "\U00010d40"),
        ("\u0378", "\u0378"),
        ("caf\u00e9 \u4e2d", "caf\u00e9 \u4e2d"),
        ("\u202eevil", '"\\u202eevil"'),
        ("end ", '"end "'),
        ("a\u00a0b", '"a\\u00a0b"'),
    ],
    ids=ascii,
)
def test_message_text_does_not_follow_the_pythons_unicode_version(text, written):
    assert gitform._line(text) == written


def test_signed_commit_is_accepted_by_git(tmp_path):
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    repository = Repository(tmp_path / "git", "sha1")
    with open_store(tmp_path / "store", git_signing_key=path) as store:
        results = [commit(store), commit(store, metadata=None)]
        for sequence, result in enumerate(results, 1):
            with store.environment.read() as transaction:
                loaded, row = records.load(transaction, sequence)
            data = gitform.commit_form(loaded, row.tree_oid, row.signature).data
            assert b"\ngpgsig -----BEGIN SSH SIGNATURE-----\n " in data
            sha = repository.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=data)
            assert sha == result["commit_sha"]
            if shutil.which("ssh-keygen"):
                signers = tmp_path / "signers"
                signers.write_text(f"algo-agent@example.com {SshSigner.open(path).public_key}\n")
                repository.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", sha)
        assert store.revert_to_tag("corr_1", "main")["created"]
        assert store.verify().ok


def test_commit_of_1970_is_valid_for_git(tmp_path):
    repository = Repository(tmp_path / "git", "sha1")
    with open_store(tmp_path / "store", clock=lambda: -5) as store:
        result = commit(store)
        assert (
            json.loads(store.read_file("corr_1", "metadata.json"))["commit_timestamp"]
            == "1970-01-01T00:00:00Z"
        )
        tree = run_tree(repository, store, "corr_1")
        assert result["commit_sha"] == repository.git(
            "commit-tree", tree, "-F", "-", stdin=MESSAGE.format(extra=""), date_s="@0"
        ), FILES
