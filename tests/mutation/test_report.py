"""The page: figures add up, survivors stand with their reasons, and a sample says how sure it is."""

import pytest

from tests.mutation import verdicts as kept_verdicts
from tests.mutation.groups import core_modules
from tests.mutation.mutants import Mutant
from tests.mutation.report import MARKER, UNEXPLAINED, estimate, share_interval, write_report
from tests.mutation.verdicts import Verdicts

pytest.importorskip("mutmut", reason="the dependency group `mutation` is not installed")

MODULE = "cas/digest.py"


def mutant(number, module=MODULE):
    return Mutant(
        f"cas.digest.x_f__mutmut_{number}", module, "f", "def f(): a > b", f"def f(): a >= {number}", ""
    )


def tried(path, *found, population=4):
    verdicts = Verdicts(path / "verdicts.json")
    for number, verdict in enumerate(found):
        verdicts.take(mutant(number), verdict, population)
    return verdicts


def written(verdicts, path):
    page = path / "mutation.md"
    page.write_text(f"Words.\n\n{MARKER}\n\nold figures\n")
    write_report(verdicts, page)
    return page.read_text()


def test_share_interval_is_wilsons():
    low, high = share_interval(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert share_interval(10, 10)[1] == pytest.approx(1)
    assert share_interval(0, 10)[0] == pytest.approx(0)


def test_estimate_of_modules_tried_whole_is_exact():
    assert estimate([(10, 10, 9), (30, 30, 21)]) == pytest.approx((0.75, 0.75, 0.75))


def test_estimate_weighs_each_module_by_its_mutants():
    share, low, high = estimate([(100, 100, 100), (300, 10, 5), (600, 20, 20)])
    assert share == pytest.approx((100 + 150 + 600) / 1000)
    effective = 900**2 / (300**2 / 10 + 600**2 / 20)
    wilson = share_interval(750 / 900 * effective, effective)
    assert (low, high) == pytest.approx(tuple((100 + 900 * part) / 1000 for part in wilson))
    assert low < share < high


def test_write_report_counts_and_names_survivors(tmp_path):
    text = written(tried(tmp_path, "killed", "timeout", "survived", "no tests", population=40), tmp_path)
    assert text.startswith("Words.\n")
    assert "old figures" not in text
    assert f"Of {len(core_modules())} modules 0 were tried whole and 1 by a sample." in text
    assert "| 40 | 4 | 2 | 2 | 50.0 % | 15 to 85 % |" in text
    assert "4 of the 40 mutants" in text
    assert f"a >= 2``: {UNEXPLAINED}" in text
    assert "a >= 3``: no test of its group calls it." in text
    assert "## Not tried" in text


def test_write_report_tells_first_verdicts_from_later_ones(tmp_path):
    verdicts = tried(tmp_path, "killed", "survived", "survived", "killed")
    verdicts.take(mutant(1), "killed", 4)
    text = written(verdicts, tmp_path)
    assert "| 4 | 4 | 2 | 3 | 75.0 % | whole |" in text
    assert "a >= 1``: survived at first, killed by a test that was written for it." in text
    assert "2 were killed at once, 3 once tests were written" in text


def test_write_report_marks_verdicts_on_an_older_text(tmp_path, monkeypatch):
    verdicts = tried(tmp_path, "killed")
    assert "(older)" not in written(verdicts, tmp_path)
    monkeypatch.setattr(kept_verdicts, "source_id", lambda module: f"another text of {module}")
    assert f"| `{MODULE}` | {verdicts.modules[MODULE].source[:10]} (older) | 4 |" in written(
        verdicts, tmp_path
    )


def test_write_report_without_the_marker_is_refused(tmp_path):
    page = tmp_path / "mutation.md"
    page.write_text("Words only.\n")
    with pytest.raises(ValueError, match="has no line"):
        write_report(Verdicts(tmp_path / "none.json"), page)
    assert page.read_text() == "Words only.\n"


def test_verdicts_survive_saving(tmp_path):
    verdicts = tried(tmp_path, "killed", "survived", "timeout", "no tests")
    verdicts.save()
    read = Verdicts(tmp_path / "verdicts.json")
    assert read.modules == verdicts.modules
    assert not any(map(read.lacks, map(mutant, range(4))))
    assert read.lacks(mutant(4))
    assert list(map(read.survives, map(mutant, range(5)))) == [False, True, False, True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.json"]


def test_verdicts_on_another_text_of_a_module_are_replaced(tmp_path, monkeypatch):
    verdicts = tried(tmp_path, "killed", "survived")
    monkeypatch.setattr(kept_verdicts, "source_id", lambda module: f"another text of {module}")
    assert verdicts.lacks(mutant(0))
    assert not verdicts.survives(mutant(1))
    verdicts.take(mutant(1), "killed", 3)
    kept = verdicts.modules[MODULE]
    assert (kept.tried_count, kept.killed_count, kept.population) == (1, 1, 3)
