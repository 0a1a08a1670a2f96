"""The command itself, over the smallest module: mutants are tried in a copy, and the verdicts are kept."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.mutation.groups import ROOT

pytest.importorskip("mutmut", reason="the dependency group `mutation` is not installed")


@pytest.mark.parametrize("argument", ["cas/no_such_module.py", "cli/app.py", "--size=few"])
def test_command_with_a_wrong_argument_tries_nothing(argument):
    run = subprocess.run(
        [sys.executable, "-m", "tests.mutation", argument],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "usage:" in run.stderr


@pytest.mark.long
def test_command_tries_a_module_whole_and_then_its_survivors(tmp_path):
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns(".*", "build", "__pycache__")
    shutil.copytree(ROOT, project, ignore=ignored)
    for arguments, told in (
        (["cas/digest.py"], "3 of 3 mutants"),
        (["--survivors", "cas/digest.py"], "of 3 mutants"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "tests.mutation", *arguments],
            cwd=project, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told in run.stdout
    verdicts = json.loads((project / "build" / "mutation" / "verdicts.json").read_text())
    assert verdicts["whole"]["cas/digest.py"]["tried"] == 3
    assert verdicts["whole"]["cas/digest.py"]["killed"] == 3
