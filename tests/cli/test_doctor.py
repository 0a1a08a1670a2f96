"""`cas doctor`."""

import json
import os

import pytest

from cas.lmdbenv import SUSPECT_FILE


def checks(ended):
    return {check["check"]: check for check in ended.json["checks"]}


def test_doctor_sound_place_has_no_fail(store, git):
    git("init", "--quiet")
    git("remote", "add", "origin", "https://user:pass@example.invalid/r.git")
    ended = store.ok("doctor", "--json")
    found = checks(ended)
    assert {check for check, each in found.items() if each["status"] == "fail"} == set()
    assert {"python", "lmdb", "git", "secret gate", "store", "disk", "repository", "export"} <= set(found)
    assert found["remote"]["status"] == "ok"
    assert "pass" not in found["remote"]["detail"]


@pytest.mark.parametrize(("store_format", "status"), [("sha256", "ok"), ("sha1", "fail")])
def test_doctor_compares_the_repository_with_the_store_and_not_with_the_setting(
    cas, git, store_format, status
):
    git("init", "--quiet", "--object-format=sha256")
    cas.ok("init", "-o", f"object_format={store_format}")
    found = checks(cas("doctor", "--json"))["repository"]
    assert found["status"] == status, found


def test_doctor_lines_name_check_and_status(store):
    out = store.ok("doctor").out
    assert "ok    python " in out
    assert "warn  repository " in out
    assert "git init" in out


def test_doctor_without_a_store_fails_with_the_next_command(cas):
    ended = cas("doctor", "--json")
    assert ended.code == 11
    assert ended.json["status"] == "fail"
    assert "cas init" in checks(ended)["store"]["hint"]


def test_doctor_mark_of_a_failed_write_is_a_fail(store, place):
    (place / ".cas" / SUSPECT_FILE).write_text("x")
    ended = store("doctor", "--json")
    assert ended.code == 11
    assert "cas verify --full" in checks(ended)["last write"]["hint"]


def test_doctor_open_permissions_are_a_warning(store, place):
    (place / ".cas").chmod(0o755)
    assert "chmod go=" in checks(store.ok("doctor", "--json"))["permissions"]["hint"]


def test_doctor_unusable_setting_is_a_result_not_an_error(store, place):
    (place / "cas.toml").write_text("nothing = 1\n")
    ended = store("doctor", "--json")
    assert ended.code == 11
    assert "'nothing'" in checks(ended)["settings"]["detail"]


def test_doctor_without_git_fails_and_the_rest_goes_on(store, spawn, tmp_path):
    environ = {**os.environ, "PATH": str(tmp_path)}
    process = spawn("doctor", "--json", env=environ)
    out, _ = process.communicate(timeout=60)
    found = {check["check"]: check for check in json.loads(out)["checks"]}
    assert process.returncode == 11
    assert found["git"]["status"] == "fail"
    assert found["store"]["status"] == "ok"
    for words in ((), ("stats",), ("export", "status")):
        process = spawn(*words, env=environ)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err


@pytest.mark.parametrize(
    ("words", "check", "text"),
    [
        (("-o", "scan_for_secrets=false"), "secret gate", "switched off"),
        (("-o", "auto_push=false"), "remote", "auto_push is off"),
    ],
)
def test_doctor_setting_shows_in_its_line(store, words, check, text):
    assert text in checks(store.ok("doctor", *words, "--json"))[check]["detail"]
