"""Every benchmark at a tiny size: it runs, says what it measured, and its tables and pages come from its results."""

import ast
import itertools
import json
import re
import shutil
import sys
from xml.etree import ElementTree

import pytest

from benchmarks import render, results, tools
from benchmarks.__main__ import main, run
from benchmarks.charts import Bar, Bars, Lines, Series
from benchmarks.engines_tools import Borg, Dvc, Restic
from benchmarks.plan import PROJECT, RESULTS_DIR, Plan
from benchmarks.readers import same_files
from benchmarks.registry import NAMES, parts_of, question_of
from benchmarks.runs import real_runs
from benchmarks.samples import paired_ratio, percentile
from benchmarks.tables import Table, figure
from benchmarks.writers import count_lost

pytest.importorskip("backtesting", reason="the demo extra is not installed")

NEED_GIT = {"beside", "bulk", "export", "export_stages", "list_newest", "push", "refs", "restore", "signing"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("bench-data")


def hide_tools(patch):
    """Peers that are programs take a second for each run; the benchmarks do without, and say how to get them."""
    for name in ("RESTIC", "BORG", "DVC"):
        patch.setenv(f"BENCH_{name}", "/nowhere")


@pytest.fixture(scope="module")
def documents(data_dir, tmp_path_factory):
    made = {}

    def measured(name):
        if name not in made:
            plan = Plan("tiny", tmp_path_factory.mktemp(name), data=data_dir)
            with pytest.MonkeyPatch.context() as patch:
                hide_tools(patch)
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


def test_writers_run_that_failed_is_not_counted_as_lost():
    assert count_lost(["a", "b", "b"], {"a", "c"}) == 1, "c failed, though it was stored"
    assert count_lost(["a"], {"a"}) == 0, "b failed, and is not there"


def test_writers_none_fails(documents):
    for cell in documents("writers")["cells"]:
        assert cell["failed_count"] == cell["lost_count"] == cell["doubled_count"] == 0, cell


def test_export_methods_make_as_many_refs_per_run(documents):
    needs_git("export")
    for method in documents("export")["methods"]:
        assert method["refs_count"] == 3 * method["runs_count"]


def test_measure_when_one_question_fails_keeps_the_others_and_its_earlier_result(
    tmp_path, capfd, monkeypatch
):
    hide_tools(monkeypatch)
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
    stale = project / "docs" / "charts" / "removed.svg"
    stale.parent.mkdir(parents=True)
    stale.write_text("a benchmark that is gone")
    chart = project / "docs" / "charts" / "stored_bytes.svg"
    assert render.write_pages(kept, project) == [project / "docs" / "benchmarks.md", chart, readme]
    text = readme.read_text()
    assert text.startswith("Before\n<!-- benchmark: stored_bytes -->\n| store |")
    assert "\nold\n" not in text
    assert text.endswith("\n<!-- /benchmark -->\nAfter\n")
    assert not stale.exists()
    assert render.write_pages(kept, project) == []


def test_pages_with_a_marker_that_nothing_answers_are_refused(documents, tmp_path):
    results.save(tmp_path, "stored_bytes", documents("stored_bytes"))
    (tmp_path / "README.md").write_text("<!-- benchmark: unheard_of -->\n<!-- /benchmark -->\n")
    with pytest.raises(ValueError, match="unheard_of"):
        render.write_pages(tmp_path, tmp_path)


def test_pages_and_charts_hold_what_the_kept_results_say_and_nothing_else():
    rendered = render.render(render.load_all(RESULTS_DIR), PROJECT)
    assert PROJECT / "README.md" in rendered, "the README shows figures between markers"
    changed = [path.name for path, text in rendered.items() if path.read_text() != text]
    assert not changed, "run python -m benchmarks render"
    charts = set((PROJECT / "docs" / "charts").glob("*.svg"))
    assert charts == {path for path in rendered if path.suffix == ".svg"}


def test_kept_results_are_full_measurements():
    for name, document in render.load_all(RESULTS_DIR).items():
        assert document["size"] == "full", name
        assert document["command"].startswith(f"python -m benchmarks --only {name}")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_charts_are_well_formed_and_name_every_store(name, documents):
    needs_git(name)
    for chart in parts_of(name, "charts", documents(name)):
        image = ElementTree.fromstring(chart.svg())  # noqa: S314 - our own text
        words = [element.text for element in image.iter("{http://www.w3.org/2000/svg}text")]
        assert chart.title in words
        if isinstance(chart, Bars):
            assert [bar.label for bar in chart.bars if bar.label not in words] == []
            assert any(bar.ours for bar in chart.bars)
            assert [bar.label for bar in chart.bars if figure(bar.value) not in words] == []
        else:
            ends = [f"{series.label}: {figure(series.points[-1][1])}" for series in chart.series]
            assert set(ends) <= set(words)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_headlines_have_the_figures_of_the_tables(name, documents):
    needs_git(name)
    tables = parts_of(name, "tables", documents(name))
    cells = {cell for table in tables for row in table.rows for cell in row}
    for line in parts_of(name, "headlines", documents(name)):
        assert line.ours in cells
        assert line.replaced in cells
        assert any(word in line.peer for word in cells)


def test_bars_have_lengths_in_proportion():
    chart = Bars("n", "Title", "unit", [Bar("a", 1.0, ours=True), Bar("b", 2.0), Bar("none", None)])
    widths = [
        float(text) for text in re.findall(r'<rect class="o[a-z]+"[^>]* width="([0-9.]+)"', chart.svg())
    ]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert len(widths) == 2


def test_lines_labels_that_would_cover_each_other_are_moved_apart():
    series = [Series(label, [(1, 1.0), (10, 5.0)]) for label in "abc"]
    chart = Lines("n", "Title", "runs", "unit", series)
    places = [float(y) for y in re.findall(r'class="dot\d" x="[0-9.]+" y="([0-9.]+)"', chart.svg())]
    assert len(places) == 3
    assert min(b - a for a, b in itertools.pairwise(sorted(places))) >= 15


def test_tool_is_taken_from_its_variable_or_said_how_to_get(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_RESTIC", str(tmp_path / "nowhere"))
    assert tools.missing("restic") == {
        "reason": "restic is not installed",
        "install": "apt-get install restic",
    }
    monkeypatch.setenv("BENCH_RESTIC", sys.executable)
    assert tools.path_of("restic") == sys.executable
    assert tools.missing("restic") is None


@pytest.mark.parametrize(("name", "engine"), [("restic", Restic), ("borg", Borg), ("dvc", Dvc)])
def test_tool_engine_gives_back_what_it_took(name, engine, data_dir, tmp_path):
    if (why := tools.missing(name)) is not None:
        pytest.skip(f"{why['reason']}: {why['install']}")
    runs = real_runs(2, data_dir)
    opened = engine(tmp_path, 0)
    for one in runs:
        opened.commit(one)
    assert sorted(engine(tmp_path, 0).newest(50)) == [one.correlation_id for one in runs]
    for one in runs:
        assert same_files(one, opened.restore(one, tmp_path / "out" / one.correlation_id))


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
