"""The story of ``cas demo``: made-up runs of a strategy, small and the same every time.

Invariant: no network, no clock, no package beyond the product's own; the same seed gives the same bytes. The figures
are a random walk and mean nothing.
"""

from __future__ import annotations

import dataclasses
import io
import json
import random
from typing import Final

_BAR_COUNT: Final = 300
_START_CASH: Final = 10_000.0


@dataclasses.dataclass(frozen=True, slots=True)
class MadeRun:
    """What one run left: its IDs, its files and its metadata."""

    workflow_id: str
    task_id: str
    correlation_id: str
    prompt_hash: str
    files: dict[str, bytes]
    metadata: dict[str, object]


def make_run(number: int, seed: int = 7) -> MadeRun:
    """Return made-up run ``number``: a moving average strategy over a random walk."""
    draw = random.Random(f"{seed}/{number}")  # noqa: S311  made-up prices, no secret
    fast, slow = 5 + number % 4 * 5, 30 + number % 3 * 20
    prices = _walk(draw)
    trades, equity = _trade(prices, fast, slow)
    gains = [gain for _, _, _, gain in trades]
    metrics: dict[str, object] = {
        "total_trades": len(gains),
        "net_pnl": round(equity[-1] - _START_CASH, 2),
        "win_rate": round(sum(gain > 0 for gain in gains) / len(gains), 3) if gains else None,
        "max_drawdown": round(_drawdown(equity), 2),
    }
    trade_lines = [f"{opened},{closed},{units},{gain:.2f}" for opened, closed, units, gain in trades]
    return MadeRun(
        workflow_id=f"wf_{('trend', 'swing')[number % 2]}",
        task_id=f"ma_{fast}_{slow}",
        correlation_id=f"demo{number:04d}",
        prompt_hash=f"{draw.getrandbits(64):016x}",
        files={
            "strategy.py": _SOURCE.format(fast=fast, slow=slow).encode(),
            "test_report.json": (json.dumps(metrics, indent=2) + "\n").encode(),
            "trades.csv": _lines("opened,closed,units,gain", trade_lines),
            "equity_curve.csv": _lines(
                "bar,equity", [f"{bar},{value:.2f}" for bar, value in enumerate(equity)]
            ),
        },
        metadata={"agent_version": "demo-1", "llm_version": "none", "test_metrics": metrics},
    )


_SOURCE: Final = '''"""Hold one unit while the fast average is above the slow one."""

FAST = {fast}
SLOW = {slow}


def wants_to_hold(prices):
    return sum(prices[-FAST:]) / FAST > sum(prices[-SLOW:]) / SLOW
'''


def _walk(draw: random.Random) -> list[float]:
    price, prices = 100.0, list[float]()
    for _ in range(_BAR_COUNT):
        price *= 1 + draw.gauss(0.0004, 0.012)
        prices.append(round(price, 4))
    return prices


def _trade(
    prices: list[float], fast: int, slow: int
) -> tuple[list[tuple[int, int, int, float]], list[float]]:
    """Return the trades, each opened, closed, units and gain, and the equity after every bar."""
    trades: list[tuple[int, int, int, float]] = []
    cash, units, opened = _START_CASH, 0, 0
    equity: list[float] = []
    for bar, price in enumerate(prices):
        seen = prices[: bar + 1]
        wants = bar + 1 >= slow and sum(seen[-fast:]) / fast > sum(seen[-slow:]) / slow
        if wants and not units:
            units, opened = int(cash // price), bar
            cash -= units * price
        elif units and (not wants or bar == len(prices) - 1):
            trades.append((opened, bar, units, units * (price - prices[opened])))
            cash, units = cash + units * price, 0
        equity.append(cash + units * price)
    return trades, equity


def _drawdown(equity: list[float]) -> float:
    peak, worst = equity[0], 0.0
    for value in equity:
        peak = max(peak, value)
        worst = max(worst, peak - value)
    return worst


def _lines(head: str, lines: list[str]) -> bytes:
    text = io.StringIO()
    for line in (head, *lines):
        text.write(line + "\n")
    return text.getvalue().encode()
