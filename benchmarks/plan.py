"""What a benchmark is told: how much to measure, and where it may write.

Invariant: a benchmark writes below its scratch folder and the shared data folder, nowhere else. This module must not
measure anything.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Final, Literal

Size = Literal["tiny", "quick", "full"]

PROJECT: Final = Path(__file__).resolve().parent.parent
DATA_DIR: Final = PROJECT / "build" / "bench-data"
SCRATCH_DIR: Final = PROJECT / "build" / "bench-scratch"
RESULTS_DIR: Final = PROJECT / "benchmarks" / "results"
QUICK_RESULTS_DIR: Final = PROJECT / "build" / "bench-quick"

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """One benchmark's orders.

    Attributes:
        size: ``tiny`` proves that it runs, ``quick`` gives rough figures, ``full`` gives those of the pages.
        scratch: An existing folder for stores and repositories, on the file system to be measured. Nothing in it is
            deleted while measuring: ext4 creates files more slowly for seconds after many were removed.
        data: Folder that caches the real runs between calls.
        export_runs: Runs of the export benchmark; None means the size's own number.
        scale_runs: Runs of the scale benchmark; None means the size's own number.
    """

    size: Size
    scratch: Path
    data: Path = DATA_DIR
    export_runs: int | None = None
    scale_runs: int | None = None

    def fresh(self, label: str) -> Path:
        """Return the path of a new folder below the scratch folder, made."""
        folder = self.scratch / f"{next(_numbers):04d}-{label}"
        folder.mkdir(parents=True)
        return folder
