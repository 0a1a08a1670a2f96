"""Which tests watch over which modules.

`groups.toml` is kept by hand, because closeness is a judgement: a commit's test runs through half of the store, and a
mutant of `names.py` that only such a test notices is found late and says little. Inside a group mutmut itself finds out
which test calls which function, and tries the fastest first.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("cas", "gitexport")


@dataclass(frozen=True)
class Group:
    """Modules, as paths below the project folder, and the test files and folders that watch over them."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]


def load_groups(root: Path = ROOT) -> list[Group]:
    """Read the table; a pattern of modules is replaced by the files it matches."""
    table = tomllib.loads((root / "tests" / "mutation" / "groups.toml").read_text())
    return [
        Group(
            name,
            tuple(
                str(path.relative_to(root))
                for pattern in entry["modules"]
                for path in sorted(root.glob(pattern))
            ),
            tuple(entry["tests"]),
        )
        for name, entry in table.items()
    ]


def core_modules(root: Path = ROOT) -> list[str]:
    """Every module of the core, sorted."""
    return sorted(
        str(path.relative_to(root)) for package in PACKAGES for path in (root / package).rglob("*.py")
    )
