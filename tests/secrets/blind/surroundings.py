"""Whole files for the blind sets L, M and N: what stands around the one place that a template is about.

Everything here is ordinary and holds no credential: numbers, digests, names, messages, settings. So a template is judged as it
would be met, somewhere in a file of some dozens of lines, and an alarm about the surroundings counts against the gate.
"""

# A line of text reads best as the one line that it is.
# ruff: noqa: E501

from __future__ import annotations

import json
import textwrap

from tests.secrets.corpus import SYMBOLS, WORDS

_IMPORTS = (
    "import os", "import json", "import logging", "import numpy as np", "import pandas as pd", "from pathlib import Path",
    "from dataclasses import dataclass, field", "import asyncio", "from typing import Any", "import requests",
)  # fmt: skip
_PYTHON = (
    "logger = logging.getLogger(__name__)\n",
    'DATA_URL = "https://data.example.org/v1/bars"\nTIMEOUT_S = 30\n',
    'def sma(values: pd.Series, window: int = 20) -> pd.Series:\n    """Simple moving average."""\n    return values.rolling(window).mean()\n',
    "def rsi(close, period=14):\n    delta = close.diff()\n    gain = delta.clip(lower=0).ewm(alpha=1 / period).mean()\n    loss = -delta.clip(upper=0).ewm(alpha=1 / period).mean()\n    return 100 - 100 / (1 + gain / loss)\n",
    "@dataclass\nclass Trade:\n    symbol: str\n    size: float\n    entry_price: float\n    exit_price: float | None = None\n    tags: list[str] = field(default_factory=list)\n",
    'class Strategy:\n    """Buys above the slow average, sells below it."""\n\n    fast: int = 10\n    slow: int = 50\n\n    def next(self) -> None:\n        if self.fast_line[-1] > self.slow_line[-1]:\n            self.buy(size=self.size)\n        else:\n            self.position.close()\n',
    'def load(path: Path) -> pd.DataFrame:\n    frame = pd.read_csv(path, parse_dates=["time"], index_col="time")\n    return frame.sort_index()\n',
    'def max_tokens_for(model: str, *, default: int = 4096) -> int:\n    return {"small": 2048, "large": 8192}.get(model, default)\n',
    'SESSION_HOURS = ("09:30", "16:00")\nKEYS = ["open", "high", "low", "close", "volume"]\n',
    "def sharpe(returns, periods=252):\n    return np.sqrt(periods) * returns.mean() / returns.std(ddof=1)\n",
)
_LOG = (
    "INFO engine: loaded {n} bars of {symbol}",
    "INFO backtest: equity={price} drawdown={small} trades={n}",
    "DEBUG feed: tick {symbol} bid={price} ask={price}",
    "INFO store: committed run corr_{hex} in {small} s",
    "WARNING feed: gap of {n} s before the next bar",
    "DEBUG llm: prompt_tokens={n} completion_tokens={n} prompt_hash={hex}",
    "INFO order: id={uuid} side=buy qty={n} status=filled",
    "INFO urllib3: GET /v1/bars?symbol={symbol}&limit={n} HTTP/1.1 200",
)
_SHELL = (
    "set -euo pipefail", 'cd "$(dirname "$0")"', "mkdir -p out/reports", "python -m backtest --symbol {symbol} --from {date}",
    'echo "started at $(date -u +%FT%TZ)"', "export PYTHONUNBUFFERED=1", "export LOG_LEVEL=info", "sha256sum data.csv | cut -d ' ' -f 1",
    "git rev-parse HEAD", "docker compose up -d db redis", "rsync -a out/ /srv/reports/",
)  # fmt: skip
_PROSE = (
    "The strategy buys when the fast average crosses the slow one.",
    "Results of the last run are in `out/report.html`; the equity curve is monotone since {date}.",
    "Drawdown stayed below {small} during the whole period.",
    "Data comes from the vendor's daily files, adjusted for splits.",
    "- run the tests before every commit\n- keep the notebooks free of outputs",
    "See the [guide](https://docs.example.org/guide#tokens) for how bars are built.",
)
_YAML = (
    "symbols: [GOOG, AAPL, SPY]", "timeframe: 1h", "start: {date}", "end: {date}", "cash: {n}", "commission: {small}",
    "strategy:\n  name: sma_cross\n  fast: 10\n  slow: 50", "logging:\n  level: info\n  path: out/run.log", "seed: {n}",
    "risk:\n  max_drawdown: {small}\n  max_position: {n}", "data:\n  vendor: files\n  sha256: {hex}",
)  # fmt: skip
_ENV = ("DEBUG=0", "LOG_LEVEL=info", "TZ=UTC", "SYMBOL={symbol}", "CASH={n}", "DATA_DIR=/srv/data", "REDIS_HOST=redis", "PORT={n}", "MAX_TOKENS={n}", "BUILD_SHA={hex}")  # fmt: skip
_SQL = (
    "CREATE TABLE trades (id BIGINT PRIMARY KEY, symbol TEXT, size NUMERIC, price NUMERIC);",
    "INSERT INTO trades VALUES ({n}, '{symbol}', 1, {price});",
    "SELECT symbol, sum(size * price) FROM trades GROUP BY symbol;",
    "CREATE INDEX trades_symbol ON trades (symbol);",
)


def _fill(m, text: str) -> str:
    """Return ``text`` with its fields drawn."""
    while "{" in text:
        before, _, rest = text.partition("{")
        field, _, after = rest.partition("}")
        value = {
            "n": lambda: str(m.number(1, 99999)),
            "symbol": lambda: m.pick(*SYMBOLS),
            "price": lambda: f"{m.number(100, 99999) / 100:.2f}",
            "small": lambda: f"0.{m.number(10, 99)}",
            "hex": lambda: m.of("0123456789abcdef", 40),
            "uuid": m.uuid,
            "date": m.date,
        }.get(field, lambda field=field: "%" + field)()
        text = before + value + after
    return text


def _around(m, lines, text: str, *, end: str = "\n", least: int = 2) -> str:
    """Return some of ``lines``, then ``text``, then some more of them."""
    count = m.number(2 * least, min(len(lines), 4 * least))
    drawn = [_fill(m, line) for line in m.random.sample(lines, count)]
    cut = m.number(0, len(drawn))
    return end.join([*drawn[:cut], text.rstrip("\n"), *drawn[cut:]]) + "\n"


def _code(m) -> list[str]:
    return m.random.sample(_PYTHON, m.number(3, 6))


def py(m, text: str) -> str:
    """A module with ``text`` at its top level."""
    blocks = _code(m)
    cut = m.number(0, len(blocks))
    imports = "\n".join(m.random.sample(_IMPORTS, 4))
    head = (
        f'"""{m.pick("Live trading.", "Backtest of one symbol.", "Signals and orders.", "Data feed.")}"""\n'
    )
    return "\n\n".join([head + "\n" + imports + "\n", *blocks[:cut], text.rstrip("\n") + "\n", *blocks[cut:]])


def method(m, text: str) -> str:
    """A module with ``text`` inside a method."""
    name = m.pick("setup", "connect", "run", "refresh", "start")
    body = textwrap.indent(text.rstrip("\n"), "        ")
    kind = m.pick("Trader", "Feed", "Runner", "Gateway")
    return py(
        m,
        f"class {kind}:\n    def {name}(self, symbol):\n        self.symbol = symbol\n{body}\n        return self\n",
    )


def log(m, text: str, *, level: str = "") -> str:
    """A log with ``text`` as the message of one of its lines; an empty level writes the line as it is."""
    lines = [f"{m.iso()} {_fill(m, m.pick(*_LOG))}" for _ in range(m.number(6, 14))]
    at = m.number(0, len(lines))
    lines[at:at] = [f"{m.iso()} {level} {text}" if level else text]
    return "\n".join(lines) + "\n"


def sh(m, text: str) -> str:
    """A shell script."""
    return "#!/usr/bin/env bash\n" + _around(m, _SHELL, text)


def md(m, text: str) -> str:
    """A page of notes."""
    return f"# {m.pick('Runbook', 'Notes', 'How to run', 'Desk wiki')}\n\n" + _around(
        m, _PROSE, text, end="\n\n", least=1
    )


def yaml(m, text: str) -> str:
    """A YAML file with ``text`` at its top level."""
    return _around(m, _YAML, text)


def env(m, text: str) -> str:
    """A file of environment variables."""
    return _around(m, _ENV, text)


def sql(m, text: str) -> str:
    """A SQL script."""
    return _around(m, _SQL, text, least=1)


def js(m, value, *, indent: int | None = 2) -> str:
    """A JSON file: ``value`` among ordinary settings."""
    ordinary = {
        "symbol": m.pick(*SYMBOLS), "start": m.date(), "cash": m.number(1000, 99999), "commission": m.number(1, 99) / 10000,
        "strategy": {"name": m.pick(*WORDS), "fast": 10, "slow": 50, "params_sha256": m.of("0123456789abcdef", 64)},
        "run_id": m.uuid(), "metrics": {"net_pnl": m.number(-999, 9999) / 7, "win_rate": 0.53, "token_count": m.number(100, 9999)},
    }  # fmt: skip
    names = list(ordinary)
    cut = m.number(0, len(names))
    whole = (
        {name: ordinary[name] for name in names[:cut]}
        | value
        | {name: ordinary[name] for name in names[cut:]}
    )
    return json.dumps(whole, indent=indent) + "\n"


def nb(m, *source: str, output: str = "") -> str:
    """A notebook with a cell of ``source`` and, when given, one that printed ``output``."""
    cells = [
        {
            "cell_type": "code",
            "id": m.of("0123456789abcdef", 8),
            "source": block.splitlines(keepends=True),
            "outputs": [],
        }
        for block in _code(m)[:3]
    ]
    lines = [line + "\n" for line in source]
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output + "\n"]}] if output else []
    cells.insert(
        m.number(0, len(cells)),
        {"cell_type": "code", "id": m.of("0123456789abcdef", 8), "source": lines, "outputs": outputs},
    )
    return (
        json.dumps(
            {
                "cells": cells,
                "metadata": {"language_info": {"name": "python", "version": "3.11.7"}},
                "nbformat": 4,
                "nbformat_minor": 5,
            },
            indent=1,
        )
        + "\n"
    )
