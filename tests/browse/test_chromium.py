"""The pages in a real browser: no complaint, with the script and without it, and nothing hostile runs.

Pictures of every page at two widths are written when BROWSE_PICTURES names a folder.
"""

import os
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.browse.chromium import Chromium, find_program
from tests.browse.conftest import HOSTILE_FILES, HOSTILE_ID, SCRIPT

PAGES = {
    "runs": ("", {}),
    "sorted": ("", {"sort": "net_pnl", "where": "net_pnl > 1"}),
    "run": ("run", {"ref": "corr_first"}),
    "bare": ("run", {"ref": "bare"}),
    "rollback": ("run", {"ref": "main"}),
    "code": ("file", {"ref": "corr_first", "name": "strategy.py"}),
    "table": ("file", {"ref": "corr_second", "name": "trades.csv", "column": 2, "order": "desc"}),
    "diff": ("diff", {"a": "corr_first", "b": "corr_second"}),
    "log": ("log", {"branch": "ai/generated/wf_rsi/t1"}),
    "branches": ("branches", {}),
    "export": ("export", {}),
}
HOSTILE = {
    "hostile_run": ("run", {"ref": HOSTILE_ID}),
    "hostile_diff": ("diff", {"a": HOSTILE_ID, "b": "corr_second"}),
    "hostile_sort": ("", {"sort": SCRIPT, "workflow": SCRIPT}),
    **{
        f"hostile_{number}": ("file", {"ref": HOSTILE_ID, "name": name})
        for number, name in enumerate(HOSTILE_FILES)
    },
}


@pytest.fixture(scope="module")
def chromium():
    program = find_program()
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    try:
        browser = Chromium(program)
    except (OSError, TimeoutError) as error:  # such as a placeholder that asks for another package
        pytest.skip(f"{program} does not start here: {error}")
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    chromium.open("about:blank")  # or a late word about the page before would be heard in this test
    chromium.complaints.clear()
    chromium.requests.clear()
    return chromium


def address(visit, page, parameters):
    return f"http://127.0.0.1:{visit.server.port}{visit.prefix}/{page}" + (
        f"?{urlencode(parameters)}" if parameters else ""
    )


@pytest.mark.parametrize("width", [1400, 400])
def test_pages_load_fit_and_ask_for_nothing_elsewhere(visit, browser, width):
    base = address(visit, "", {})
    folder = os.environ.get("BROWSE_PICTURES")
    for dark in (False, True):
        browser.look(width=width, dark=dark)
        for name, (page, parameters) in (PAGES | HOSTILE).items():
            assert browser.open(address(visit, page, parameters)) == 200, name
            assert browser.evaluate("document.documentElement.scrollWidth") == width, name
            assert browser.evaluate("document.title").endswith(" – cas"), name
            if folder and not (dark and name in HOSTILE):
                browser.picture(Path(folder) / f"{name}_{width}{'_dark' if dark else ''}.png")
    assert browser.complaints == []
    assert {url for url in browser.requests if not url.startswith(base)} == set()


def test_hostile_content_does_not_run(visit, browser):
    for name, (page, parameters) in HOSTILE.items():
        assert browser.open(address(visit, page, parameters)) == 200
        assert browser.evaluate("document.title") != "ran", name
        assert browser.evaluate("document.scripts.length") == 1, name
        assert browser.evaluate("document.images.length") == 0, name
    assert browser.complaints == []


def test_script_put_into_a_page_by_hand_is_refused_by_the_policy(visit, browser):
    browser.open(address(visit, "", {}))
    browser.evaluate(
        "const script = document.createElement('script'); script.textContent = \"document.title = 'ran'\";"
        "document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=data:,x onerror=\"document.title = 1\">')"
    )
    assert browser.evaluate("document.title") == "Runs – cas"
    assert any("Content Security Policy" in text for text in browser.complaints)


def test_plot_tells_the_value_under_the_pointer_and_under_the_keys(visit, browser):
    browser.look(width=1400)
    browser.open(address(visit, "run", {"ref": "corr_first"}))
    box = "document.querySelector('figure.plot > svg').getBoundingClientRect()"
    x, y, width = (browser.evaluate(f"{box}.{side}") for side in ("x", "y", "width"))
    assert browser.evaluate("document.querySelector('.readout').textContent") == ""
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 1, y=y + 50)
    assert browser.evaluate("document.querySelector('.readout').textContent") == "2024-01-01: 10,000"
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + width - 1, y=y + 50)
    assert browser.evaluate("document.querySelector('.readout').textContent") == "2024-05-08: 11,190"
    browser.evaluate("document.querySelector('figure.plot > svg').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
    assert browser.evaluate("document.querySelector('.readout').textContent").startswith("2024-05-0")
    assert browser.complaints == []


def test_two_runs_are_chosen_and_compared(visit, browser):
    browser.look(width=1400)
    browser.open(address(visit, "", {}))
    button = "document.querySelector('form[data-pick] button')"
    assert browser.evaluate(f"{button}.disabled")
    for ref in ("corr_first", "corr_second"):
        browser.evaluate(f"document.querySelector('input[value=\"{ref}\"]').click()")
    assert not browser.evaluate(f"{button}.disabled")
    assert browser.evaluate("document.querySelectorAll('input[name=pick]:disabled').length") == 3
    with browser.loading():
        browser.evaluate(f"{button}.click()")
    assert "Two runs compared" in browser.evaluate("document.body.textContent")


def test_pages_work_without_the_script(visit, browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address(visit, "run", {"ref": "corr_first"}))
        assert browser.evaluate("document.querySelectorAll('polyline').length") == 2
        browser.open(address(visit, "", {}))
        assert not browser.evaluate("document.querySelector('form[data-pick] button').disabled")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.complaints == []
