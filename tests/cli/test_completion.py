"""Completion: what is offered after TAB."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cli.app
from cas.lmdbenv import hold_alone


@pytest.fixture
def offered(cas, monkeypatch):
    """Completes a line as bash would ask for it."""

    def complete(line):
        words = line.split(" ")
        monkeypatch.setenv("_CAS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        ended = cas()
        assert ended.err == ""
        assert ended.code == 0
        monkeypatch.delenv("_CAS_COMPLETE")
        return ended.out.split()

    return complete


def test_completion_of_a_verb_offers_those_that_fit(offered):
    assert offered("cas c") == ["config", "commit", "cat", "checkout"]


def test_completion_of_verbs_loads_no_command(offered, monkeypatch):
    monkeypatch.setattr(cli.app, "load_verb", pytest.fail)
    assert "export" in offered("cas ex")


def test_completion_of_further_commands_offers_them(offered):
    assert offered("cas export ") == ["run", "status", "verify", "archive"]


def test_completion_of_a_ref_offers_ids_tags_and_branches(store, commit, offered):
    commit("one", "--prompt-hash", "7a8b9c0d1e2f")
    commit("two", content="2\n")
    assert offered("cas show ")[:3] == ["latest", "two", "one"]
    assert set(offered("cas show ")) >= {
        "corr_one",
        "corr_two",
        "prompt_7a8b9c0d1e2f",
        "ai/generated/wf_rsi/t1",
    }
    assert offered("cas show corr_o") == ["corr_one"]


def test_completion_during_a_compaction_offers_nothing_and_does_not_wait(store, commit, offered, place):
    commit("one")
    with hold_alone(place / ".cas"):
        assert offered("cas show o") == []
    assert offered("cas show o") == ["one"]


def test_completion_of_a_tag_and_a_branch_offers_each(store, commit, offered):
    commit("one")
    assert offered("cas revert ") == ["corr_one"]
    assert offered("cas revert corr_one --branch ") == ["main", "ai/generated/wf_rsi/t1"]


def test_completion_of_a_file_offers_the_names_of_that_run(store, commit, offered):
    commit("one")
    assert offered("cas cat one s") == ["strategy.py"]


def test_completion_of_a_workflow_offers_known_ones(store, commit, offered):
    commit("one", workflow="wf_swing")
    assert offered("cas list --workflow wf_") == ["wf_swing"]


def test_completion_looks_into_the_store_that_the_line_names(store, commit, offered, place, monkeypatch):
    commit("one")
    (place / "other").mkdir()
    monkeypatch.chdir(place / "other")
    assert offered("cas --store ../.cas revert ") == ["corr_one"]
    assert offered("cas revert --store ../.cas ") == ["corr_one"]


def test_completion_without_a_store_is_silent(offered):
    assert offered("cas show ") == ["latest"]
    assert offered("cas revert ") == []


def test_completion_with_a_broken_setting_is_silent(offered, place):
    (place / "cas.toml").write_text("nothing = 1\n")
    assert offered("cas revert ") == []


HOSTILE = (
    "a b",
    "x\x1b[31m",
    "$(touch${IFS}pwned)",
    "`id`",
    "x;id",
    "x'",
    'x"',
    "*",
    "{a,b}",
    "~root",
    "-n",
    "x\\y",
)


def test_completion_offers_nothing_that_a_shell_would_not_take_literally(store, commit, offered):
    for number, name in enumerate(HOSTILE):
        commit(name, content=f"{number}\n")
    commit("plain-1.5_x")
    ids = [each for each in offered("cas show ") if not each.startswith(("corr_", "ai/"))]
    assert ids == ["latest", "plain-1.5_x"]


@pytest.fixture
def shell(place, tmp_path, monkeypatch):
    """Runs a script in a shell that finds `cas` on its path."""
    program = tmp_path / "bin" / "cas"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(cli.app.__file__).parents[1]))

    def run(name, script, *words):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        done = subprocess.run([name, *words, "-c", script], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    return run


def test_bash_completes_verbs_tags_and_ids(store, commit, shell):
    commit("one")
    script = """
    eval "$(cas --show-completion bash)"
    ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cas_completion cas; echo "${COMPREPLY[@]}"; }
    ask cas che; ask cas revert corr_; ask cas show on
    """
    assert shell("bash", script, "--norc") == ["checkout", "corr_one", "one"]


def test_zsh_completes_verbs_tags_and_ids(store, commit, shell):
    commit("one")
    script = """
    autoload -Uz compinit; compinit -D
    eval "$(cas --show-completion zsh)"
    _arguments() { print -r -- "$@" }
    ask() { words=("$@"); CURRENT=$#; _cas_completion }
    ask cas che; ask cas revert corr_; ask cas show on
    """
    shown = " ".join(shell("zsh", script, "-f"))
    assert [name in shown for name in ('"checkout"', '"corr_one"', '"one"')] == [True] * 3


def test_fish_completes_verbs_tags_and_ids(store, commit, shell):
    commit("one")
    script = """
    cas --show-completion fish | source
    complete -C 'cas che' | cut -f 1; complete -C 'cas revert corr_'; complete -C 'cas show on'
    """
    assert shell("fish", script, "--no-config") == ["checkout", "corr_one", "one"]


def test_install_completion_writes_to_the_home_folder_only(cas, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    ended = cas.ok("--install-completion", "fish")
    script = tmp_path / "home" / ".config" / "fish" / "completions" / "cas.fish"
    assert str(script) in ended.out
    assert script.read_text().strip() == cas.ok("--show-completion", "fish").out.strip()


def test_completion_of_an_unknown_shell_names_the_known_ones(cas):
    ended = cas("--show-completion", "tcsh")
    assert ended.code == 2
    assert "bash, zsh, fish" in ended.err


def test_completion_of_topics_offers_them(offered):
    assert offered("cas help ex") == ["exit-codes", "export"]
