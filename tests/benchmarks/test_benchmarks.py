"""Every benchmark at a tiny size: it runs, says what it measured, and its tables and pages come from its results."""

import ast
import json
import re
import shutil

import pytest

from benchmarks import render, results
from benchmarks.__main__ import main, run
from benchmarks.plan import PROJECT, Plan
from benchmarks.registry import NAMES, parts_of, question_of
from benchmarks.samples import paired_ratio, percentile
from benchmarks.tables import Table, figure

pytest.importorskip("backtesting", reason="the demo extra is not installed")

NEED_GIT = {"beside", "export", "push", "refs", "signing"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("bench-data")


@pytest.fixture(scope="module")
def documents(data_dir, tmp_path_factory):
    made = {}

    def measured(name):
        if name not in made:
            plan = Plan("tiny", tmp_path_factory.mktemp(name), data=data_dir)
            made[name] = run(name, plan, f"python -m benchmarks --only {name}")
        return made[name]

    return measured


def needs_git(name):
    if name in NEED_GIT and shutil.which("git") is None:
        pytest.skip("git is not installed")


def numbers_of(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers_of(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_of(inner, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def measuring_modules():
    for path in (PROJECT / "benchmarks").glob("*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        if "measure" in {function.name for function in functions}:
            yield path.stem


def test_names_are_the_modules_that_measure():
    assert sorted(NAMES) == sorted(measuring_modules())
    for name in NAMES:
        question, method = question_of(name)
        assert question.endswith("?")
        assert method


@pytest.mark.parametrize("name", sorted(NAMES))
def test_benchmark_tiny_gives_a_whole_document(name, documents, tmp_path):
    needs_git(name)
    document = documents(name)
    for key in ("taken_at", "machine", "versions", "project_commit", "parameters", "skipped", "command"):
        assert key in document, key
    assert {"processor", "cores_count", "kernel", "file_system"} <= document["machine"].keys()
    assert document["parameters"]["sync_mode"]
    assert document["parameters"]["input"]
    assert all(value >= 0 for path, value in numbers_of(document) if not path.endswith("_count"))
    assert results.load(tmp_path, name) is None
    results.save(tmp_path, name, document)
    assert results.load(tmp_path, name) == json.loads(json.dumps(document))
    for table in parts_of(name, "tables", document):
        assert table.rows
        assert all(len(row) == len(table.heads) for row in table.rows)


def test_commit_gives_ratios_to_floor_and_product(documents):
    engines = {engine["name"]: engine for engine in documents("commit")["engines"]}
    assert engines["floor"]["over_floor_p50"] == engines["this_store"]["over_this_store_p50"] == 1
    assert engines["this_store"]["over_floor_p50"] > 0
    assert all(engine["durability"] for engine in engines.values())


def test_writers_none_fails(documents):
    for cell in documents("writers")["cells"]:
        assert cell["failed_count"] == cell["lost_count"] == cell["doubled_count"] == 0, cell


def test_export_methods_make_as_many_refs_per_run(documents):
    needs_git("export")
    for method in documents("export")["methods"]:
        assert method["refs_count"] == 3 * method["runs_count"]


def test_measure_when_one_question_fails_keeps_the_others_and_its_earlier_result(tmp_path, capfd):
    earlier = tmp_path / "scale.json"
    earlier.write_text("kept before")
    arguments = ["--tiny", "--only", "scale", "stored_bytes", "--scale-runs", "-5", "--out", str(tmp_path)]
    assert main(arguments) == 1
    assert earlier.read_text() == "kept before"
    kept = results.load(tmp_path, "stored_bytes")
    assert kept["command"] == "python -m benchmarks --tiny --scale-runs -5 --only stored_bytes"
    told = capfd.readouterr()
    assert "failed, their earlier results stay: scale\n" in told.err
    assert re.search(r"^stored_bytes .* measured$", told.out, re.MULTILINE)


def test_pages_replace_only_what_is_marked(documents, tmp_path):
    kept, project = tmp_path / "results", tmp_path / "project"
    project.mkdir()
    with pytest.raises(ValueError, match="no results yet"):
        render.write_pages(kept, project)
    results.save(kept, "stored_bytes", documents("stored_bytes"))
    readme = project / "README.md"
    readme.write_text("Before\n<!-- benchmark: stored_bytes -->\nold\n<!-- /benchmark -->\nAfter\n")
    assert render.write_pages(kept, project) == [project / "docs" / "benchmarks.md", readme]
    text = readme.read_text()
    assert text.startswith("Before\n<!-- benchmark: stored_bytes -->\n| store |")
    assert text.endswith("|\n\nThis store:" + text.partition("This store:")[2])
    assert "\nold\n" not in text
    assert text.endswith("<!-- /benchmark -->\nAfter\n")
    assert render.write_pages(kept, project) == [project / "docs" / "benchmarks.md"]


def test_pages_with_a_marker_that_nothing_answers_are_refused(documents, tmp_path):
    results.save(tmp_path, "stored_bytes", documents("stored_bytes"))
    (tmp_path / "README.md").write_text("<!-- benchmark: unheard_of -->\n<!-- /benchmark -->\n")
    with pytest.raises(ValueError, match="unheard_of"):
        render.write_pages(tmp_path, tmp_path)


def test_kept_results_match_the_page():
    page = PROJECT / "docs" / "benchmarks.md"
    kept = {
        name: found for name in NAMES if (found := results.load(PROJECT / "benchmarks" / "results", name))
    }
    if not kept or not page.exists():
        pytest.skip("nothing was measured here yet")
    assert page.read_text() == render._page(kept)


def test_paired_ratio_compares_shared_runs_only():
    assert paired_ratio({1: 4.0, 9: 100.0}, {1: 2.0, 2: 50.0}) == 2


def test_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50, 99, 7)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "n/a"), (0, "0"), (0.00012, "0.00012"), (1.234, "1.23"), (1234.6, "1,235")]
)
def test_figure_keeps_three_digits(value, text):
    assert figure(value) == text


def test_table_aligns_columns_of_figures():
    table = Table("t", ["name", "ms", "words"], [["a|b", "1.2", "x"]])
    assert table.markdown().splitlines()[1:] == ["| --- | ---: | --- |", "| a\\|b | 1.2 | x |"]


def test_queries_give_the_same_lists_with_an_index_and_without(documents):
    lists = documents("queries")["lists"]
    assert all(each["same_answer"] for each in lists)
    assert max(each["returned_count"] for each in lists) >= 50


def test_upkeep_removes_what_was_forgotten(documents):
    beside = documents("upkeep")["beside"]
    assert beside["removed_blobs_count"] > 0
    assert beside["samples"]["gc"]["samples_count"] > 0
