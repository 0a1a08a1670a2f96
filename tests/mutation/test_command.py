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
def test_command_tries_a_module_whole_and_nothing_twice(tmp_path):
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns(".*", "build", "__pycache__")
    shutil.copytree(ROOT, project, ignore=ignored)
    (project / "tests" / "mutation" / "verdicts.json").unlink()
    for arguments, told in (
        (["cas/digest.py"], "3 to try, 0 tried before"),
        (["cas/digest.py"], "0 to try, 3 tried before"),
        (["--survivors", "cas/digest.py"], "0 to try"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "tests.mutation", *arguments],
            cwd=project, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told in run.stdout
    kept = json.loads((project / "tests" / "mutation" / "verdicts.json").read_text())["cas/digest.py"]
    assert kept["population"] == sum(len(numbers.split()) for numbers in kept["killed"].values()) == 3
    assert kept["survivors"] == {}
