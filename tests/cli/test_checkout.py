"""`cas checkout`."""


def test_checkout_new_folder_holds_the_run(store, commit, place):
    commit()
    ended = store.ok("checkout", "latest", "out/run")
    assert ended.out == "wrote 3 files to out/run\n"
    assert sorted(path.name for path in (place / "out/run").iterdir()) == [
        "metadata.json",
        "strategy.py",
        "trades.csv",
    ]
    assert (place / "out/run/trades.csv").read_text() == "x,y\n1,2\n"


def test_checkout_full_folder_is_left_alone_without_force(store, commit, place):
    commit()
    (place / "out").mkdir()
    (place / "out" / "mine").write_text("keep")
    ended = store("checkout", "latest", "out")
    assert ended.code == 4
    assert "--force" in ended.err
    assert [path.name for path in (place / "out").iterdir()] == ["mine"]
    store.ok("checkout", "latest", "out", "--force")
    assert not (place / "out" / "mine").exists()


def test_checkout_unknown_run_makes_no_folder(store, place):
    assert store("checkout", "nothing", "out").code == 3
    assert not (place / "out").exists()


def test_checkout_json_names_folder_and_files(store, commit, place):
    commit()
    document = store.ok("checkout", "latest", "out", "--json").json
    assert document["directory"] == str(place / "out")
    assert "strategy.py" in document["files"]
