"""Benchmarks: one question per module, asked on real backtest runs.

`python -m benchmarks` measures and keeps the figures as JSON; `python -m benchmarks render` writes the pages from them.
Invariant: no figure reaches a page by hand. Nothing here is part of the wheel, and the product imports none of it.
"""
