"""The page of licences and the part of the lock that an installation takes."""

import re
import tomllib
from pathlib import Path

import pytest

from release.closure import LOCK, extras, locked, needed_by
from release.licences import PAGE, page
from release.lockpart import lock_part

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names_of(requirements):
    return {re.split(r"[\[<>=;, ]", item)[0].lower().replace("_", "-") for item in requirements}


def test_page_lists_the_packages_of_the_lock_with_their_versions():
    rows = re.findall(r"^\| ([a-z0-9.-]+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    listed = {
        name: tuple(versions.split(", ")) for name, versions, _ in rows if name not in {"---", "package"}
    }
    assert listed == {name: package.versions for name, package in locked().items()}, "run make licences"


def test_page_knows_every_licence():
    assert "unknown here" not in PAGE.read_text()
    assert "not stated" not in PAGE.read_text()


def test_page_written_again_has_the_same_sections():
    headings = re.findall(r"^## .*$", PAGE.read_text(), re.MULTILINE)
    assert re.findall(r"^## .*$", page(), re.MULTILINE) == headings


def test_needed_always_holds_the_dependencies_and_what_they_need():
    always = needed_by(None)
    assert names_of(PROJECT["dependencies"]) <= always
    assert "gitdb" in always  # by GitPython
    assert not {"pytest", "ruff", "backtesting", "pandas"} & always


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_needed_by_an_extra_is_more_than_always(extra):
    assert extra in extras()
    assert needed_by(None) | names_of(PROJECT["optional-dependencies"][extra]) <= needed_by(extra)


def test_no_copyleft_licence_is_always_installed():
    packages = locked()
    licences = {name: packages[name].licence for name in needed_by(None)}
    assert [
        name for name, words in licences.items() if re.search(r"\bA?GPL|General Public", words or "")
    ] == []


def test_lock_part_keeps_entries_as_they_are():
    part = lock_part({"lmdb", "redis"})
    assert re.findall(r"^([a-z0-9-]+)==", part, re.MULTILINE) == ["lmdb", "redis"]
    assert "--hash=sha256:" in part
    assert all(line in LOCK.read_text().splitlines() for line in part.splitlines())
