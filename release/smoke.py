"""Installs the wheel and the sdist into clean environments, with every supported Python there is, and tries them.

    python -m release.smoke DIST

In each environment: the wheel alone, `pip check`, the README's quickstart as written, its commands at the terminal;
then all extras and their modules. Pythons are looked for on PATH, among pyenv's, and in the variable PYTHONS (paths).
For the others, and for other systems, pip is asked whether all dependencies have wheels. Needs the package index and
git, and nothing but the standard library, so that any supported Python can run it. Exit code 1 when anything failed.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

README: Final = Path(__file__).resolve().parent.parent / "README.md"
SUPPORTED: Final = ("3.11", "3.12", "3.13", "3.14")
# What an extra is there for; of one that is not named here only the installation is tried.
_MODULES: Final = {
    "sign": "cas.signing",
    "testing": "cas.testing",
    "redis": "cas.events.pubsub",
    "metrics": "prometheus_client",
    "demo": "backtesting",
}
_PLATFORMS: Final = {
    "Linux x86-64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "Linux ARM64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "macOS ARM64": ("macosx_14_0_arm64", "macosx_13_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64"),
}


def extras_of(wheel: Path) -> tuple[str, ...]:
    """Return the extras that a wheel offers."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return tuple(email.message_from_bytes(archive.read(name)).get_all("Provides-Extra") or ())


def pythons() -> dict[str, str]:
    """Return the supported Pythons that are here and run: version → path."""
    found: dict[str, str] = {}
    for path in _candidates():
        asked = subprocess.run(
            [path, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"],
            check=False,
            capture_output=True,
            text=True,
        )
        version = asked.stdout.strip()
        if asked.returncode == 0 and version in SUPPORTED:
            found.setdefault(version, path)
    return found


def _candidates() -> Iterator[str]:
    yield from os.environ.get("PYTHONS", "").split()
    yield sys.executable
    for version in SUPPORTED:
        if path := shutil.which(f"python{version}"):
            yield path
        yield from map(str, (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}"))


def try_archive(python: str, archive: Path, extras: Sequence[str]) -> None:
    """Install an archive into a clean environment and use it as the README says.

    Raises:
        RuntimeError: A step failed; the text says which, and the end of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="cas-smoke-") as name:
        place = Path(name)
        _run([python, "-m", "venv", str(place / "environment")], place)
        inside = str(place / "environment" / "bin" / "python")
        _run([inside, "-m", "pip", "install", "--quiet", str(archive)], place)
        _run([inside, "-m", "pip", "check"], place)
        _quickstart(inside, place / "python")
        _commands(place / "environment" / "bin", place / "terminal")
        if extras:
            wanted = f"{archive}[{','.join(extras)}]"
            _run([inside, "-m", "pip", "install", "--quiet", wanted], place)
            imports = "".join(f"import {_MODULES[extra]}\n" for extra in extras if extra in _MODULES)
            _run([inside, "-I", "-W", "ignore", "-c", imports], place)
            _run([inside, "-m", "pip", "check"], place)


def _quickstart(python: str, place: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    _make_repository(place)
    _run([python, "-I", "-c", code], place)


def _commands(programs: Path, place: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    block = next(block for block in blocks if "$ cas init" in block)
    _make_repository(place)
    (place / "strategy.py").write_text("print('buy')\n")
    (place / "trades.csv").write_text("time,side\n1,buy\n")
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ cas "):
            _run(["sh", "-c", f'PATH="{programs}:$PATH"; {line[2:]}'], place)


def _make_repository(place: Path) -> None:
    place.mkdir()
    _run(["git", "init", "--quiet"], place)


def _run(command: Sequence[str], place: Path) -> None:
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(command, check=False, cwd=place, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)[:300]}\n{(done.stdout + done.stderr)[-1500:]}")


def wheels_missing(version: str, tags: Sequence[str], wheel: Path) -> str:
    """Return why an installation from wheels alone is not possible, or an empty text."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    command += [f"--platform={tag}" for tag in tags]
    with tempfile.TemporaryDirectory() as target:
        command += [f"--target={target}", f"{wheel}[{','.join(extras_of(wheel))}]"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else " ".join(errors)[:300]


def main(dist: Path) -> int:
    """Try everything, print a line for each, and return how much failed."""
    (wheel,), (sdist,) = dist.resolve().glob("*.whl"), dist.resolve().glob("*.tar.gz")
    found = pythons()
    failed = 0
    tries = [(version, wheel, extras_of(wheel)) for version in found]
    tries.append((min(found), sdist, ()))
    for version, archive, extras in tries:
        kind = "sdist" if archive == sdist else "wheel"
        try:
            try_archive(found[version], archive, extras)
        except RuntimeError as error:
            failed += 1
            print(f"Python {version}, {kind}: FAILED\n{error}", flush=True)
        else:
            print(f"Python {version}, {kind}: installed, quickstart and commands ran", flush=True)
    for version in SUPPORTED:
        if version not in found:
            print(f"Python {version}: not here, not tried", flush=True)
        for system, tags in _PLATFORMS.items():
            why = wheels_missing(version, tags, wheel)
            failed += bool(why)
            print(
                f"Python {version}, {system}: {why or 'wheels for all dependencies and extras'}", flush=True
            )
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
