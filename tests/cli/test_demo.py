"""`cas demo`."""

import subprocess
import sys

from cli.story import make_run


def test_demo_story_agrees_everywhere_and_can_be_looked_at(cas, place, git, monkeypatch):
    document = cas.ok("demo", "--dir", "d", "--runs", "4", "--json").json
    assert document["ok"] is True
    assert document["export"]["pushed"] == document["export"]["exported"] == 5
    assert document["export_verify"]["not_exported"] == 0
    assert git("fsck", "--strict", folder="d/remote.git") == ""
    monkeypatch.chdir(place / "d")
    assert [run["correlation_id"] for run in cas.ok("list", "--json").json["runs"]] == [
        f"demo{number:04d}" for number in (3, 2, 1, 0)
    ]
    assert cas.ok("log", "main", "--json").json["steps"][0]["export_state"] == "pushed"
    assert cas.ok("export", "verify", "--remote").code == 0


def test_demo_tells_what_happened_and_where_to_look(cas, place):
    out = cas.ok("demo", "--dir", "d", "--runs", "2").out
    assert "committed  2 runs" in out
    assert "store, repository and remote agree" in out
    assert f"cd {place / 'd'}" in out


def test_demo_full_folder_is_left_alone(cas, place):
    (place / "mine").write_text("keep")
    ended = cas("demo", "--dir", ".")
    assert ended.code == 4
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_story_same_number_gives_the_same_run():
    assert make_run(3) == make_run(3)
    assert make_run(3) != make_run(4)


def test_story_needs_no_backtesting_package():
    code = "import sys, cli.story; cli.story.make_run(1); sys.exit('backtesting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
