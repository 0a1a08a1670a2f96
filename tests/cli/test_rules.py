"""Rules of the terminal's code: one printer, one reader of the environment, nothing heavy before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cli.app import VERBS

ROOT = Path(__file__).parent.parent.parent
CLI = ROOT / "cli"
SOURCES = sorted(CLI.rglob("*.py"))
HEAVY = ("cas", "gitexport", "rich", "lmdb", "git", "msgspec", "hyperscan", "tomllib", "json")


def names(path):
    return path.relative_to(CLI).as_posix()


def attributes(path):
    """Every dotted name in a file, such as ``os.environ``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", [path for path in SOURCES if names(path) != "settings.py"], ids=names)
def test_environment_is_read_in_settings_only(path):
    assert not {"os.environ", "os.environb", "os.getenv", "os.putenv"} & set(attributes(path))
    imported = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert not {"environ", "getenv", "tomllib"} & set(imported)


@pytest.mark.parametrize("path", [path for path in SOURCES if names(path) != "output.py"], ids=names)
def test_printing_is_done_in_output_only(path):
    tree = ast.parse(path.read_text())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in called
    assert not {"typer.echo", "typer.secho", "sys.stderr"} & set(attributes(path))


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_module_and_a_test_of_its_name(name):
    assert (CLI / "commands" / f"{name}.py").is_file()
    assert (ROOT / "tests" / "cli" / f"test_{name}.py").is_file()


def test_every_command_module_is_a_verb():
    assert {path.stem for path in (CLI / "commands").glob("*.py")} - {"__init__"} == set(VERBS)


def loaded_by(code):
    """The heavy packages that are loaded after running some code in a fresh interpreter."""
    program = f"import sys\n{code}\nprint(*sorted(set(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True
    )
    return {name for name in done.stderr.split() if name in HEAVY or name.startswith("cli.commands")}


def test_help_loads_nothing_of_the_store_and_no_command():
    assert loaded_by("from cli.app import main\nmain(['--help'])") <= {"json"}


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_loads_nothing_heavy(name):
    found = loaded_by(f"from cli.app import main\nmain([{name!r}, '--help'])")
    assert found <= {"cli.commands", f"cli.commands.{name}", "json"}
