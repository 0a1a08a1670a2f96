"""Writes the software bill of materials (CycloneDX, JSON) of an installation with all extras.

    python -m release.sbom DIST CYCLONEDX_PY

The locked packages are installed into an environment of their own, with the wheel, and cyclonedx-py describes it:
names, versions, licences and who needs whom. Invariant: the same lock gives the same file. Needs the package index.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from release.closure import DISTRIBUTION, PROJECT, extras, needed_by
from release.lockpart import lock_part

_PLACE: Final = PROJECT / "build" / "sbom"


def main(dist: Path, cyclonedx: str) -> Path:
    """Write the file into ``dist``, beside the wheel that is there, and return its path."""
    (wheel,) = dist.glob("*.whl")
    shutil.rmtree(_PLACE, ignore_errors=True)
    _PLACE.mkdir(parents=True)
    environment = _PLACE / "environment"
    venv.create(environment)  # without pip, which would be listed
    part = _PLACE / "requirements.txt"
    part.write_text(lock_part(needed_by(None).union(*map(needed_by, extras()))))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin" / "python"),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(part)], check=True)
    subprocess.run([*pip, str(wheel)], check=True)
    about = _PLACE / "pyproject.toml"
    about.write_text(_root(wheel.name.split("-")[1]))
    target = dist / f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.cdx.json"
    options = ["--pyproject", str(about), "--output-reproducible", "--of", "JSON", "-o", str(target)]
    subprocess.run([cyclonedx, "environment", *options, str(environment / "bin" / "python")], check=True)
    return target


def _root(version: str) -> str:
    """Return a description of this project with its version, which pyproject.toml takes from the source."""
    about = importlib.metadata.metadata(DISTRIBUTION)
    fields = {"name": DISTRIBUTION, "version": version, "description": about["Summary"]}
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    needs = [text for text in importlib.metadata.requires(DISTRIBUTION) or [] if "extra ==" not in text]
    return "\n".join(["[project]", *lines, f"dependencies = {json.dumps(needs)}"]) + "\n"


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2]))
