"""Wheel and sdist: the same bytes from the same sources, the right files and no others, metadata an index accepts."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from release.contents import main, sdist_faults, wheel_faults

pytest.importorskip("hatchling", reason="the build backend is not installed")
pytest.importorskip("hatch_fancy_pypi_readme", reason="the build backend's readme hook is not installed")

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("cas", "gitexport", "cli")
FOLDERS = (*PACKAGES, "docs", "tests", "benchmarks", "release")
FILES = ("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", ".gitignore")


def build(place, target, *kinds, hash_seed):
    options = [part for kind in kinds for part in ("-t", kind)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(target), *options]
    built = subprocess.run(command, check=False, cwd=place, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


def copy_sources(place, mode, modified_s):
    for name in FOLDERS:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, place / name)
    for path in place.rglob("*"):
        if path.is_file():
            path.chmod(mode)
        os.utime(path, (modified_s, modified_s))


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Two builds of the same sources in other folders, with other times, permissions and hash seeds."""
    made = []
    for name, mode, modified_s, seed in (
        ("one", 0o644, 1_600_000_000, "1"),
        ("two", 0o600, 1_700_000_001, "2"),
    ):
        place = tmp_path_factory.mktemp(name)
        copy_sources(place / "src", mode, modified_s)
        build(place / "src", place / "dist", "sdist", "wheel", hash_seed=seed)
        made.append(place / "dist")
    return made


@pytest.fixture(scope="module")
def wheel(builds):
    (path,) = builds[0].glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(builds):
    (path,) = builds[0].glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_two_builds_of_the_same_sources_are_the_same_bytes(builds):
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in builds)
    assert len(one) == 2
    assert one == two


def test_sdist_builds_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    build(source, tmp_path / "again", "wheel", hash_seed="3")
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_archives_hold_what_they_have_to_and_nothing_else(builds, wheel, sdist, capsys):
    assert main(builds[0]) == 0
    assert f"{wheel.name}: {wheel.stat().st_size:,} bytes" in capsys.readouterr().out
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in held if ".dist-info/" not in name} == sources
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources <= names


def test_archives_with_a_stray_or_missing_file_are_reported(wheel, sdist, tmp_path):
    spoilt = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(spoilt, "w") as target:
        for name in source.namelist():
            if name != "gitexport/py.typed":
                target.writestr(name, source.read(name))
        target.writestr("tests/test_stray.py", "")
    assert sorted(wheel_faults(spoilt)) == [
        "gitexport has no py.typed",
        "tests/test_stray.py is in the wheel",
    ]
    bare = tmp_path / sdist.name
    with tarfile.open(sdist) as source, tarfile.open(bare, "w:gz") as target:
        for member in source.getmembers():
            if not member.name.endswith("/LICENSE"):
                target.addfile(member, source.extractfile(member))
        target.addfile(tarfile.TarInfo("cas_gitexport-0/benchmarks/stray.py"))
    assert sorted(sdist_faults(bare)) == [
        "LICENSE is missing in the sdist",
        "benchmarks/stray.py is in the sdist",
    ]


def test_metadata_names_pythons_extras_licence_and_no_link_into_the_repository(metadata):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert metadata["License-Expression"] == "Apache-2.0"
    versions = {text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") if " :: 3." in text}
    assert versions == {"3.11", "3.12", "3.13", "3.14"}
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "## Quickstart" in text
    assert "](docs/" not in text
    assert "<!--" not in text


def test_metadata_version_is_that_of_the_source(metadata, wheel):
    from cas import __version__

    assert metadata["Version"] == __version__
    assert wheel.name == f"cas_gitexport-{__version__}-py3-none-any.whl"
