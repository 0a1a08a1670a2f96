"""Sums up what the long fault suites print, as the table of docs/reliability.md.

Run as a filter: python -m pytest tests/faults -m long -s | python tests/faults/tally.py. Invariant: only figures that a
run printed are counted.
"""

from __future__ import annotations

import collections
import re
import sys

_CUT = re.compile(
    r"power cut, (\w+), seed (\d+): (\d+) images, (\d+) acknowledged, "
    r"(\d+) images without the last transaction, (\d+) broken"
)
_KILL = re.compile(
    r"kill -9, (\d+) writers of (\d+) threads, seed (\d+): (\d+) killed, (\d+) acknowledged, "
    r"(\d+) committed for another process, (\d+) failed, (\d+) lost"
)


_INTERRUPT = re.compile(r"Ctrl-C, seed (\d+): (\d+) interrupted, (\d+) acknowledged, (\d+) lost")


def tally(text):
    """Return the three tables as lines of Markdown."""
    cuts, kills = collections.defaultdict(list), collections.defaultdict(list)
    for durability, *figures in _CUT.findall(text):
        cuts[durability].append([int(figure) for figure in figures])
    for writers, threads, *figures in _KILL.findall(text):
        kills[int(writers), int(threads)].append([int(figure) for figure in figures])
    lines = ["| level | seeds | runs acknowledged | images | damaged | without the last transaction |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for durability, rows in sorted(cuts.items()):
        seeds, images, acknowledged, lost, broken = zip(*rows, strict=True)
        lines.append(
            f"| `{durability}` | {span(seeds)} | {sum(acknowledged)} | {sum(images)} | {sum(broken)} | {sum(lost)} |"
        )
    lines += [
        "",
        "| writers, threads of each | seeds | killed | runs acknowledged | through the relay | refused | lost |",
    ]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for (writers, threads), rows in sorted(kills.items()):
        seeds, killed, acknowledged, relayed, failed, lost = zip(*rows, strict=True)
        lines.append(
            f"| {writers}, {threads} | {span(seeds)} | {sum(killed)} | {sum(acknowledged)} | {sum(relayed)} "
            f"| {sum(failed)} | {sum(lost)} |"
        )
    interrupts = [[int(figure) for figure in figures] for figures in _INTERRUPT.findall(text)]
    lines += ["", "| seeds | interrupted calls | runs acknowledged | lost |", "| --- | ---: | ---: | ---: |"]
    if interrupts:
        seeds, interrupted, acknowledged, lost = zip(*interrupts, strict=True)
        lines.append(f"| {span(seeds)} | {sum(interrupted)} | {sum(acknowledged)} | {sum(lost)} |")
    return lines


def span(seeds):
    """Return the seeds as a range."""
    return f"{min(seeds)} to {max(seeds)}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(tally(sys.stdin.read())) + "\n")
