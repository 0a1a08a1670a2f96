"""How bare values in a file are read, by the file's name."""

import pytest

from cas.secretscan.scanner import place_of


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("strategy.py", "code"), ("a/b/Strategy.PY", "code"), ("a\\b\\run.py", "code"),
        ("settings.ini", "config"), ("a/settings.toml", "config"), (".env", "config"), (".env.local", "config"),
        ("prod.env.bak", "config"), ("Dockerfile", "config"), ("Containerfile.dev", "config"),
        ("a\\b\\Dockerfile", "config"), (".envrc", "config"), (".environment", "config"),
        ("notes", "text"), ("notes.txt", "text"), ("python", "text"), ("py.txt", "text"), ("a.py/notes", "text"),
    ],
)  # fmt: skip
def test_place_of_goes_by_the_last_part_of_the_name(name, place):
    assert place_of(name) == place
