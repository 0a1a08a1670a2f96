"""A parameter sweep of real backtests: input for demonstrations, benchmarks and tests.

Each run trades one strategy with one choice of parameters over one window of the prices that the
``backtesting`` package ships, and leaves the five files that a strategy agent leaves: ``strategy.py`` (the very
source that was executed), ``test_report.json``, ``trades.csv``, ``equity_curve.csv`` and ``events.log``.

Invariant: a run is a function of its ``RunSpec`` and the versions of ``backtesting`` and ``pandas``; no clock, no
process id and no random state outside the spec enters its bytes. This module does nothing when imported: the
heavy packages are loaded by the first run of a process.

    python examples/backtest_runs.py --runs 200 --out build/runs
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import random
import string
import sys
import time
import warnings
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import pandas as pd

FILE_NAMES: Final = ("strategy.py", "test_report.json", "trades.csv", "equity_curve.csv", "events.log")
AGENT_VERSION: Final = "tester-v1.0"
LLM_VERSION: Final = "template-v1"
# Bars per run. One bar is about 150 bytes of events.log and equity_curve.csv together, so a run is about 130 KB.
WINDOW_BARS: Final = (760, 870)
# Runs per task of a worker: few enough that all workers end at about the same time.
_CHUNK_RUNS: Final = 4
# Tasks handed out per worker: bounds the memory of a long sweep when its consumer is the slower one.
_AHEAD_CHUNKS: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Market:
    """One shipped price series and the account that trades it."""

    symbol: str
    bar: str
    cash: float
    commission: float
    weight: int


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """One strategy: what was asked for, its source with ``$parameters``, and the values to sweep."""

    name: str
    prompt: str
    template: str
    grid: Mapping[str, Sequence[float]]


@dataclasses.dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that decides a run's bytes."""

    index: int
    seed: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One finished run, in the words of ``commit_artifacts``; ``files`` maps name to content."""

    files: dict[str, bytes]
    workflow_id: str
    task_id: str
    correlation_id: str
    prompt_hash: str
    metadata: dict[str, Any]


MARKETS: Final = (
    Market("EURUSD", "1 hour", cash=10_000.0, commission=0.00005, weight=9),
    Market("GOOG", "1 day", cash=100_000.0, commission=0.001, weight=9),
    # 156 bars only: the small runs of the sweep.
    Market("BTCUSD", "1 month", cash=5_000_000.0, commission=0.002, weight=2),
)

_SMA_CROSS: Final = '''\
"""Moving-average crossover: long while the fast average is above the slow one, short below."""

from backtesting import Strategy
from backtesting.lib import crossover


def sma(values, bars):
    """Simple moving average; NaN until `bars` values are known."""
    known = range(bars, len(values) + 1)
    return [float("nan")] * (bars - 1) + [sum(values[i - bars : i]) / bars for i in known]


class SmaCross(Strategy):
    fast_bars = $fast_bars
    slow_bars = $slow_bars
    stop_fraction = $stop_fraction

    def init(self):
        self.fast = self.I(sma, self.data.Close, self.fast_bars)
        self.slow = self.I(sma, self.data.Close, self.slow_bars)

    def next(self):
        price = self.data.Close[-1]
        if crossover(self.fast, self.slow):
            self.position.close()
            self.buy(size=0.9, sl=price * (1 - self.stop_fraction))
        elif crossover(self.slow, self.fast):
            self.position.close()
            self.sell(size=0.9, sl=price * (1 + self.stop_fraction))
'''

_RSI_REVERSION: Final = '''\
"""RSI mean reversion: buy what fell too fast, leave when it has recovered."""

from backtesting import Strategy


def rsi(values, bars):
    """Relative strength index with Wilder's smoothing, 0 to 100; NaN until `bars` changes are known."""
    out = [float("nan")] * len(values)
    gain = loss = 0.0
    for i in range(1, len(values)):
        change = values[i] - values[i - 1]
        up, down = max(change, 0.0), max(-change, 0.0)
        if i <= bars:
            gain += up / bars
            loss += down / bars
        else:
            gain += (up - gain) / bars
            loss += (down - loss) / bars
        if i >= bars:
            out[i] = 100.0 if loss == 0 else 100.0 - 100.0 / (1.0 + gain / loss)
    return out


class RsiReversion(Strategy):
    period_bars = $period_bars
    oversold = $oversold
    recovered = $recovered
    stop_fraction = $stop_fraction

    def init(self):
        self.rsi = self.I(rsi, self.data.Close, self.period_bars)

    def next(self):
        if not self.position and self.rsi[-1] < self.oversold:
            self.buy(size=0.8, sl=self.data.Close[-1] * (1 - self.stop_fraction))
        elif self.position and self.rsi[-1] > self.recovered:
            self.position.close()
'''

_BREAKOUT: Final = '''\
"""Channel breakout: buy a new high, leave at a new low of a shorter channel."""

from backtesting import Strategy


def previous_extreme(values, bars, pick):
    """`pick` of the `bars` values before each one; NaN until so many are known."""
    return [float("nan")] * bars + [pick(values[i - bars : i]) for i in range(bars, len(values))]


class Breakout(Strategy):
    entry_bars = $entry_bars
    exit_bars = $exit_bars
    target_fraction = $target_fraction

    def init(self):
        self.upper = self.I(previous_extreme, self.data.High, self.entry_bars, max)
        self.lower = self.I(previous_extreme, self.data.Low, self.exit_bars, min)

    def next(self):
        price = self.data.Close[-1]
        if not self.position and price > self.upper[-1]:
            self.buy(size=0.9, tp=price * (1 + self.target_fraction))
        elif self.position and price < self.lower[-1]:
            self.position.close()
'''

RECIPES: Final = (
    Recipe(
        "sma_cross",
        "Trade the crossover of two moving averages, long and short, with a protective stop.",
        _SMA_CROSS,
        {"fast_bars": (5, 8, 10, 12), "slow_bars": (20, 25, 30), "stop_fraction": (0.02, 0.05, 0.1)},
    ),
    Recipe(
        "rsi_reversion",
        "Buy when the RSI says oversold, sell when it has recovered, with a protective stop.",
        _RSI_REVERSION,
        {
            "period_bars": (5, 9, 14),
            "oversold": (25, 30),
            "recovered": (50, 60),
            "stop_fraction": (0.03, 0.08),
        },
    ),
    Recipe(
        "breakout",
        "Buy breakouts of the recent high, take profit at a target, leave below the recent low.",
        _BREAKOUT,
        {"entry_bars": (10, 15, 20, 30), "exit_bars": (5, 8, 10), "target_fraction": (0.01, 0.05, 0.2)},
    ),
)


class EventLog:
    """The event log of one backtest: what the broker and the strategy did, in the order it happened.

    Every line begins with the time of the bar in UTC, so that the log is the same on every machine.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._orders: list[Any] = []  # objects are kept, not ids: a freed object's id is given out again
        self._pending: list[Any] = []
        self._trade_count = 0
        self._open: dict[Any, int] = {}
        self._closed_count = 0

    def write(self, at: pd.Timestamp, event: str, **fields: object) -> None:
        """Append one line; fields are written as ``name=value`` in the order given."""
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        self._lines.append(f"{at.isoformat()}Z {event} {text}")

    def observe_fills(self, at: pd.Timestamp, strategy: Any) -> None:
        """Record what the broker did with the pending orders since the last look."""
        before = (self._trade_count, self._closed_count)
        for trade in (*strategy.closed_trades[self._closed_count :], *strategy.trades):
            if trade not in self._open:
                self._trade_count += 1
                self._open[trade] = self._trade_count
                entry_price = number(trade.entry_price)
                self.write(at, "FILL", trade=self._trade_count, size=trade.size, price=entry_price)
        for trade in strategy.closed_trades[self._closed_count :]:
            exit_price, pnl = number(trade.exit_price), number(trade.pl)
            self.write(at, "EXIT", trade=self._open.pop(trade), price=exit_price, pnl=pnl)
        self._closed_count = len(strategy.closed_trades)
        filled = before != (self._trade_count, self._closed_count)
        for order in self._pending:
            if not (filled or order.is_contingent or any(order is other for other in strategy.orders)):
                self.write(at, "REJECT", order=self._order_number(order), reason="insufficient margin")

    def observe_orders(self, at: pd.Timestamp, strategy: Any) -> None:
        """Record the orders placed since the last look."""
        self._pending = list(strategy.orders)
        for order in self._pending:
            if any(order is known for known in self._orders):
                continue
            self._orders.append(order)
            limits = {"limit": order.limit, "stop": order.stop, "sl": order.sl, "tp": order.tp}
            given = {name: number(price) for name, price in limits.items() if price}
            self.write(at, "ORDER", order=len(self._orders), size=order.size, **given)

    def _order_number(self, order: Any) -> int:
        return next(number for number, known in enumerate(self._orders, 1) if known is order)

    def to_bytes(self) -> bytes:
        """Return the whole log, one event per line."""
        return ("\n".join(self._lines) + "\n").encode()


def number(value: float) -> str:
    """Write a price or an amount with ten significant digits."""
    return f"{value:.10g}"


def recording(strategy: type[Any], log: EventLog) -> type[Any]:
    """Return a subclass of ``strategy`` that trades the same and tells ``log`` what happens on each bar."""

    class Recorded(strategy):  # type: ignore[misc]
        def next(self) -> None:
            at = self.data.index[-1]
            log.observe_fills(at, self)
            prices = {name.lower(): number(self.data[name][-1]) for name in ("Open", "High", "Low", "Close")}
            log.write(at, "BAR", **prices, equity=f"{self.equity:.2f}", position=self.position.size)
            super().next()
            log.observe_orders(at, self)

    return Recorded


@functools.cache
def prices(symbol: str) -> pd.DataFrame:
    """Return a shipped price series, oldest bar first; loaded once per process.

    Args:
        symbol: ``GOOG``, ``EURUSD`` or ``BTCUSD``.
    """
    # Where tqdm is installed, every backtest would draw a progress bar.
    os.environ.setdefault("TQDM_DISABLE", "1")
    import backtesting.test

    frame: pd.DataFrame = getattr(backtesting.test, symbol)
    return frame


def source_of(recipe: Recipe, parameters: Mapping[str, float]) -> str:
    """Return the Python source of the strategy with these parameters."""
    literals = {name: repr(value) for name, value in parameters.items()}
    return string.Template(recipe.template).substitute(literals)


def execute(source: str) -> type[Any]:
    """Run a strategy's source and return the strategy class it defines."""
    from backtesting import Strategy

    scope: dict[str, Any] = {"__name__": "strategy"}
    exec(compile(source, "strategy.py", "exec"), scope)
    classes = (value for value in scope.values() if isinstance(value, type) and value is not Strategy)
    return next(value for value in classes if issubclass(value, Strategy))


def plain(value: Any) -> Any:
    """Turn one statistic into JSON: times to ISO text, durations to seconds, NaN and infinity to null."""
    if hasattr(value, "total_seconds"):
        value = value.total_seconds()
    elif hasattr(value, "isoformat"):
        return None if value != value else value.isoformat()  # noqa: PLR0124  # NaT differs from itself
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def statistics(stats: pd.Series[Any]) -> dict[str, Any]:
    """Return all statistics of a backtest as JSON-able data; tables and objects are left out."""
    return {name: plain(value) for name, value in stats.items() if not str(name).startswith("_")}


def metrics_of(stats: pd.Series[Any], market: Market) -> dict[str, Any]:
    """Return the few figures that people compare runs by."""
    return {
        "total_trades": int(stats["# Trades"]),
        "net_pnl": round(float(stats["Equity Final [$]"]) - market.cash, 2),
        "return_pct": plain(stats["Return [%]"]),
        "win_rate": None if math.isnan(stats["Win Rate [%]"]) else round(stats["Win Rate [%]"] / 100, 6),
        "max_drawdown": plain(abs(stats["Max. Drawdown [%]"])),
        "sharpe_ratio": plain(stats["Sharpe Ratio"]),
    }


def choose(spec: RunSpec) -> tuple[Recipe, Market, dict[str, float], random.Random]:
    """Draw recipe, market and parameters of a run; the generator goes on to draw the window."""
    draw = random.Random(f"{spec.seed}:{spec.index}")
    recipe = RECIPES[spec.index % len(RECIPES)]
    market = draw.choices(MARKETS, [market.weight for market in MARKETS])[0]
    parameters = {name: draw.choice(values) for name, values in recipe.grid.items()}
    return recipe, market, parameters, draw


def window(market: Market, draw: random.Random) -> pd.DataFrame:
    """Draw a stretch of consecutive bars, as walk-forward tests do; all of them where the series is short."""
    frame = prices(market.symbol)
    bars = min(draw.randint(*WINDOW_BARS), len(frame))
    start = draw.randint(0, len(frame) - bars)
    return frame.iloc[start : start + bars]


def make_run(spec: RunSpec) -> Run:
    """Run one backtest and return its files and names.

    Takes 0.1 s or less on one core, and a second more in the first call of a process. Safe in any process; not
    in two threads of one process at once, as warnings are silenced for the whole process meanwhile.

    Args:
        spec: Which run; the same spec gives the same bytes.

    Returns:
        The finished run, all files in memory.
    """
    recipe, market, parameters, draw = choose(spec)
    source = source_of(recipe, parameters)
    log = EventLog()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the log records rejected orders; the console need not
        data = window(market, draw)
        stats = _backtest(source, market, data, log)
    metrics = metrics_of(stats, market)
    setting = {"strategy": recipe.name, "parameters": parameters, "market": _market_facts(market, data)}
    versions = {"agent_version": AGENT_VERSION, "llm_version": LLM_VERSION}
    report = {"status": "passed", **setting, "metrics": metrics, "statistics": statistics(stats)}
    contents = (
        source.encode(),
        (json.dumps(report, indent=2, allow_nan=False) + "\n").encode(),
        _csv(stats["_trades"], index=False),
        _csv(stats["_equity_curve"], index=True),
        log.to_bytes(),
    )
    return Run(
        files=dict(zip(FILE_NAMES, contents, strict=True)),
        workflow_id=f"wf_{recipe.name}_{market.symbol.lower()}",
        task_id=f"task_{spec.index:05d}",
        correlation_id=f"corr_sweep{spec.seed}_{spec.index:05d}",
        prompt_hash=hashlib.sha256(f"{recipe.prompt} Market: {market.symbol}.".encode()).hexdigest(),
        metadata=versions | {"test_metrics": metrics, **setting},
    )


def _market_facts(market: Market, data: pd.DataFrame) -> dict[str, Any]:
    facts = {name: value for name, value in dataclasses.asdict(market).items() if name != "weight"}
    first_bar, last_bar = plain(data.index[0]), plain(data.index[-1])
    return facts | {"first_bar": first_bar, "last_bar": last_bar, "bar_count": len(data)}


def _backtest(source: str, market: Market, data: pd.DataFrame, log: EventLog) -> pd.Series[Any]:
    from backtesting import Backtest

    strategy = recording(execute(source), log)
    test = Backtest(data, strategy, cash=market.cash, commission=market.commission, finalize_trades=True)
    stats = test.run()
    log.observe_fills(data.index[-1], stats["_strategy"])  # the trades that the end of the data closed
    log.write(data.index[-1], "END", trades=stats["# Trades"], equity=f"{stats['Equity Final [$]']:.2f}")
    return stats


def _csv(frame: pd.DataFrame, *, index: bool) -> bytes:
    # `\n` on every system: the bytes must not depend on where the run was made.
    return frame.to_csv(index=index, index_label="Time" if index else None, lineterminator="\n").encode()


def _make_runs(specs: Sequence[RunSpec]) -> list[Run]:
    return [make_run(spec) for spec in specs]


def iter_runs(count: int, workers: int = 2, seed: int = 1) -> Iterator[Run]:
    """Make ``count`` runs and yield them in the order of their index, as they are finished.

    Workers are spawned, so nothing of this process is copied into them (open databases do not survive a fork);
    the caller's main module must be importable. At most a few chunks per worker are held in memory.

    Args:
        count: How many runs.
        workers: Processes; 0 makes the runs in this process.
        seed: Another seed gives other parameters and windows.
    """
    specs = (RunSpec(index, seed) for index in range(count))
    if workers == 0:
        yield from map(make_run, specs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        chunks = iter(lambda: list(itertools.islice(specs, _CHUNK_RUNS)), [])
        ahead = itertools.islice(chunks, workers * _AHEAD_CHUNKS)
        waiting: deque[Future[list[Run]]] = deque(pool.submit(_make_runs, chunk) for chunk in ahead)
        while waiting:
            finished = waiting.popleft().result()
            waiting.extend(pool.submit(_make_runs, chunk) for chunk in itertools.islice(chunks, 1))
            yield from finished


def write_run(run: Run, folder: Path) -> int:
    """Write a run's files to ``folder/workflow/task``, over earlier ones, and return their size in bytes."""
    target = folder / run.workflow_id / run.task_id
    target.mkdir(parents=True, exist_ok=True)
    for name, content in run.files.items():
        (target / name).write_bytes(content)
    return sum(map(len, run.files.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make runs and leave them as folders, or only count them when no folder is named."""
    parser = argparse.ArgumentParser(description="Run a parameter sweep of real backtests.")
    parser.add_argument("--runs", type=int, default=200, help="how many runs (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes, 0 for none (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="another one, another sweep (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="folder to write the runs to")
    options = parser.parse_args(arguments)
    started_s = time.perf_counter()
    total_bytes = 0
    for run in iter_runs(options.runs, options.workers, options.seed):
        total_bytes += write_run(run, options.out) if options.out else sum(map(len, run.files.values()))
    elapsed_s = time.perf_counter() - started_s
    print(f"{options.runs} runs, {total_bytes / 1e6:.1f} MB in {options.out or 'memory'}, {elapsed_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
