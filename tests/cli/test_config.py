"""`cas config`."""

import tomllib

from cas import ArtifactStoreConfig


def settings(ended):
    return {key: (item["value"], item["origin"]) for key, item in ended.json["settings"].items()}


def test_config_show_has_every_setting_with_its_origin(cas, place, monkeypatch):
    (place / "cas.toml").write_text('branch_prefix = "ai/made"\n')
    monkeypatch.setenv("CAS_PUSH_TIMEOUT", "12")
    shown = settings(cas.ok("config", "show", "-o", "durability=group", "--repo", "r", "--json"))
    assert list(shown) == list(ArtifactStoreConfig.__slots__)
    assert shown["branch_prefix"] == ("ai/made", str(place / "cas.toml"))
    assert shown["push_timeout"] == (12, "CAS_PUSH_TIMEOUT")
    assert shown["durability"] == ("group", "-o durability")
    assert shown["repo_path"] == (str(place / "r"), "--repo")
    assert shown["auto_push"] == (True, "default")


def test_config_alone_shows_the_settings(cas):
    assert cas.ok("config").out == cas.ok("config", "show").out


def test_config_origin_column_is_shown_on_request(cas):
    assert "default" not in cas.ok("config", "show").out
    assert "default" in cas.ok("config", "show", "--origin").out


def test_config_origin_is_whole_at_80_columns_however_long_the_path_of_the_file(cas, place, monkeypatch):
    folder = place / "a_folder_with_a_long_name" / "and_one_more_below_it_with_a_longer_one"
    folder.mkdir(parents=True)
    pattern = ", ".join(f"**/folder_{number}/*.csv: rule-{number}" for number in range(9))
    (folder / "cas.toml").write_text(f'durability = "group"\nsecret_ignore = ["{pattern}"]\n')
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CAS_REQUIRE_CORRELATION_ID", "false")
    lines = cas.ok("config", "show", "--origin", "-o", "git_credential_helper=store").out.splitlines()
    assert lines[0] == f"cas.toml  {folder / 'cas.toml'}"
    assert max(map(len, lines[1:])) <= 80
    ends = {line.split()[0]: line.split()[-1] for line in lines[3:] if not line.startswith(" ")}
    assert ends["durability"] == "cas.toml"
    assert ends["require_correlation_id"] == "CAS_REQUIRE_CORRELATION_ID"
    assert ends["git_credential_helper"] == "git_credential_helper"
    assert ends["max_files"] == "default"
    assert "…" not in "".join(lines)
    assert all(f"rule-{number}" in "".join(lines) for number in range(9))


def test_config_switch_before_and_after_the_command_is_the_same(cas):
    after = cas.ok("config", "show", "-o", "max_files=7", "--json").out
    assert cas.ok("--json", "-o", "max_files=7", "config", "show").out == after


def test_config_init_writes_a_file_that_changes_nothing(cas, place):
    before = settings(cas.ok("config", "show", "--json"))
    cas.ok("config", "init")
    text = (place / "cas.toml").read_text()
    assert tomllib.loads(text) == {}
    assert all(f"#{key} =" in text for key in ArtifactStoreConfig.__slots__)
    assert settings(cas.ok("config", "show", "--json")) == before


def test_config_init_lines_without_their_mark_are_the_defaults(cas, place):
    before = settings(cas.ok("config", "show", "--json"))
    cas.ok("config", "init")
    lines = (place / "cas.toml").read_text().splitlines()
    values = [
        line[1:] for line in lines if line.startswith("#") and line[1:2].isalpha() and not line.endswith("=")
    ]
    (place / "cas.toml").write_text("\n".join(values) + "\n")
    after = settings(cas.ok("config", "show", "--json"))
    assert {key: value for key, (value, _) in after.items()} == {
        key: value for key, (value, _) in before.items()
    }


def test_config_init_keeps_an_existing_file(cas, place):
    (place / "cas.toml").write_text("max_files = 3\n")
    assert cas("config", "init").code == 4
    assert (place / "cas.toml").read_text() == "max_files = 3\n"


def test_config_show_masks_the_password_of_a_url(cas):
    words = ("config", "show", "-o", "on_exported_url=https://ci:hunter2@host/hook/hunter2?token=hunter2")
    for ended in (cas.ok(*words), cas.ok(*words, "--json")):
        assert "hunter2" not in ended.out
        assert "https://host/***" in ended.out
