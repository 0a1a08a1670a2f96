"""The configuration of a store: what each field takes, and that a refusal names the field and says why."""

from pathlib import Path

import pytest

from cas import ArtifactStoreConfig, ConfigError, SecretScanner

PATHS = ("repo_path", "store_path", "git_signing_key", "secret_baseline", "on_exported_secret")
PERSON = ("commit_author_name", "commit_author_email")
SWITCHES = (
    "scan_for_secrets", "include_metadata", "auto_push", "require_correlation_id", "raise_errors",
    "git_trust_foreign_owner",
)  # fmt: skip
NUMBERS = (
    "max_file_bytes", "max_files", "max_metadata_bytes", "map_size_bytes", "push_refs", "push_bytes",
    "metrics_keep_days",
)  # fmt: skip
PROGRAMS = ("git_ssh_command", "git_credential_helper", "on_exported_url", "on_exported_command")
LISTS = ("secret_patterns", "secret_ignore", "indexed_metrics")
PERSON_CHARACTERS = "holds a character that git refuses in an identity (<, >, control, outer blanks)"


def refusal(**settings):
    """Return why a setting is refused, once it is sure that the error is about that setting."""
    ((field, _),) = settings.items()
    with pytest.raises(ConfigError) as caught:
        ArtifactStoreConfig(**settings)
    assert caught.value.subject == field
    name, _, why = caught.value.message.partition(": ")
    assert name == field
    return why


def taken(**settings):
    ((field, _),) = settings.items()
    return getattr(ArtifactStoreConfig(**settings), field)


@pytest.mark.parametrize("field", PATHS)
def test_path_is_taken_as_text_or_path(field):
    assert taken(**{field: "a/b"}) == taken(**{field: Path("a/b")}) == Path("a/b")
    for value in ("", 5, b"a/b"):
        assert refusal(**{field: value}) == "must be a path"
    for value in ("a\0b", Path("a\0b")):
        assert refusal(**{field: value}) == "holds a NUL character"


@pytest.mark.parametrize("field", PATHS[1:])
def test_path_that_is_not_needed_may_be_left_out(field):
    assert taken(**{field: None}) is None


def test_repository_is_needed():
    assert refusal(repo_path=None) == "must be a path"


def test_paths_after_one_that_is_left_out_are_checked_as_well():
    assert ArtifactStoreConfig(store_path=None, on_exported_secret="s").on_exported_secret == Path("s")


def test_store_lies_below_the_repository_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert ArtifactStoreConfig().repo_path == tmp_path
    assert ArtifactStoreConfig(repo_path="r").store_dir == tmp_path / "r" / ".cas"
    assert ArtifactStoreConfig(repo_path="r", store_path="s").store_dir == tmp_path / "s"
    assert ArtifactStoreConfig(repo_path="r", store_path="/s").store_dir == Path("/s")


def test_current_folder_that_was_removed_is_told_where_it_is_needed_only(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the current folder was removed") as caught:
        ArtifactStoreConfig()
    assert caught.value.subject == "repo_path"
    for config, field in (
        (ArtifactStoreConfig(repo_path="r"), "repo_path"),
        (ArtifactStoreConfig(repo_path="/r", store_path="s"), "store_path"),
    ):
        with pytest.raises(ConfigError, match="the current folder was removed") as caught:
            _ = config.store_dir
        assert caught.value.subject == field
    assert ArtifactStoreConfig(repo_path="/r").store_dir == Path("/r/.cas")
    assert SecretScanner().scan(b"fine", "a.txt") == []


@pytest.mark.parametrize("field", PERSON)
def test_person_is_what_git_takes_as_an_identity(field):
    for value in ("Ann", "Ann O'Neil, Dr.", "\u00c4nne", "a@b"):
        assert taken(**{field: value}) == value
    for value in ("", "  ", None, 5):
        assert refusal(**{field: value}) == "must be non-empty text"
    for value in ("<a", "a>", "a\nb", "a\x7f", " a", "a ", "a\x1f"):
        assert refusal(**{field: value}) == PERSON_CHARACTERS
    assert refusal(**{field: "a\ud800"}) == "is not valid Unicode text"


@pytest.mark.parametrize("prefix", ["a", "a/b/c", "A_1.x-y/b", "a" * 42])
def test_branch_prefix_of_plain_parts_is_taken(prefix):
    assert taken(branch_prefix=prefix) == prefix


def test_branch_prefix_that_git_or_a_host_refuses_is_refused():
    assert refusal(branch_prefix="a" * 43) == (
        "may have 42 characters, as hosts limit a branch name to 244 bytes"
    )
    for prefix in ("", "/a", "a/", "a//b", "-a", "a b", ".a", "a/.b", None, 5):
        assert refusal(branch_prefix=prefix) == (
            "must be parts of letters, digits, '_', '-', '.' joined by '/'"
        )
    for prefix, part in (("a..b", "a..b"), ("a/b.", "b."), ("a.lock/b", "a.lock"), ("a/b.lock", "b.lock")):
        assert refusal(branch_prefix=prefix) == f"git refuses {part!r} in a branch name"


@pytest.mark.parametrize("field", ["on_exported_url", "on_exported_command"])
def test_hook_is_text_or_left_out(field):
    assert taken(**{field: "x y"}) == "x y"
    assert taken(**{field: None}) is None
    for value in ("", " ", 5):
        assert refusal(**{field: value}) == "must be text"


def test_remote_is_a_plain_name():
    for name in ("origin", "a/b.c-d_e", "0"):
        assert taken(remote_name=name) == name
    for name in ("", "-x", "a..b", "a b", "https://host", None, 5):
        assert refusal(remote_name=name) == "must be a plain remote name, such as 'origin'"


@pytest.mark.parametrize("field", PROGRAMS)
def test_program_or_address_is_text_that_a_process_can_be_given(field):
    for value in ("ssh -i 'a b'", "store", "\u00fc", "a\nb", None):
        assert taken(**{field: value}) == value
    for value in ("", "  ", 5, b"ssh", [], ["ssh"], Path("ssh"), True):
        assert refusal(**{field: value}) == "must be text"
    assert refusal(**{field: "a\0b"}) == "holds a NUL character"
    assert refusal(**{field: "a\ud800"}) == "holds text that no program can be given (lone surrogate)"


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("durability", ["full", "group", "relaxed"]),
        ("object_format", ["sha1", "sha256"]),
        ("checked_out", ["warn", "refuse"]),
    ],
)
def test_choice_is_one_of_those_named(field, choices):
    for choice in choices:
        assert taken(**{field: choice}) == choice
    for value in ("other", None, choices[0].upper()):
        assert refusal(**{field: value}) == f"must be one of {', '.join(choices)}"


@pytest.mark.parametrize("field", SWITCHES)
def test_switch_is_true_or_false(field):
    assert taken(**{field: True}) is True
    assert taken(**{field: False}) is False
    for value in (1, "yes", None):
        assert refusal(**{field: value}) == "must be true or false"


@pytest.mark.parametrize("field", NUMBERS)
def test_number_is_whole_and_positive(field):
    assert taken(**{field: 1}) == 1
    for value in (0, -1, 1.5, True, "5", None):
        assert refusal(**{field: value}) == "must be a positive whole number"


def test_timeouts_are_finite_seconds_and_only_opening_may_wait_for_none():
    assert taken(push_timeout=0.5) == 0.5
    assert taken(push_timeout=1) == 1
    assert taken(push_timeout=2_000_000) == 2_000_000
    for value in (2_000_000.5, 10**9, 2**80):
        assert refusal(push_timeout=value) == "may be 2000000 at most"
    for value in (0, -1, float("inf"), float("nan"), True, "5", None):
        assert refusal(push_timeout=value) == "must be a positive number of seconds"
    assert taken(open_timeout=0) == 0
    assert taken(open_timeout=0.5) == 0.5
    for value in (-0.1, float("inf"), float("nan"), False, "5", None):
        assert refusal(open_timeout=value) == "must be a number of seconds"


@pytest.mark.parametrize("field", LISTS)
def test_list_is_kept_as_a_tuple_of_texts(field):
    values = ["a: jwt", "b: jwt"]
    assert taken(**{field: values}) == taken(**{field: tuple(values)}) == tuple(values)
    assert taken(**{field: None}) == taken(**{field: []}) == ()
    for value in ("text", {"a"}, 5):
        assert refusal(**{field: value}) == "must be a list of texts"
    for value in ([""], ["a", 5], [None]):
        assert refusal(**{field: value}) == "must be a list of non-empty texts, valid as Unicode"


def test_pattern_that_could_run_away_is_refused_when_the_configuration_is_made():
    with pytest.raises(ConfigError):
        ArtifactStoreConfig(secret_patterns=["(a+)+b"])


def test_changed_copy_is_checked_like_a_new_one():
    config = ArtifactStoreConfig(push_refs=5)
    changed = config.replace(push_bytes=7)
    assert (changed.push_refs, changed.push_bytes, config.push_bytes) == (5, 7, 256 * 1024 * 1024)
    with pytest.raises(ConfigError) as caught:
        config.replace(push_refs=0)
    assert caught.value.subject == "push_refs"
