"""The systemd units that are shipped: the pages show exactly them, and they say what the command means."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cas import ArtifactStoreConfig
from cli.failures import EXPORT_PENDING

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UNITS = sorted((DOCS / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]


def read(path):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


def shown():
    """Return the units that the pages show, by name."""
    pages = [(DOCS / name).read_text() for name in ("operations.md", "orchestrator.md")]
    blocks = re.compile(r"```ini\n# /etc/systemd/system/([\w.-]+)\n(.*?)```", re.DOTALL)
    return {name: body for page in pages for name, body in blocks.findall(page)}


def test_pages_show_the_units_that_are_shipped():
    assert shown() == {path.name: path.read_text() for path in UNITS}


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_service_runs_a_command_that_there_is_and_gives_it_time_to_end(path):
    service = read(path)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/.venv/bin/cas")
    done = subprocess.run(
        [sys.executable, "-m", "cli", words[0], "--help"],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words if word.startswith("--"))
    if "TimeoutStopSec" in service:
        assert float(service["TimeoutStopSec"]) > ArtifactStoreConfig().push_timeout


def test_nightly_export_that_leaves_a_rest_queued_is_no_failure():
    service = read(DOCS / "systemd" / "cas-export-nightly.service")["Service"]
    assert int(service["SuccessExitStatus"]) == EXPORT_PENDING
    assert (DOCS / "systemd" / "cas-export-nightly.timer").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_has_no_setting_that_systemd_does_not_know(path, tmp_path):
    for unit in UNITS:  # the program is where the unit says on the user's machine only
        (tmp_path / unit.name).write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / path.name], capture_output=True, check=False, text=True
    )
    assert "Unknown" not in done.stderr
    assert "Failed to parse" not in done.stderr
