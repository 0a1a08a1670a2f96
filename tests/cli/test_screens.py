"""The main screens as a person sees them, at 80 and 120 columns.

A screen that has no file yet is written and the test fails: look at the file, and run it again. To renew one, delete
it.
"""

import re
from pathlib import Path

import pytest

SCREENS = Path(__file__).parent / "screens"
DIGITS = "0123456789abcdef" * 4
METRICS = (
    {"total_trades": 12, "net_pnl": 120.5, "win_rate": 0.583, "max_drawdown": 45.2},
    {"total_trades": 31, "net_pnl": -88.25, "win_rate": 0.419, "max_drawdown": 240.0},
    {"total_trades": 7, "net_pnl": 1024.0, "win_rate": 0.857, "max_drawdown": 12.75},
)
WORDS = {
    "overview": (),
    "list": ("list",),
    "show": ("show", "corr_abc123@2"),
    "show_files": ("show", "corr_abc123@2", "--files"),
    "log": ("log", "main"),
    "stats": ("stats",),
    "export_status": ("export", "status"),
    "verify": ("verify",),
    "diff": ("diff", "corr_abc123", "corr_abc123@2"),
    "gc_dry_run": ("gc", "--keep-last", "1", "--dry-run"),
    "alerts": ("alerts",),
    "log_alone": ("log",),
    "not_found": ("show", "corr_abd123"),
    "bad_where": ("list", "--where", "net_pnl > high"),
    "help": ("--help",),
    "help_commit": ("commit", "--help"),
    "help_export": ("export", "--help"),
    "help_exit_codes": ("help", "exit-codes"),
    "help_names": ("help", "names"),
    "help_json": ("help", "json"),
    "help_where": ("help", "where"),
}


@pytest.fixture
def story(store, commit, clock, place):
    """A store with a few runs and a rollback."""
    for number, metrics in enumerate(METRICS):
        pairs = [word for key, value in metrics.items() for word in ("--set", f"test_metrics.{key}={value}")]
        commit(
            ("abc123", "wf_rsi_strategy_run_number_two_of_a_long_sweep", "abc123")[number],
            *(*pairs, "--set", "agent_version=coder-v1.0", "--prompt-hash", f"7a8b9c0d1e{number:02}"),
            content=f"x,y\n1,{number}\n",
            workflow=("wf_rsi_strategy", "wf_breakout", "wf_rsi_strategy")[number],
            task=f"task_coder_{number:03}",
        )
    clock.advance(60)
    store.ok("revert", "corr_abc123", "--reason", "drawdown in live trading")
    clock.advance(7200)
    return store


def still(text, place):
    """Return a screen with whatever differs between machines and versions of the format made the same."""
    text = text.replace(str(place), "/place").replace(
        "[FILE]...", "[FILE]"
    )  # older typers leave out the dots
    text = re.sub(r"\b(?=\d*[a-f])[0-9a-f]{12,64}\b", lambda found: DIGITS[: len(found[0])], text)
    text = re.sub(r"[\d.]+ [KMGT]iB free", "100.0 GiB free", text)
    return re.sub(
        r"^(file content|index|store file|commit time|growth) .*$"
        r"|(?<=distinct files), .*$",
        r"\1 ...",
        text,
        flags=re.MULTILINE,
    )


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", WORDS)
def test_screen_looks_as_it_did(story, place, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = story(*WORDS[name])
    shown = still(f"{ended.out}--- stderr, exit code {ended.code}\n{ended.err}", place)
    shown = re.sub(r" +$", "", shown, flags=re.MULTILINE)
    file = SCREENS / f"{name}_{columns}.txt"
    if not file.exists():
        file.write_text(shown)
        pytest.fail(f"{file} is new: look at it")
    assert shown == file.read_text()
    if name not in {"show", "show_files"}:  # ids are not cut, whatever the width
        assert max(map(len, shown.partition("--- stderr")[0].splitlines()), default=0) <= columns
