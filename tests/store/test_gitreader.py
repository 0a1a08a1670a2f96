"""Finding the reader of the git repository: by the entry point that the exporter declares, and only for a folder."""

import pytest

from cas import ArtifactStoreConfig, gitreader
from gitexport.branchreader import BranchReader


def test_installed_reader_is_made_from_the_configuration(tmp_path):
    found = gitreader.find_git_reader(ArtifactStoreConfig(repo_path=tmp_path))
    assert isinstance(found, BranchReader)
    assert found.branch_tip(tmp_path, "main") is None


def test_no_reader_is_looked_for_where_no_folder_is(tmp_path, monkeypatch):
    monkeypatch.setattr(gitreader.importlib.metadata, "entry_points", lambda **_: pytest.fail("looked for"))
    (tmp_path / "file").write_bytes(b"")
    for missing in ("nothing", "file"):
        assert gitreader.find_git_reader(ArtifactStoreConfig(repo_path=tmp_path / missing)) is None


def test_without_an_exporter_there_is_no_reader(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        gitreader.importlib.metadata, "entry_points", lambda **asking: asked.append(asking) or ()
    )
    assert gitreader.find_git_reader(ArtifactStoreConfig(repo_path=tmp_path)) is None
    assert asked == [{"group": "cas.git_reader"}]
