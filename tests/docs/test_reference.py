"""What the code has is documented, and what is documented the code has."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest

from cas import ArtifactStoreConfig, errors
from cas.exposition import NAMES
from cas.lmdbenv import faults
from cli import settings
from cli.app import VERBS, root_command
from cli.failures import EXIT_CODES
from cli.verbs import load_verb
from gitexport.git import MINIMUM_VERSION
from tests.docs.pages import PAGES, ROOT

DOCS = ROOT / "docs"
SOURCES = [path for package in ("cas", "gitexport", "cli") for path in (ROOT / package).rglob("*.py")]


def page(name):
    return (DOCS / f"{name}.md").read_text()


def section(text, title):
    """Return a page's text from a heading to the next one of that level."""
    level = title.partition(" ")[0]
    found = re.search(
        rf"^{re.escape(title)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"there is a heading {title!r}"
    return found[1]


def first_cells(text):
    return re.findall(r"^\| `?([^|`]+?)`? \|", text, re.MULTILINE)[2:]


def test_generated_parts_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), "run `make docs`"


def test_settings_are_those_of_the_configuration():
    documented = first_cells(section(page("configuration"), "## Settings"))
    assert documented == [field.name for field in dataclasses.fields(ArtifactStoreConfig)]


def test_variables_are_those_that_are_read():
    read = set(re.findall(r'\.get\("([A-Z_]+)"', (ROOT / "cli" / "settings.py").read_text()))
    documented = set(first_cells(section(page("configuration"), "## Other variables")))
    assert documented == read | {settings.CONFIG_VARIABLE}


def test_commands_are_those_of_the_command_line():
    commands = {"cas", *(f"cas {name}" for name in VERBS)}
    commands |= {
        f"cas {name} {inner}" for name in VERBS for inner in getattr(load_verb(name), "commands", {})
    }
    assert set(re.findall(r"^#{3,4} `(cas[^`]*)`$", page("cli"), re.MULTILINE)) == commands


@pytest.mark.parametrize("name", ["", *VERBS])
def test_options_of_a_command_are_documented_and_no_others(name):
    command = load_verb(name) if name else root_command()
    text = section(page("cli"), f"### `cas{' ' * bool(name)}{name}`")
    everywhere = section(page("cli"), "### Options of every command")
    known = {
        option
        for each in (command, *getattr(command, "commands", {}).values())
        for param in each.params
        if param.param_type_name == "option"
        for option in (*param.opts, *param.secondary_opts)
    }
    shown = set(re.findall(r"--?[a-z][a-z-]*", " ".join(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))))
    assert shown <= known
    assert {option for option in known if option.startswith("--")} <= shown | set(
        re.findall(r"--[a-z-]+", everywhere)
    )


def test_exit_codes_are_those_of_the_table():
    assert first_cells(section(page("cli"), "## Exit codes")) == [str(row.code) for row in EXIT_CODES]


def test_metrics_are_those_that_are_exposed():
    documented = set(first_cells(section(page("operations"), "### Metrics")))
    parts = {f"cas_commit_duration_seconds_{part}" for part in ("bucket", "count", "sum")}
    assert documented == (NAMES - parts) | {"cas_commit_duration_seconds"}


def kinds_in_the_code():
    found = {getattr(errors, name).kind for name in errors.__all__}
    found |= {kind for kind, *_ in faults._PLAIN.values()}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            values = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
            if isinstance(node.func, ast.Name) and node.func.id == "_say":
                values.append(node.args[2])
            is_error = path.parts[-2:] == ("cli", "report.py") or ast.unparse(node.func).endswith("Error")
            found |= {value.value for value in values if is_error and isinstance(value, ast.Constant)}
    return found


def test_kinds_of_errors_are_explained_and_no_others():
    explained = re.findall(r"^### `(\w+)`$", page("troubleshooting"), re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) == kinds_in_the_code()


def test_every_kind_has_a_next_step():
    for kind, text in re.findall(
        r"^### `(\w+)`\n(.*?)(?=^##|\Z)", page("troubleshooting"), re.DOTALL | re.MULTILINE
    ):
        assert "Next:" in text, kind


@pytest.mark.parametrize("module", ["cas", "gitexport", "cas.events", "cas.testing"])
def test_public_names_are_documented_and_no_others(module):
    public = set(importlib.import_module(module).__all__)
    text = page("api")
    documented = set(re.findall(rf"^### `{re.escape(module)}\.(\w+)`$", text, re.MULTILINE))
    errors_documented = set(first_cells(section(text, "## Errors"))) if module == "cas" else set()
    assert documented | (public & errors_documented) == public
    assert errors_documented in (set(), set(errors.__all__))


def test_every_module_is_on_the_architecture_page_and_no_others():
    text = section(page("architecture"), "## Every module")
    documented = {
        f"{folder}/{name}"
        for folder, table in re.findall(
            r"^### `([\w/]+)/`\n(.*?)(?=^### |\Z)", text, re.DOTALL | re.MULTILINE
        )
        for name in first_cells(table)
    }
    assert documented == {str(path.relative_to(ROOT)) for path in SOURCES}
    told = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| `")]
    assert all(re.fullmatch(r"[\w`].*[.?;:] ?\|", line) for line in told)


def test_the_drawing_of_the_architecture_names_rooms_that_exist():
    drawing = re.findall(r"^```\n(.*?)^```", page("architecture"), re.DOTALL | re.MULTILINE)[0]
    rooms = {path.name for path in SOURCES} | {f"{path.parent.name}/" for path in SOURCES}
    drawn = set(re.findall(r"\b\w+\.py\b", drawing)) | set(
        re.findall(r"(?:^|  )(\w+/)", drawing, re.MULTILINE)
    )
    assert len(drawn) > 80
    assert drawn - {"generate.py", "docs/"} <= rooms
    assert {f"{path.parent.name}/" for path in SOURCES} - {"commands/"} <= drawn


def test_readme_lists_every_extra_and_the_least_git():
    readme = (ROOT / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(first_cells(section(readme, "## Install"))) == set(project["optional-dependencies"])
    assert f"git {'.'.join(map(str, MINIMUM_VERSION))} or newer" in readme
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in readme


def test_index_lists_every_page():
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", page("README")))
    assert listed == {path.name for path in DOCS.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_between_pages_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), f"{path.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{path.name} links to {target}#{anchor}"
