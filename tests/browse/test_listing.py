"""The list of runs: pages, order, filters, and runs that come and go meanwhile."""

import re

import pytest

from cas import predicate
from cas.query import Selection
from cli.browse import ranking
from cli.browse.ranking import Question, Rankings
from tests.browse.conftest import commit_run
from tests.gc.keeping import pretend_export
from tests.store.stores import open_store

COUNT = 120


def metric(number):
    """A metric that goes up and down; every tenth run has none."""
    return {} if number % 10 == 0 else {"net_pnl": (number * 37) % 101 - 50.5, "number": number}


def commit_many(store, first, count):
    store.commit_many(
        [
            {
                "workflow_id": f"wf_{number % 3}",
                "task_id": f"t{number % 4}",
                "correlation_id": f"run_{number:03}",
                "prompt_hash": f"{number % 5:012}",
                "files": {"n.txt": f"{number}".encode()},
                "metadata": {"test_metrics": metric(number)},
            }
            for number in range(first, first + count)
        ]
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of 120 runs that no test changes."""
    with open_store(tmp_path_factory.mktemp("many")) as store:
        commit_many(store, 0, COUNT)
        yield store


@pytest.fixture(scope="module")
def visit_many(many, serve):
    return serve(many)


def names(numbers):
    return [f"run_{number:03}" for number in numbers]


def by_metric(*, descending):
    having = sorted((n for n in range(COUNT) if metric(n)), key=lambda n: (metric(n)["net_pnl"], n))
    return names(having[::-1] if descending else having) + names(range(COUNT - 10, -1, -10))


def test_list_is_newest_first_in_pages_that_meet(visit_many):
    pages = [visit_many(page=number) for number in (1, 2, 3)]
    assert [run for page in pages for run in page.runs] == names(range(COUNT - 1, -1, -1))
    assert [len(page.runs) for page in pages] == [50, 50, 20]
    assert "1–50 of 120 runs" in pages[0].text
    assert "Page 3 of 3" in pages[2].text
    assert ['rel="next"' in page.text for page in pages] == [True, True, False]
    assert ['rel="prev"' in page.text for page in pages] == [False, True, True]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_list_sorted_by_a_metric_has_runs_without_it_last(visit_many, order):
    pages = [visit_many(sort="net_pnl", order=order, page=number) for number in (1, 2, 3)]
    assert [run for page in pages for run in page.runs] == by_metric(descending=order == "desc")
    assert f'aria-sort="{order}ending"' in pages[0].text


def test_list_oldest_first(visit_many):
    assert visit_many(order="asc").runs == names(range(50))


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({"where": "number >= 115"}, [119, 118, 117, 116, 115]),
        (
            {"where": "number >= 100 and net_pnl > 40"},
            [n for n in range(119, 99, -1) if metric(n).get("net_pnl", 0) > 40],
        ),
        ({"workflow": "wf_1", "where": "number > 112"}, [118, 115]),
        ({"workflow": "wf_1", "task": "t2", "where": "number > 80"}, [118, 106, 94, 82]),
        ({"task": "t3", "where": "number > 110"}, [119, 115, 111]),
        ({"prompt": "000000000004", "where": "number > 110"}, [119, 114]),
        ({"where": "number >= 117", "sort": "number", "order": "asc"}, [117, 118, 119]),
        ({"workflow": "nothing"}, []),
    ],
    ids=str,
)
def test_list_filtered_shows_what_matches(visit_many, asked, numbers):
    answer = visit_many(**asked)
    assert answer.status == 200
    assert answer.runs == names(numbers)
    assert ("No runs match." in answer.text) == (not numbers)


def test_list_filter_that_cannot_be_read_is_shown_with_its_place(visit_many):
    answer = visit_many(where="net_pnl > <b>", workflow="wf_1")
    assert answer.status == 400
    assert "at position 10" in answer.text
    assert "net_pnl &gt; &lt;b&gt;\n          ^" in answer.text
    assert 'value="net_pnl &gt; &lt;b&gt;"' in answer.text  # the form keeps it
    assert 'value="wf_1"' in answer.text


@pytest.mark.parametrize("page", ["0", "-1", "x", "1e3", "99999999999", "١"])
def test_list_page_that_is_no_number_is_refused(visit_many, page):
    answer = visit_many(page=page)
    assert answer.status == 400
    assert "page must be a whole number" in answer.text


def test_list_page_behind_the_last_leads_back(visit_many):
    answer = visit_many(page=9)
    assert (answer.status, answer.runs) == (200, [])
    assert "back to the first" in answer.text


def test_list_links_keep_the_question(visit_many):
    links = visit_many(where="number > 1", prompt="000000000004", sort="net_pnl").links
    turned = next(link for link in links if "order=asc" in link)
    assert turned == f"{visit_many.prefix}/?where=number+%3E+1&prompt=000000000004&sort=net_pnl&order=asc"
    following = next(
        link for link in visit_many(where="number > 1", sort="net_pnl").links if "page=2" in link
    )
    assert visit_many(path=following).runs == visit_many(where="number > 1", sort="net_pnl", page=2).runs


def test_list_offers_the_names_of_the_newest_runs(visit_many):
    text = visit_many(sort="number", order="asc").text
    lists = dict(re.findall(r'<datalist id="known-(\w+)">(.*?)</datalist>', text))
    found = {name: set(re.findall('value="([^"]+)"', options)) for name, options in lists.items()}
    assert found == {
        "metrics": {"net_pnl", "number"},
        "workflows": {"wf_0", "wf_1", "wf_2"},
        "tasks": {"t0", "t1", "t2", "t3"},
    }
    assert '<option value="asc" selected>' in text


def test_list_of_an_empty_store_says_how_to_begin(own, serve):
    assert "No runs yet" in serve(own)().text


def test_list_shows_runs_that_came_went_and_came_back(own, serve):
    commit_many(own, 0, 5)
    visit = serve(own)
    assert visit(sort="number").runs == names([4, 3, 2, 1, 0])
    commit_many(own, 5, 3)
    assert visit(sort="number").runs == names([7, 6, 5, 4, 3, 2, 1, 0])
    assert visit().runs == names(range(7, -1, -1))
    pretend_export(own)  # a run that is queued is not forgotten
    own.forget(["run_006"])
    assert visit(sort="number").runs == names([7, 5, 4, 3, 2, 1, 0])
    assert "7 runs" in visit().text
    own.undelete("run_006")
    assert visit().runs == names(range(7, -1, -1))
    own.forget(["run_001"])
    own.undelete("run_001")
    own.forget(["run_002"])
    assert visit().runs == names([7, 6, 5, 4, 3, 1, 0])
    own.undelete("run_002")
    own.forget(["run_003"])  # as many rows as before
    assert visit().runs == names([7, 6, 5, 4, 2, 1, 0])


def ask(store, rankings, question, **part):
    with store.environment.read() as transaction:
        return rankings.page(transaction, question, **{"offset": 0, "limit": 50, **part})


def test_ranking_looks_at_each_run_once_and_then_at_new_ones(own):
    commit_many(own, 0, 60)
    rankings, question = Rankings(), Question(Selection(), metric="net_pnl")
    ask(own, rankings, question)
    assert rankings.looked_at_count == 60
    ask(own, rankings, question, offset=50)
    ask(own, rankings, question, descending=False)
    assert rankings.looked_at_count == 60
    commit_many(own, 60, 3)
    found, total = ask(own, rankings, question, limit=100)
    assert rankings.looked_at_count == 63
    assert total == len(found) == 63


def test_ranking_grown_step_by_step_equals_one_made_at_once(own, monkeypatch):
    monkeypatch.setattr(ranking, "_MANY_NEW", 7)  # both ways of putting runs in
    where = "number > 3"
    question = Question(Selection(where=predicate.parse(where)), where, "net_pnl")
    rankings = Rankings()
    for first, count in ((0, 5), (5, 20), (25, 1), (26, 9)):
        commit_many(own, first, count)
        ask(own, rankings, question)
    for descending in (True, False):
        grown = ask(own, rankings, question, descending=descending)
        assert grown == ask(own, Rankings(), question, descending=descending)
        assert grown[1] == sum(1 for n in range(4, 35) if metric(n))


def test_ranking_tells_true_from_one(own):
    for name, value in (("a", True), ("b", 1)):
        commit_run(own, name, metadata={"test_metrics": {"x": value}})
    rankings = Rankings()
    found = []
    for where in ("x = 1", "x = true"):
        sequences, _ = ask(own, rankings, Question(Selection(where=predicate.parse(where)), where))
        found.append(sequences)
    assert [len(each) for each in found] == [1, 1]
    assert found[0] != found[1]


def test_ranking_keeps_a_bounded_number_of_entries(own, monkeypatch):
    monkeypatch.setattr(ranking, "MAX_KEPT_ENTRIES", 25)
    commit_many(own, 0, 10)
    rankings = Rankings()
    for name in ("a", "b", "c", "d"):
        ask(own, rankings, Question(Selection(), metric=name))
    assert rankings.looked_at_count == 40
    ask(own, rankings, Question(Selection(), metric="d"))
    assert rankings.looked_at_count == 40
    ask(own, rankings, Question(Selection(), metric="a"))
    assert rankings.looked_at_count == 50


def test_ranking_sorts_numbers_beyond_every_double(own):
    for name, value in (("a", 10**400), ("b", 1.0), ("c", -(10**400)), ("d", "text"), ("e", True)):
        commit_run(own, name, metadata={"test_metrics": {"x": value}})
    with own.environment.read() as transaction:
        found, _ = Rankings().page(transaction, Question(Selection(), metric="x"), offset=0, limit=9)
    assert found[:3] == [1, 2, 3]
    assert set(found[3:]) == {4, 5}
