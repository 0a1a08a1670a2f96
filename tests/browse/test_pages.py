"""The pages of runs, files, comparisons, branches and the export; hostile content stays text."""

import http.client
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

pytest.importorskip("starlette", reason="the extra `browse` is not installed")
pytest.importorskip("jinja2", reason="the extra `browse` is not installed")

from cas.lmdbenv import Table
from cli.browse import contents, site, tables
from cli.browse.site import Site
from tests.browse.conftest import HOSTILE_FILES, HOSTILE_ID, IMAGE, SCRIPT, STRATEGY, commit_run, trades


class Markup(HTMLParser):
    """The elements of a page as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))


def test_run_page_shows_its_parts(visit):
    text = visit("run", ref="corr_first").text
    for heading in ("Metrics", "Equity and drawdown", "Trades", "Files", "strategy.py", "Record"):
        assert heading in text
    assert '<span class="nf">decide</span>' in text
    assert "<dt>net_pnl</dt><dd>52.5</dd>" in text
    assert text.count("<polyline") == 2
    assert text.count("<polygon") == 1
    assert "All 30 rows of trades.csv" in text
    assert '<span title="-6.0250000001">-6.025</span>' in text
    assert "GOOG" in text
    assert "queued" in text


def test_run_page_of_a_run_without_curve_trades_metrics_stands(visit):
    text = visit("run", ref="bare").text
    assert "no equity curve" in text
    assert "<polyline" not in text
    assert "Metrics" not in text
    assert "Trades" not in text
    assert "notes.txt" in text


def test_run_page_of_a_revision_is_that_revision_s(visit):
    assert "strategy.py" in visit("run", ref="corr_first").text
    second = visit("run", ref="corr_first@2").text
    assert "revision 2" in second
    assert "strategy.py" not in second
    assert "notes.txt" in second


def test_run_page_leads_to_the_one_before_on_its_branch(visit):
    link = next(link for link in visit("run", ref="corr_second").links if "/diff?a=" in link)
    assert link == f"{visit.prefix}/diff?a=corr_first&b=corr_second"
    assert not any("/diff?a=" in link for link in visit("run", ref="corr_first").links)


def test_run_page_of_a_rollback_tells_where_it_went(visit):
    text = visit("run", ref="main").text
    assert "Rollback" in text
    assert "ref=corr_first" in text
    assert SCRIPT not in text


@pytest.mark.parametrize(
    ("page", "status", "text"),
    [
        ("run?ref=nothing", 404, "there is no run, tag or branch"),
        ("run", 400, "the address lacks ref"),
        ("file?ref=corr_first&name=nothing", 404, "has no file"),
        ("diff?a=corr_first", 400, "two runs can be compared, not 1"),
        ("diff?pick=a&pick=b&pick=c", 400, "two runs can be compared, not 3"),
        ("log?branch=nothing", 404, "the store has no branch"),
        ("nothing", 404, "there is no such page"),
        ("run?ref=%00", 404, "there is no run"),
        ("log?branch=", 400, "the address lacks branch"),
        ("file?ref=corr_first&name=trades.csv&column=x", 400, "column must be a whole number"),
    ],
)
def test_error_is_a_page_with_its_reason(visit, page, status, text):
    answer = visit(path=f"{visit.prefix}/{page}")
    assert (answer.status, text in answer.text) == (status, True)
    assert answer.headers["content-type"].startswith("text/html")


def test_file_page_of_a_program_has_numbered_highlighted_lines(visit):
    text = visit("file", ref="corr_first", name="strategy.py").text
    assert '<span class="line" id="L2">    <span class="k">return</span>' in text


def test_file_page_of_a_table_has_pages_and_an_order(visit):
    first = visit("file", ref="corr_second", name="trades.csv")
    assert "1–100 of 250 rows" in first.text
    assert "Page 1 of 3" in first.text
    last = visit("file", ref="corr_second", name="trades.csv", page=3)
    assert "201–250 of 250 rows" in last.text
    for order, best in (("desc", 6), ("asc", -6)):
        sorted_ = visit("file", ref="corr_second", name="trades.csv", column=2, order=order)
        cells = re.findall(r'<td class="number">(?:<span title="([^"]+)">)?', sorted_.text)
        assert int(float(cells[1])) == best
        assert f'aria-sort="{order}ending"' in sorted_.text


def test_file_page_of_a_table_can_be_text(visit):
    text = visit("file", **{"ref": "corr_first", "name": "trades.csv", "as": "text"}).text
    assert "Bar,PnL,Side" in text
    assert "<table>" not in text


def test_file_page_of_binary_and_broken_files_says_so(own, serve):
    files = {
        "model.bin": b"\0\1\2" * 10,
        "odd.csv": b"a,b\n\0\0\n",
        "long.csv": b"x" * (2 << 20),
        "empty.csv": b"",
        "empty.txt": b"",
        "latin.txt": "Grün\n".encode("latin-1"),
    }
    commit_run(own, "odd", files=files)
    visit = serve(own)
    said = {name: visit("file", ref="odd", name=name) for name in files}
    assert {answer.status for answer in said.values()} == {200}
    assert "It is binary" in said["model.bin"].text
    assert "holds binary data" in said["odd.csv"].text
    assert "a line is too long" in said["long.csv"].text
    assert "The file is empty." in said["empty.txt"].text
    assert "Gr\ufffdn" in said["latin.txt"].text
    assert visit("run", ref="odd").status == 200


def test_file_page_shows_the_beginning_of_long_text_only(own, serve, monkeypatch):
    monkeypatch.setattr(contents, "MAX_SHOWN_BYTES", 1000)
    monkeypatch.setattr(contents, "MAX_READ_BYTES", 20_000)
    files = {"some.log": b"0123456789\n" * 200, "all.log": b"0123456789\n" * 2000}
    commit_run(own, "long", files=files)
    visit = serve(own)
    some = visit("file", ref="long", name="some.log").text
    assert some.count("0123456789") == 90
    assert "Only the beginning is shown; 1.2 KiB more" in some
    everything = visit("file", ref="long", name="all.log").text
    assert "too large to be shown" in everything
    assert "0123456789" not in everything


def test_table_too_large_to_sort_is_refused(own, serve, monkeypatch):
    monkeypatch.setattr(tables, "MAX_SORTED_BYTES", 100)
    commit_run(own, "big", files={"trades.csv": trades(50)})
    visit = serve(own)
    assert visit("file", ref="big", name="trades.csv", column=1).status == 400
    assert "column=" not in visit("file", ref="big", name="trades.csv").text


def test_diff_page_overlays_curves_and_shows_metrics_and_code(visit):
    text = visit("diff", a="corr_first", b="corr_second").text
    assert text.count("<polyline") == 4
    assert 'class="trace a"' in text
    assert 'class="trace b"' in text
    assert "+347.5" in text
    assert '<span class="removed">-    return price &gt; 100' in text
    assert '<span class="added">+    return price &gt; 200' in text
    assert "only in A" in text
    assert "First differs in row" in text
    assert text.index("strategy.py") < text.index("trades.csv")


def test_diff_page_of_two_picked_runs_is_the_same(visit):
    picked = visit("diff", pick=["corr_first", "corr_second"])
    assert picked.links == visit("diff", a="corr_first", b="corr_second").links


def test_diff_page_of_a_run_with_itself_says_that_nothing_differs(visit):
    assert "The same files, metrics and metadata." in visit("diff", a="corr_first", b="corr_first").text


def test_diff_page_of_runs_of_which_one_has_no_curve(visit):
    text = visit("diff", a="corr_first", b="bare").text
    assert text.count("<polyline") == 2
    assert "B: no equity curve" in text


def test_log_page_shows_commits_and_rollbacks(visit):
    text = visit("log", branch="ai/generated/wf_rsi/t1").text
    order = [text.index(f"ref=corr_{name}") for name in ("bare", "first%402", "second", 'first"')]
    assert order == sorted(order)
    rollback = visit("log", branch="main").text
    assert "rollback to" in rollback
    assert SCRIPT not in rollback


def test_log_page_has_pages(own, serve):
    for number in range(53):
        commit_run(own, f"r{number:02}", files={"a.txt": b"%d" % number})
    visit = serve(own)
    first, second = (visit("log", branch="ai/generated/wf_rsi/t1", page=page).text for page in (1, 2))
    assert re.findall(r"ref=corr_(r\d\d)", first + second) == [
        f"r{number:02}" for number in range(52, -1, -1)
    ]
    assert ('rel="next"' in first, 'rel="next"' in second) == (True, False)


def test_branches_page_lists_and_filters(visit):
    assert "ai/generated/wf_rsi/t1" in visit("branches").text
    assert "ai/generated/wf_rsi/t1" not in visit("branches", prefix="main").text
    assert "No branch begins so." in visit("branches", prefix="x").text


def test_export_page_counts_and_lists_what_is_parked(own, serve):
    from cas import outbox

    for name in ("a", "b"):
        commit_run(own, name)
    with own.environment.write() as transaction:
        outbox.record_failure(transaction, 1, reason=IMAGE, now_us=own.now_us(), park=True)
    text = serve(own)("export").text
    assert "<dt>Queued for git</dt><dd>1</dd>" in text
    assert '<dt>Parked</dt><dd class="bad">1</dd>' in text
    assert "&lt;" not in text.split("Parked</h2>")[0]
    assert "<img" not in text
    assert "onerror" in text


@pytest.mark.parametrize(
    ("page", "parameters"),
    [
        ("", {}),
        ("", {"where": SCRIPT}),
        ("", {"sort": SCRIPT, "workflow": SCRIPT}),
        ("run", {"ref": HOSTILE_ID}),
        ("run", {"ref": SCRIPT}),
        ("diff", {"a": HOSTILE_ID, "b": "corr_first"}),
        ("log", {"branch": SCRIPT}),
        ("branches", {"prefix": SCRIPT}),
        (SCRIPT, {}),
        *(("file", {"ref": HOSTILE_ID, "name": name}) for name in HOSTILE_FILES),
        ("file", {"ref": HOSTILE_ID, "name": "trades.csv", "as": "text"}),
    ],
    ids=str,
)
def test_hostile_text_stays_text(visit, page, parameters):
    answer = visit(page.replace("<", "%3C").replace(">", "%3E").replace("'", "%27"), **parameters)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    elements = Markup(answer.text).elements
    assert [given for tag, given in elements if tag == "script"] == [
        {"src": f"{visit.prefix}/assets/browse.js", "defer": None}
    ]
    tags = {tag for tag, _ in elements}
    assert not tags & {"img", "b", "iframe", "object", "embed", "base", "style", "a:script", "rect"}
    for tag, given in elements:
        assert not [name for name in given if name.startswith("on") or name in {"style", "srcdoc"}]
        if tag not in {"link", "script"}:
            assert "src" not in given
        for name in ("href", "action"):
            assert given.get(name, "#").startswith((f"{visit.prefix}/", "#"))


def test_text_that_turns_or_steers_is_shown_as_escapes(visit):
    text = visit("file", ref=HOSTILE_ID, name="turned\u202e.txt").text
    assert "abc\\u202edef\\x1b[31m" in text
    assert "\u202e" not in text
    assert "\u202e" not in visit("run", ref=HOSTILE_ID).text


def test_hostile_svg_and_html_are_handed_out_as_downloads(visit):
    for name in HOSTILE_FILES:
        answer = visit("raw", ref=HOSTILE_ID, name=name)
        assert answer.body == HOSTILE_FILES[name]
        assert answer.headers["content-type"] == "application/octet-stream"
        disposition = answer.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%~-]+", disposition)
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_download_of_a_file_of_many_parts_is_whole(own, serve):
    content = bytes(range(256)) * (40 << 10)  # 10 MiB
    commit_run(own, "big", files={"a.bin": content, "empty": b""})
    visit = serve(own)
    assert visit("raw", ref="big", name="a.bin").body == content
    empty = visit("raw", ref="big", name="empty")
    assert (empty.status, empty.body) == (200, b"")


def damage_segments(store):
    """Change one byte in the middle of every stored stream."""
    with store.environment.write() as transaction:
        for key in list(transaction.scan_keys(Table.SEGMENTS)):
            stored = bytearray(transaction.get(Table.SEGMENTS, key))
            for at in range(0, len(stored), 40):
                stored[at] ^= 0xFF
            transaction.put(Table.SEGMENTS, key, bytes(stored))


def test_damaged_file_is_an_error_in_its_place(own, serve):
    commit_run(own, "a")
    commit_run(own, "b", files={"strategy.py": STRATEGY + b"#\n"}, metadata={})
    damage_segments(own)
    visit = serve(own)
    page = visit("run", ref="a")
    assert page.status == 200
    assert page.text.count("does not match its digest") == 3  # curve, trades, code
    assert "<dt>net_pnl</dt>" in page.text
    assert visit("file", ref="a", name="strategy.py").status == 500
    assert visit("raw", ref="a", name="strategy.py").status == 500
    compared = visit("diff", a="a", b="b")
    assert compared.status == 200
    assert "does not match its digest" in compared.text
    assert visit().status == 200


def test_damaged_file_of_many_parts_is_a_broken_download(own, serve):
    commit_run(own, "big", files={"a.bin": bytes(range(256)) * (40 << 10)})
    with own.environment.write() as transaction:
        key = list(transaction.scan_keys(Table.SEGMENTS))[-1]
        stored = bytearray(transaction.get(Table.SEGMENTS, key))
        stored[-10] ^= 0xFF
        transaction.put(Table.SEGMENTS, key, bytes(stored))
    visit = serve(own)
    with pytest.raises(http.client.IncompleteRead) as broken:
        visit("raw", ref="big", name="a.bin")
    assert 0 < len(broken.value.partial) < 256 * (40 << 10)


def test_unforeseen_error_is_a_page_and_is_told(shop):
    told = []
    here = Site(shop, "/x", told.append)

    def broken(*_):
        raise ZeroDivisionError("secret detail")

    answer = site._answered(here, broken, SimpleNamespace())
    assert answer.status_code == 500
    assert b"ZeroDivisionError" in answer.body
    assert b"secret detail" not in answer.body
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_curve_is_read_once_for_the_same_content(own, serve):
    commit_run(own, "a")
    commit_run(own, "b")
    here = Site(own, "/x", [].append)
    first, again = (here.curve(ref, own.list_files(ref)) for ref in ("a", "b"))
    assert first is again
