"""Settings: order of precedence, paths, types, unknown keys."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas import ArtifactStoreConfig, ConfigError, NotFoundError
from cli import settings


def load(place, flags=None, environ=None, **options):
    return settings.load(flags or {}, directory=place, environ=environ or {}, **options)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((), 10_000),
        (("file",), 1),
        (("file", "environment"), 2),
        (("file", "environment", "flag"), 3),
        (("flag", "file"), 3),
    ],
)
def test_settings_flag_environment_file_default_in_this_order(tmp_path, layers, expected):
    if "file" in layers:
        (tmp_path / "cas.toml").write_text("max_files = 1\n")
    environ = {"CAS_MAX_FILES": "2"} if "environment" in layers else {}
    flags = {"max_files": ("3", "-o max_files")} if "flag" in layers else {}
    assert load(tmp_path, flags, environ).config.max_files == expected


def test_settings_nearest_file_upward_is_read_and_paths_count_from_it(tmp_path):
    (tmp_path / "cas.toml").write_text('repo_path = "far"\n')
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text('[tool.cas]\nrepo_path = "near"\nstore_path = "s"\n')
    (tmp_path / "a" / "b" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    loaded = load(tmp_path / "a" / "b" / "c")
    assert loaded.file == tmp_path / "a" / "pyproject.toml"
    assert loaded.config.repo_path == tmp_path / "a" / "near"
    assert loaded.config.store_dir == tmp_path / "a" / "s"


def test_settings_file_without_a_repository_means_its_own_folder(tmp_path):
    (tmp_path / "cas.toml").write_text("max_files = 1\n")
    (tmp_path / "inner").mkdir()
    assert load(tmp_path / "inner").config.repo_path == tmp_path


def test_settings_cas_toml_goes_before_pyproject_of_the_same_folder(tmp_path):
    (tmp_path / "cas.toml").write_text("max_files = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.cas]\nmax_files = 2\n")
    assert load(tmp_path).config.max_files == 1


def test_settings_config_variable_and_switch_choose_the_file(tmp_path):
    (tmp_path / "one.toml").write_text("max_files = 1\n")
    (tmp_path / "two.toml").write_text("max_files = 2\n")
    environ = {"CAS_CONFIG": "one.toml"}
    assert load(tmp_path, environ=environ).config.max_files == 1
    assert load(tmp_path, environ=environ, config_file=tmp_path / "two.toml").config.max_files == 2


@pytest.mark.parametrize(
    ("text", "culprit", "meant"),
    [
        ("brnch_prefix = 'x'", "brnch_prefix", "branch_prefix"),
        ("pushtimeout = 3", "pushtimeout", "push_timeout"),
    ],
)
def test_settings_unknown_key_in_a_file_names_near_ones(tmp_path, text, culprit, meant):
    (tmp_path / "cas.toml").write_text(text)
    with pytest.raises(ConfigError, match=culprit) as caught:
        load(tmp_path)
    assert meant in caught.value.hint
    assert str(tmp_path / "cas.toml") in caught.value.message


def test_settings_misspelt_variable_is_an_error_and_a_foreign_one_is_not(tmp_path):
    load(tmp_path, environ={"CAS_SERVER_URL": "https://sso.example"})
    with pytest.raises(ConfigError, match="CAS_DURABILTY") as caught:
        load(tmp_path, environ={"CAS_DURABILTY": "group"})
    assert "durability" in caught.value.hint


def test_settings_unknown_flag_key_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="'nothing'"):
        load(tmp_path, {"nothing": ("1", "-o nothing")})


def test_settings_unusable_value_names_where_it_is_set(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={"CAS_DURABILITY": "never"})
    assert "CAS_DURABILITY" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, environ={"CAS_AUTO_PUSH": "perhaps"})
    assert "CAS_AUTO_PUSH" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["cas.toml", "pyproject.toml"])
def test_settings_file_of_another_user_may_not_name_a_program_unless_it_is_asked_for(tmp_path, name):
    file = tmp_path / name
    head = "[tool.cas]\n" if name == "pyproject.toml" else ""
    file.write_text(f"{head}on_exported_command = 'true'\n")
    below = tmp_path / "below"
    below.mkdir()
    assert load(below).config.on_exported_command == "true"
    os.chown(file, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        load(below)
    assert f"--config {file}" in (caught.value.hint or "")
    assert load(below, config_file=file).config.on_exported_command == "true"
    file.write_text(f"{head}max_files = 3\n")
    assert load(below).config.max_files == 3


def test_settings_folder_of_a_user_who_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="its user is not known"):
        settings.load({"store_path": ("~nobody-by-this-name/x", "--store")}, directory=tmp_path, environ={})
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.load(directory=tmp_path, environ={"CAS_CONFIG": "~nobody-by-this-name/x"})


def test_settings_present_folder_that_was_removed_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(NotFoundError, match="present folder was removed"):
        settings.load(environ={})


def test_settings_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "cas.toml").write_text("= 1")
    with pytest.raises(ConfigError, match=r"cas\.toml is not TOML"):
        load(tmp_path)


def test_settings_missing_file_that_was_asked_for_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, config_file=tmp_path / "none.toml")


def test_settings_every_key_can_be_set_by_variable_and_read_back(tmp_path):
    key_file = tmp_path / "key"
    texts = {
        "repo_path": "r", "store_path": "s", "git_signing_key": str(key_file), "secret_baseline": "b.json",
        "durability": "group", "object_format": "sha256", "checked_out": "refuse", "push_timeout": "2.5",
        "max_file_bytes": "256MiB", "secret_patterns": '["a{1,3}", "b"]', "indexed_metrics": "net_pnl, win_rate",
        "auto_push": "no", "scan_for_secrets": "0", "include_metadata": "off", "raise_errors": "false",
    }  # fmt: skip
    environ = {f"CAS_{key.upper()}": text for key, text in texts.items()}
    config = load(tmp_path, environ=environ).config
    assert config.repo_path == tmp_path / "r"
    assert config.max_file_bytes == 256 * 1024 * 1024
    assert config.secret_patterns == ("a{1,3}", "b")
    assert config.indexed_metrics == ("net_pnl", "win_rate")
    assert (config.auto_push, config.scan_for_secrets, config.raise_errors) == (False, False, False)
    assert (config.durability, config.object_format, config.push_timeout) == ("group", "sha256", 2.5)


def test_settings_pattern_that_begins_with_a_bracket_is_one_pattern(tmp_path):
    environ = {"CAS_SECRET_PATTERNS": "[A-Z]{3,5}-[0-9]{4}"}
    assert load(tmp_path, environ=environ).config.secret_patterns == ("[A-Z]{3,5}-[0-9]{4}",)


def test_settings_every_field_has_a_description():
    described = settings.field_descriptions()
    assert [key for key in ArtifactStoreConfig.__slots__ if not described.get(key)] == []


@given(
    st.dictionaries(st.sampled_from(["NO_COLOR", "CLICOLOR_FORCE", "TERM", "COLUMNS"]), st.text(max_size=5))
)
def test_terminal_wishes_any_text_is_read_without_an_error(environ):
    wishes = settings.terminal_wishes(environ)
    assert wishes.color in {None, True, False}
    assert wishes.columns is None or wishes.columns > 0


def test_terminal_wishes_no_color_goes_before_force():
    assert settings.terminal_wishes({"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}).color is False
    assert settings.terminal_wishes({"CLICOLOR_FORCE": "1"}).color is True
    assert settings.terminal_wishes({"NO_COLOR": ""}).color is None


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": ""}, False),
        ("darwin", {}, True),
    ],
)
def test_screen_is_known_by_its_variable(monkeypatch, platform, environ, expected):
    monkeypatch.setattr(sys, "platform", platform)
    assert settings.has_screen(environ) is expected
