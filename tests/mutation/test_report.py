"""The page: figures add up, survivors stand with their reasons, and a sample says how sure it is."""

import pytest

from tests.mutation.groups import core_modules
from tests.mutation.mutants import Mutant
from tests.mutation.report import MARKER, Verdicts, share_interval, write_report

pytest.importorskip("mutmut", reason="the dependency group `mutation` is not installed")


def mutant(number, module="cas/digest.py"):
    return Mutant(f"cas.sample.x_f__mutmut_{number}", module, "f", "a > b", f"a >= {number}", "")


def test_share_interval_is_wilsons():
    low, high = share_interval(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert share_interval(10, 10)[1] == pytest.approx(1)
    assert share_interval(0, 10)[0] == pytest.approx(0)


def test_write_report_counts_and_names_survivors(tmp_path):
    tried = [mutant(number) for number in range(4)]
    found = dict(zip((one.name for one in tried), ("killed", "timeout", "survived", "no tests"), strict=True))
    verdicts = Verdicts(tmp_path / "verdicts.json")
    verdicts.keep("whole", "cas/digest.py", 4, tried, found, seed=7)
    verdicts.keep("sample", "cas/digest.py", 40, tried, found, seed=7)
    verdicts.save()
    page = tmp_path / "mutation.md"
    page.write_text(f"Words.\n\n{MARKER}\n\nold figures\n")
    write_report(Verdicts.load(tmp_path / "verdicts.json"), page)
    text = page.read_text()
    assert text.startswith("Words.\n")
    assert "old figures" not in text
    assert f"1 of {len(core_modules())} modules were tried whole." in text
    assert "No sample" not in text
    assert "| `cas/digest.py` | 4 | 4 | 2 | 2 | 50.0 % |" in text
    assert "| together | 40 | 4 | 2 | 2 | 50.0 % |" in text
    assert "95 % interval: 15 to 85 %. Seed [7]." in text
    assert text.count("``a > b`` → ``a >= 2``: no test tells it yet") == 2


def test_revise_takes_new_verdicts_on_survivors_into_the_run(tmp_path):
    tried = [mutant(number) for number in range(4)]
    names = [one.name for one in tried]
    verdicts = Verdicts(tmp_path / "verdicts.json")
    found = dict(zip(names, ("killed", "survived", "no tests", "survived"), strict=True))
    verdicts.keep("whole", "cas/digest.py", 4, tried, found, seed=1)
    assert verdicts.survivors("whole", "cas/digest.py") == set(names[1:])
    assert verdicts.survivors("whole", "cas/other.py") == set()
    verdicts.revise("whole", "cas/digest.py", {names[1]: "timeout", names[2]: "survived"})
    assert verdicts.survivors("whole", "cas/digest.py") == set(names[2:])
    assert verdicts.runs["whole"]["cas/digest.py"]["killed"] == 2
    assert [one["verdict"] for one in verdicts.runs["whole"]["cas/digest.py"]["survivors"]] == [
        "survived"
    ] * 2


def test_survivors_of_a_module_that_changed_since_are_not_tried_alone(tmp_path):
    verdicts = Verdicts(tmp_path / "verdicts.json")
    verdicts.keep("whole", "cas/digest.py", 1, [mutant(1)], {mutant(1).name: "survived"}, seed=1)
    verdicts.runs["whole"]["cas/digest.py"]["source"] = "another text"
    with pytest.raises(ValueError, match="has changed since"):
        verdicts.survivors("whole", "cas/digest.py")
    page = tmp_path / "mutation.md"
    page.write_text(MARKER)
    write_report(verdicts, page)
    assert ", changed since |" in page.read_text()


def test_write_report_without_the_marker_is_refused(tmp_path):
    page = tmp_path / "mutation.md"
    page.write_text("Words only.\n")
    with pytest.raises(ValueError, match="has no line"):
        write_report(Verdicts(tmp_path / "none.json"), page)
    assert page.read_text() == "Words only.\n"


def test_write_report_without_a_sample_says_so(tmp_path):
    page = tmp_path / "mutation.md"
    page.write_text(f"Words.\n\n{MARKER}\n")
    write_report(Verdicts(tmp_path / "none.json"), page)
    assert (
        f"0 of {len(core_modules())} modules were tried whole. No sample over the others" in page.read_text()
    )
