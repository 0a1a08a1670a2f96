"""What was tried and what became of it, kept in `verdicts.json` beside this module.

Invariant: a verdict stands for one text of a module. Its mutants are numbered anew when the text changes, so verdicts
on another text are told apart by the id git gives the file, and replaced as soon as a mutant of the present text is
tried. Written whole under another name and renamed, so a run that is killed loses nothing that was written.
"""

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cas.objects import object_id

from .groups import ROOT
from .mutants import Mutant
from .workshop import KILLED


@dataclass
class ModuleVerdicts:
    """The verdicts on one text of a module.

    Attributes:
        source: Id of the file's text as a git blob.
        date: When the last mutant was tried, UTC.
        population: How many mutants the module has that no rule leaves out.
        killed: Numbers of the killed mutants by function, as mutmut counts them.
        survivors: Every mutant that survived when it was first tried, with the verdict of then (`first`) and of now.
    """

    source: str
    date: str
    population: int
    killed: dict[str, set[int]] = field(default_factory=dict)
    survivors: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def tried_count(self) -> int:
        return sum(map(len, self.killed.values())) + len(self.survivors)

    @property
    def alive(self) -> dict[str, dict[str, str]]:
        """The survivors that no test has killed since."""
        return {name: one for name, one in self.survivors.items() if one["verdict"] not in KILLED}

    @property
    def killed_count(self) -> int:
        return self.tried_count - len(self.alive)

    @property
    def killed_first_count(self) -> int:
        """How many were killed before tests were written against the survivors."""
        return self.tried_count - len(self.survivors)

    @property
    def whole(self) -> bool:
        return self.tried_count == self.population

    def holds(self, name: str) -> bool:
        function, _, number = name.rpartition("__mutmut_")
        return name in self.survivors or int(number) in self.killed.get(function, ())


class Verdicts:
    """Verdicts by module, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: dict[str, ModuleVerdicts] = {}
        if path.exists():
            for module, kept in json.loads(path.read_text()).items():
                killed = {
                    function: set(map(int, numbers.split())) for function, numbers in kept["killed"].items()
                }
                self.modules[module] = ModuleVerdicts(**kept | {"killed": killed})

    def current(self, module: str) -> ModuleVerdicts | None:
        """Return the verdicts on the text that the module has now."""
        kept = self.modules.get(module)
        return kept if kept is not None and kept.source == source_id(module) else None

    def lacks(self, mutant: Mutant) -> bool:
        """Tell whether a mutant has not been tried yet."""
        kept = self.current(mutant.module)
        return kept is None or not kept.holds(mutant.name)

    def survives(self, mutant: Mutant) -> bool:
        """Tell whether a mutant was tried and is not killed by any test yet."""
        kept = self.current(mutant.module)
        return kept is not None and mutant.name in kept.alive

    def take(self, mutant: Mutant, verdict: str, population: int) -> None:
        """Take in one verdict, the first on a mutant or a later one."""
        kept = self.current(mutant.module)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        if kept is None:
            kept = self.modules[mutant.module] = ModuleVerdicts(source_id(mutant.module), today, population)
        kept.date = today
        function, _, number = mutant.name.rpartition("__mutmut_")
        if mutant.name in kept.survivors:
            kept.survivors[mutant.name]["verdict"] = verdict
        elif verdict in KILLED:
            kept.killed.setdefault(function, set()).add(int(number))
        else:
            told = {"function": mutant.function, "was": mutant.was, "becomes": mutant.becomes}
            kept.survivors[mutant.name] = told | {"first": verdict, "verdict": verdict}

    def save(self) -> None:
        """Write the file; whoever reads it meanwhile sees the old text or the new one."""
        table = {module: dict(self._plain(kept)) for module, kept in sorted(self.modules.items())}
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(table, indent=1) + "\n")
        beside.replace(self.path)

    @staticmethod
    def _plain(kept: ModuleVerdicts) -> Iterator[tuple[str, object]]:
        yield from (("source", kept.source), ("date", kept.date), ("population", kept.population))
        killed = {
            function: " ".join(map(str, sorted(numbers))) for function, numbers in sorted(kept.killed.items())
        }
        yield from (("killed", killed), ("survivors", dict(sorted(kept.survivors.items()))))


def source_id(module: str) -> str:
    """Return the id of a module's present text as git knows it (SHA-1)."""
    return object_id("blob", (ROOT / module).read_bytes()).hex()
