"""`cas init`."""

import stat


def test_init_empty_folder_makes_a_private_store(cas, place):
    ended = cas.ok("init")
    assert ended.out.splitlines()[0] == f"made a store at {place / '.cas'}"
    assert stat.S_IMODE((place / ".cas").stat().st_mode) == 0o700
    assert "next: cas commit" in ended.err


def test_init_again_changes_nothing(cas, place):
    first = cas.ok("init", "--json").json
    again = cas.ok("init", "--json").json
    assert (first["created"], again["created"]) == (True, False)
    assert first["store_id"] == again["store_id"]


def test_init_folder_given_makes_the_store_below_it(cas, place):
    cas.ok("init", "research")
    assert (place / "research" / ".cas" / "data.mdb").is_file()


def test_init_inside_a_project_makes_its_own_store(store, place, monkeypatch):
    (place / "inner").mkdir()
    monkeypatch.chdir(place / "inner")
    assert store.ok("init", "--json").json["created"] is True
    assert (place / "inner" / ".cas").is_dir()


def test_init_folder_with_other_content_is_refused(cas, place):
    (place / ".cas").mkdir()
    (place / ".cas" / "mine").write_text("keep")
    ended = cas("init")
    assert ended.code == 3
    assert "holds no store" in ended.err
    assert (place / ".cas" / "mine").read_text() == "keep"


def test_init_store_and_repo_switches_are_kept_apart(cas, place):
    made = cas.ok("init", "--store", "s", "--repo", "r.git", "--json").json
    assert (made["store_path"], made["repo_path"]) == (str(place / "s"), str(place / "r.git"))


def test_init_beside_a_repository_of_the_other_format_says_that_exports_will_fail(cas, git, place):
    git("init", "--quiet", "--object-format=sha256", "runs.git")
    ended = cas.ok("init", "--repo", "runs.git", "--store", "a")
    assert "uses sha256 ids, the store sha1" in ended.err
    assert "`cas init -o object_format=sha256`" in ended.err
    told = cas.ok("init", "--repo", "runs.git", "--store", "b", "--json").json
    assert "sha256" in told["warnings"][0]
    fits = cas.ok("init", "--repo", "runs.git", "--store", "c", "-o", "object_format=sha256", "--json").json
    assert "warnings" not in fits
