"""`cas help`, and what every command's help holds."""

import re
from pathlib import Path

import pytest

import cli.commands
from cas import ArtifactStoreConfig
from cli.app import VERBS
from cli.failures import EXIT_CODES
from cli.topics import TOPICS
from cli.verbs import load_verb

COMMANDS = [(name,) for name in VERBS] + [
    (name, inner) for name in VERBS for inner in getattr(load_verb(name), "commands", {})
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command_explains_and_shows_examples(cas, words):
    text = cas.ok(*words, "--help").out
    assert text.startswith(f"Usage: cas {' '.join(words)}")
    assert "Examples:" in text
    assert f"\n    cas {words[0]}" in text or f" cas {words[0]}" in text.partition("Examples:")[2]
    assert "Options of every command:" in text
    for switch in ("--json", "--quiet", "--lock-wait", "--store", "--repo", "--config", "--option"):
        assert switch in text


@pytest.mark.parametrize("words", [(), *COMMANDS], ids=" ".join)
def test_help_fits_80_columns_and_breaks_no_word_that_is_to_be_typed(cas, words):
    lines = cas.ok(*words, "--help").out.splitlines()
    assert [line for line in lines if len(line) > 80 or line.endswith("-")] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_every_option_and_argument_is_described(words):
    command = load_verb(words[0])
    for inner in words[1:]:
        command = command.commands[inner]
    undescribed = [param.name for param in command.params if not getattr(param, "help", None)]
    assert undescribed == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_brackets_of_the_usage_are_single_and_closed(cas, words):
    text = cas.ok(*words, "--help").out
    usage, _, rest = text.partition("\n\n")
    assert "[[" not in usage
    assert "]]" not in usage
    arguments = rest.partition("Arguments:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  \S*[\[\]]\S*", arguments, re.MULTILINE) == []


@pytest.mark.parametrize("name", VERBS)
def test_help_line_of_the_list_is_the_first_of_the_command(name):
    first_line = load_verb(name).help.partition("\n")[0]
    assert first_line.startswith(VERBS[name].summary.removesuffix("."))


def test_help_alone_is_the_list_with_the_topics(cas):
    text = cas.ok("help").out
    assert cas.ok("--help").out.splitlines()[0] in text
    assert all(topic in text for topic in TOPICS)


def test_help_of_a_verb_is_its_own_help(cas):
    assert cas.ok("help", "commit").out == cas.ok("commit", "--help").out


def test_help_exit_codes_lists_the_table(cas):
    text = cas.ok("help", "exit-codes").out
    for code, name, _ in EXIT_CODES:
        assert f"{code:>3}  {name} " in text


def test_help_config_lists_every_setting(cas):
    text = cas.ok("help", "config").out
    assert [key for key in ArtifactStoreConfig.__slots__ if f"\n  {key}  [" not in text] == []


def test_help_json_names_every_command_of_long_work(cas):
    """Long work is what shows progress, so each such command writes JSON Lines."""
    folder = Path(cli.commands.__file__).parent
    showing = {path.stem for path in folder.glob("*.py") if "progress() as progress" in path.read_text()}
    text = cas.ok("help", "json").out.partition("Long work is")[2].partition(".")[0]
    assert set(re.findall(r"\w+", text)) & set(VERBS) == showing | {"scan"}


@pytest.mark.parametrize("topic", TOPICS)
def test_help_topic_fits_80_columns(cas, monkeypatch, topic):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, cas.ok("help", topic).out.splitlines())) <= 80


def test_help_where_example_is_accepted_by_list(store):
    example = store.ok("help", "where").out.splitlines()[2].strip()
    store.ok("list", "--where", example)


def test_help_unknown_topic_says_what_there_is(cas):
    ended = cas("help", "nothing")
    assert ended.code == 3
    assert "`cas help` lists" in ended.err
