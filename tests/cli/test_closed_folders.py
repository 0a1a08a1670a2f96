"""What is said where a user may not look: a store, a target or a repository of somebody else."""

import os
import shutil
import subprocess
import sys

import pytest

# Root may look everywhere, unless the rights to do so are taken off.
_WITHOUT_RIGHTS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
)

pytestmark = pytest.mark.skipif(
    bool(_WITHOUT_RIGHTS) and shutil.which("setpriv") is None, reason="root may read every folder"
)


@pytest.fixture
def closed(place):
    """A folder that may not be entered."""
    folder = place / "closed"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def run(*words, folder="."):
    done = subprocess.run(
        [*_WITHOUT_RIGHTS, sys.executable, "-m", "cli", *map(str, words)],
        cwd=folder,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("folder", [".", "below"])
@pytest.mark.parametrize(
    "words",
    [[], ["list"], ["export"], ["commit", "-w", "w", "-t", "t", "-c", "c", __file__]],
    ids=["overview", "list", "export", "commit"],
)
def test_store_of_another_user_is_told_as_such(place, words, folder):
    (place / "below").mkdir()
    store = place / ".cas"
    store.mkdir()
    store.chmod(0)
    try:
        code, said = run(*words, folder=place / folder)
    finally:
        store.chmod(0o700)
    assert (code, said) == (6, f"error: no permission to use {store}\n")


@pytest.mark.parametrize(
    "words",
    [
        ["init", "--store", "{}/store"],
        ["checkout", "latest", "{}/out"],
        ["backup", "{}/out"],
        ["restore", "{}/backup", "--store", "restored"],
        ["demo", "--dir", "{}/demo"],
        ["export", "--repo", "{}/repository", "--store", ".cas"],
        ["revert", "corr_abc123", "--repo", "{}/repository", "--store", ".cas"],
    ],
    ids=lambda words: words[0],
)
def test_folder_that_may_not_be_entered_is_told_as_such(store, commit, closed, words):
    commit()
    code, said = run(*(word.format(closed) for word in words))
    assert (code, str(closed) in said, "ermission" in said) == (6, True, True), said


def test_healing_goes_on_without_a_repository_that_may_not_be_entered(store, commit, closed):
    commit()
    code, said = run("verify", "--heal", "--repo", closed / "repository", "--store", ".cas")
    assert (code, "git is not asked" in said) == (0, True), said
