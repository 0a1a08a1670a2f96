"""Which locked packages an installation of this project takes, and what for.

Invariant: names and versions come from the lock, dependencies and licences from the installed packages' own metadata.
Packages that the lock has for other systems or other Pythons only are named too, without what only an installation
could tell. This module writes nothing.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROJECT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = PROJECT / "requirements" / "dev.txt"
DISTRIBUTION: Final = "cas-gitexport"
# Packages for other systems or Pythons, whose metadata cannot be asked where the page is written.
_LICENCES_ELSEWHERE: Final = {"async-timeout": "Apache-2.0", "colorama": "BSD-3-Clause", "pyyaml-ft": "MIT"}
_ENTRY: Final = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A locked package; `licence` is None where nothing here knows it."""

    name: str
    versions: tuple[str, ...]
    licence: str | None


def locked() -> dict[str, Package]:
    """Return all packages of the lock by name; one has two versions where Pythons need different ones."""
    versions: dict[str, list[str]] = {}
    for name, version in _ENTRY.findall(LOCK.read_text()):
        versions.setdefault(name, []).append(version)
    return {name: Package(name, tuple(found), _licence(name)) for name, found in sorted(versions.items())}


def extras() -> list[str]:
    """Return the extras of this project."""
    return sorted(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or [])


def needed_by(extra: str | None) -> set[str]:
    """Return the locked packages that an installation takes, directly or not, with an extra or without any."""
    lock = locked()
    found: set[str] = set()
    waiting = [*_required(DISTRIBUTION, frozenset({extra} if extra else ()))]
    while waiting:
        name, wanted = waiting.pop()
        if name in found or name not in lock:
            continue
        found.add(name)
        if _is_installed(name):
            waiting += _required(name, wanted)
    return found


def _required(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield a package's requirements on any system and any Python: of a marker only its extra counts."""
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        if _applies(requirement, extras):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    named = re.findall(r"""extra\s*==\s*["']([^"']+)["']""", str(requirement.marker))
    if named:
        environment = {str(key): str(value) for key, value in default_environment().items()}
        return any(requirement.marker.evaluate({**environment, "extra": extra}) for extra in extras)
    return True


def _is_installed(name: str) -> bool:
    return any(importlib.metadata.distributions(name=name))


def _licence(name: str) -> str | None:
    """Return what a package says of its licence: the expression, else its classifiers, else its text's first line."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return _LICENCES_ELSEWHERE.get(name)
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in about.get_all("Classifier") or []
        if text.startswith("License :: ") and text != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    lines = str(about.get("License") or "").strip().splitlines()
    return lines[0] if lines else "not stated in its metadata"
