"""Completion: what is offered after TAB."""

import pytest

import cli.app


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
    assert offered("cas export ") == ["run", "status", "verify"]


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


def test_completion_hostile_ids_are_not_offered(store, commit, offered):
    commit("a b")
    commit("x\x1b[31m", content="2\n")
    assert not any("\x1b" in each or each == "a" for each in offered("cas show "))


def test_completion_of_topics_offers_them(offered):
    assert offered("cas help ex") == ["exit-codes", "export"]
