"""`cas scan`."""

import pytest


@pytest.fixture
def leak(place, credential):
    (place / "src").mkdir()
    (place / "src" / "clean.py").write_text("FAST = 5\n")
    (place / "src" / "leak.py").write_text(f'import os\npassword = "{credential}"\n')
    return place / "src" / "leak.py"


def test_scan_clean_file_is_ok(cas, leak):
    ended = cas.ok("scan", "src/clean.py")
    assert ended.out == ""
    assert "1 file scanned, 0 findings" in ended.err


def test_scan_finding_names_place_and_rule_but_no_value(cas, leak, credential):
    ended = cas("scan", "src")
    assert ended.code == 5
    assert ended.out.startswith("src/leak.py:2:")
    assert credential not in ended.out + ended.err


def test_scan_json_lists_findings(cas, leak):
    ended = cas("scan", "src", "--json")
    assert ended.code == 5
    assert ended.json["files"] == 2
    assert [(each["path"], each["line"]) for each in ended.json["findings"]] == [("src/leak.py", 2)]
    assert ended.err == ""


def test_scan_sarif_is_a_2_1_0_log(cas, leak, credential):
    ended = cas("scan", "src", "--sarif")
    assert ended.code == 5
    run = ended.json["runs"][0]
    assert ended.json["version"] == "2.1.0"
    (result,) = run["results"]
    assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    location = result["locations"][0]["physicalLocation"]
    assert (location["artifactLocation"]["uri"], location["region"]["startLine"]) == ("src/leak.py", 2)
    assert credential not in ended.out


def test_scan_baseline_waives_what_was_looked_at_and_nothing_else(cas, leak, place, credential):
    cas.ok("scan", "src", "--write-baseline", "base.json")
    assert credential not in (place / "base.json").read_text()
    cas.ok("scan", "src", "--baseline", "base.json")
    leak.write_text(leak.read_text() + f'token = "{credential[::-1]}9f3"\n')
    ended = cas("scan", "src", "--baseline", "base.json", "--json")
    assert ended.code == 5
    assert [each["line"] for each in ended.json["findings"]] == [3]


def test_scan_baseline_serves_the_commit_as_well(store, leak):
    store.ok("scan", "src", "--write-baseline", "base.json")
    words = ("commit", "-w", "w", "-t", "t", "-c", "c", "src/leak.py")
    assert store(*words).code == 5
    store.ok(*words, "-o", "secret_baseline=base.json")


def test_scan_inline_mark_waives_its_line(cas, leak, credential):
    leak.write_text(f'password = "{credential}"  # cas: allow-secret\n')
    cas.ok("scan", "src")


def test_scan_leaves_git_stores_and_links_alone(cas, leak, place):
    (place / "tree" / ".git").mkdir(parents=True)
    (place / "tree" / ".git" / "config").write_text(leak.read_text())
    (place / "tree" / "link.py").symlink_to(leak)
    assert cas.ok("scan", "tree", "--json").json["files"] == 0


def test_scan_missing_file_is_an_error_not_a_clean_file(cas, place):
    ended = cas("scan", "nothing.py")
    assert ended.code == 4
    assert "nothing.py" in ended.err


def test_scan_path_that_no_file_can_have_is_an_error_and_no_defect(cas):
    ended = cas("scan", "x" * 300)
    assert (ended.code, "File name too long" in ended.err) == (4, True)


def test_scan_secret_across_chunks_is_found(cas, place, credential):
    from cli.commands.scan import _CHUNK_BYTES

    line = f'password = "{credential}"\n'
    (place / "long.py").write_text("#" * (_CHUNK_BYTES - 12) + "\n" + line)
    assert cas("scan", "long.py", "--json").json["findings"][0]["line"] == 2
