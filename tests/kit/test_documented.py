"""Every Python example of docs/testing.md runs as it stands there, on what a wheel installs and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
WAIT_S = 120
# Fewer examples than a user would run; nothing else is changed.
BRIEF = """
from hypothesis import settings as _s
{name}.settings = _s(max_examples=2, stateful_step_count=8, deadline=None)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The packages as a wheel holds them, unpacked; the tests and benchmarks beside them are not there."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=WAIT_S)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


WHERE = """
import os as _os, cas as _cas
assert _cas.__file__.startswith(_os.environ["INSTALLED"]), _cas.__file__
"""


def test_first_example_is_five_lines():
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 5


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example_runs_as_documented(tmp_path, installed, index):
    source = EXAMPLES[index] + WHERE
    made = re.search(r"^(Test\w+) =", source, re.MULTILINE)
    script = tmp_path / "test_mine.py"
    script.write_text(source + (BRIEF.format(name=made[1]) if made else ""))
    command = (
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", script]
        if made
        else [sys.executable, script]
    )
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(installed),
                "INSTALLED": str(installed),
                "PATH": "/usr/bin:/bin",
                "HOME": str(tmp_path),
                "TMPDIR": place,
            },
            timeout=WAIT_S,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not made or "1 passed" in done.stdout
