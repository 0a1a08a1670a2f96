"""What was tried and what survived, kept as JSON, and written as a page.

A verdict belongs to a module and to a kind of run: *whole* runs tried every mutant of a module, the *sample* is drawn
over all modules. Only the sample says something of the core as a whole, so the two are never added up.
"""

import datetime
import hashlib
import importlib.metadata
import json
import math
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .groups import ROOT, core_modules
from .mutants import Mutant
from .workshop import KILLED

MARKER = "<!-- below this line: written by `make mutation-report` -->"
KINDS = (
    ("whole", "Modules tried whole", "make mutation MODULES=..."),
    ("sample", "A sample over the whole core", "make mutation"),
)
Z_95 = 1.959964  # two-sided 95 % of the normal distribution


@dataclass
class Verdicts:
    """Verdicts by kind of run and module, in a file."""

    path: Path
    runs: dict[str, dict[str, dict]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Verdicts":
        return cls(path, json.loads(path.read_text()) if path.exists() else {})

    def keep(
        self, kind: str, module: str, population: int, tried: list[Mutant], found: dict[str, str], seed: int
    ) -> None:
        """Replace what is known of a module by what a new run found."""
        self.runs.setdefault(kind, {})[module] = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "seed": seed,
            "source": source_digest(module),
            "population": population,
            "tried": len(tried),
            "killed": sum(found[mutant.name] in KILLED for mutant in tried),
            "survivors": [
                asdict(mutant) | {"verdict": found[mutant.name]}
                for mutant in tried
                if found[mutant.name] not in KILLED
            ],
        }

    def survivors(self, kind: str, module: str) -> set[str]:
        """Return the names of the mutants that survived the last run of a kind over a module.

        Raises:
            ValueError: The module has changed since, so that the names stand for other mutants.
        """
        run = self.runs.get(kind, {}).get(module)
        if run is None:
            return set()
        if run["source"] != source_digest(module):
            raise ValueError(f"{module} has changed since its mutants were tried: try it whole")
        return {mutant["name"] for mutant in run["survivors"]}

    def revise(self, kind: str, module: str, found: dict[str, str]) -> None:
        """Take new verdicts on survivors into an earlier run, after tests were added."""
        run = self.runs[kind][module]
        for mutant in run["survivors"]:
            mutant["verdict"] = found.get(mutant["name"], mutant["verdict"])
        run["survivors"] = [mutant for mutant in run["survivors"] if mutant["verdict"] not in KILLED]
        run["killed"] = run["tried"] - len(run["survivors"])

    def save(self) -> None:
        self.path.write_text(json.dumps(self.runs, indent=1, sort_keys=True))


def source_digest(module: str) -> str:
    """Return what tells one text of a module from another."""
    return hashlib.sha256((ROOT / module).read_bytes()).hexdigest()[:16]


def share_interval(killed: int, tried: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z2 = killed / tried, Z_95 * Z_95
    middle = (share + z2 / (2 * tried)) / (1 + z2 / tried)
    half = Z_95 / (1 + z2 / tried) * math.sqrt(share * (1 - share) / tried + z2 / (4 * tried * tried))
    return middle - half, middle + half


def write_report(verdicts: Verdicts, page: Path) -> None:
    """Put the tables and the list of survivors behind the words that the page keeps (everything above the marker)."""
    words, marker, _ = page.read_text().partition(MARKER)
    if not marker:
        raise ValueError(f"{page} has no line {MARKER}")
    reasons = _reasons()
    version = importlib.metadata.version("mutmut")
    whole = len(verdicts.runs.get("whole", {}))
    sampled = (
        ""
        if verdicts.runs.get("sample")
        else " No sample over the others is here yet, so nothing is said of them."
    )
    sections = [
        words + marker,
        f"Made with mutmut {version}. {whole} of {len(core_modules())} modules were tried whole.{sampled}",
    ]
    for kind, title, command in KINDS:
        modules = verdicts.runs.get(kind, {})
        if modules:
            sections += [f"## {title}", f"`{command}`", _table(kind, modules), _survivors(modules, reasons)]
    page.write_text("\n\n".join(sections) + "\n")


def _table(kind: str, modules: dict[str, dict]) -> str:
    lines = [
        "| module | mutants | tried | killed | survived | share | date |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for module, run in sorted(modules.items()):
        changed = "" if run["source"] == source_digest(module) else ", changed since"
        lines.append(_row(f"`{module}`", [run], run["date"] + changed))
    lines.append(_row("together", list(modules.values()), ""))
    if kind == "sample":
        killed, tried = (sum(run[name] for run in modules.values()) for name in ("killed", "tried"))
        low, high = share_interval(killed, tried)
        seeds = sorted({run["seed"] for run in modules.values()})
        lines += [
            "",
            f"Share of all mutants, 95 % interval: {100 * low:.0f} to {100 * high:.0f} %. Seed {seeds}.",
        ]
    return "\n".join(lines)


def _row(name: str, runs: list[dict], date: str) -> str:
    mutants, tried, killed = (sum(run[part] for run in runs) for part in ("population", "tried", "killed"))
    return f"| {name} | {mutants} | {tried} | {killed} | {tried - killed} | {100 * killed / tried:.1f} % | {date} |"


def _reasons() -> dict[tuple[str, str, str, str], str]:
    table = tomllib.loads((ROOT / "tests" / "mutation" / "survivors.toml").read_text())
    return {
        (entry["module"], entry["function"], entry["was"], entry["becomes"]): entry["reason"]
        for entry in table["survivor"]
    }


def _survivors(modules: dict[str, dict], reasons: dict[tuple[str, str, str, str], str]) -> str:
    lines = []
    for module, run in sorted(modules.items()):
        for mutant in run["survivors"]:
            reason = reasons.get(
                (module, mutant["function"], mutant["was"], mutant["becomes"]), "no test tells it yet"
            )
            change = f"``{mutant['was']}`` → ``{mutant['becomes']}``"
            lines.append(f"- `{module}` `{mutant['function']}`: {change}: {reason}")
    return "\n".join(["Survivors:", "", *lines]) if lines else "No survivor."
