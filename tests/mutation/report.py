"""The page: what was tried of each module, what survived, and how sure a share is.

Invariant: a share of the whole core is an estimate with an interval; verdicts on another text of a module are shown as
such. Nothing is added up that was not tried.
"""

import importlib.metadata
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path

from .groups import ROOT, core_modules
from .verdicts import ModuleVerdicts, Verdicts

MARKER = "<!-- below this line: written by `make mutation-report` -->"
UNEXPLAINED = "no test tells it yet"
Z_95 = 1.959964  # two-sided 95 % of the normal distribution


def share_interval(killed: float, tried: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z2 = killed / tried, Z_95 * Z_95
    middle = (share + z2 / (2 * tried)) / (1 + z2 / tried)
    half = Z_95 / (1 + z2 / tried) * math.sqrt(share * (1 - share) / tried + z2 / (4 * tried * tried))
    return middle - half, middle + half


def estimate(modules: Iterable[tuple[int, int, int]]) -> tuple[float, float, float]:
    """Return the share of killed mutants over all modules, and its 95 % interval.

    Each module, given as mutants in all, tried and killed, weighs as many mutants as it has. One that was tried whole
    adds no uncertainty. The others together are taken for one sample of Kish's effective size, Wilson's interval.
    """
    modules = list(modules)
    total = sum(population for population, _, _ in modules)
    known = sum(killed for population, tried, killed in modules if tried == population)
    sampled = [one for one in modules if one[1] < one[0]]
    weight = sum(population for population, _, _ in sampled)
    if not weight:
        return known / total, known / total, known / total
    share = sum(population * killed / tried for population, tried, killed in sampled) / weight
    effective = weight**2 / sum(population**2 / tried for population, tried, _ in sampled)
    low, high = share_interval(share * effective, effective)
    return tuple((known + part * weight) / total for part in (share, low, high))


def write_report(verdicts: Verdicts, page: Path) -> None:
    """Put the tables and the list of survivors behind the words that the page keeps (everything above the marker)."""
    words, marker, _ = page.read_text().partition(MARKER)
    if not marker:
        raise ValueError(f"{page} has no line {MARKER}")
    modules = dict(sorted(verdicts.modules.items()))
    whole = {name: kept for name, kept in modules.items() if kept.whole}
    sampled = {name: kept for name, kept in modules.items() if not kept.whole}
    missing = sorted(set(core_modules()) - set(modules))
    sections = [
        words + marker,
        (
            f"Made with mutmut {importlib.metadata.version('mutmut')}. Of {len(core_modules())} modules {len(whole)} "
            f"were tried whole and {len(sampled)} by a sample."
        ),
    ]
    if modules:
        older = {name for name in modules if not (ROOT / name).exists() or verdicts.current(name) is None}
        sections.append(_together(modules.values()))
        if older:
            sections.append(_of_present_texts([kept for name, kept in modules.items() if name not in older]))
        sections += ["## By module", _table(modules, older), "## Survivors"]
        sections.append(_survivors(modules))
    if missing:
        sections += [
            "## Not tried",
            "No mutant of these was tried, and nothing is said of them; some have no function that could be changed: "
            + ", ".join(f"`{module}`" for module in missing)
            + ".",
        ]
    page.write_text("\n\n".join(sections) + "\n")


def _together(kept: Iterable[ModuleVerdicts]) -> str:
    kept = list(kept)
    now, low, high = estimate((one.population, one.tried_count, one.killed_count) for one in kept)
    first, first_low, first_high = estimate(
        (one.population, one.tried_count, one.killed_first_count) for one in kept
    )
    tried = sum(one.tried_count for one in kept)
    return (
        f"{tried} of the {sum(one.population for one in kept)} mutants of these modules were tried: "
        f"{sum(one.killed_first_count for one in kept)} were killed at once, "
        f"{sum(one.killed_count for one in kept)} once tests were written against survivors. Each module weighted "
        f"by its mutants, the share of killed ones is {100 * now:.1f} % (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %), at first {100 * first:.1f} % ({100 * first_low:.1f} to {100 * first_high:.1f} %)."
    )


def _of_present_texts(kept: list[ModuleVerdicts]) -> str:
    if not kept:
        return "The texts of all of them have changed since they were tried."
    now, low, high = estimate((one.population, one.tried_count, one.killed_count) for one in kept)
    return (
        f"Of the {len(kept)} modules among them whose text is still the one that was tried, it is {100 * now:.1f} % "
        f"({100 * low:.1f} to {100 * high:.1f} %)."
    )


def _table(modules: dict[str, ModuleVerdicts], older: set[str]) -> str:
    lines = [
        "| module | text (git blob) | mutants | tried | killed at first | killed now | share | 95 % interval |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for module, kept in modules.items():
        low, high = share_interval(kept.killed_count, kept.tried_count)
        interval = "whole" if kept.whole else f"{100 * low:.0f} to {100 * high:.0f} %"
        text = f"{kept.source[:10]}{' (older)' if module in older else ''}"
        lines.append(
            f"| `{module}` | {text} | {kept.population} | {kept.tried_count} | {kept.killed_first_count} "
            f"| {kept.killed_count} | {100 * kept.killed_count / kept.tried_count:.1f} % | {interval} |"
        )
    return "\n".join(lines)


def _reasons() -> dict[tuple[str, str, str, str], str]:
    table = tomllib.loads((ROOT / "tests" / "mutation" / "survivors.toml").read_text())
    return {
        (entry["module"], entry["function"], entry["was"], entry["becomes"]): entry["reason"]
        for entry in table["survivor"]
    }


def _survivors(modules: dict[str, ModuleVerdicts]) -> str:
    reasons = _reasons()
    lines = []
    for module, kept in modules.items():
        for one in kept.survivors.values():
            change = f"``{one['was']}`` → ``{one['becomes']}``"
            key = (module, one["function"], one["was"], one["becomes"])
            if one not in kept.alive.values():
                reason = "survived at first, killed by a test that was written for it."
            elif one["verdict"] == "no tests":
                reason = reasons.get(key, "no test of its group calls it.")
            else:
                reason = reasons.get(key, UNEXPLAINED)
            lines.append(f"- `{module}` `{one['function']}`: {change}: {reason}")
    return "\n".join(lines) or "None."
