"""What a wheel and an sdist hold, and what is wrong with it.

    python -m release.contents DIST

Invariant: each rule gives one sentence for each file that breaks it; no sentence, nothing wrong.
"""

from __future__ import annotations

import email
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = ("cas", "gitexport", "cli")
_SDIST_ALSO: Final = {"PKG-INFO", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", ".gitignore"}
_MOST_BYTES: Final = 2_000_000  # the sources are a quarter of it; more means that something else came along


def wheel_faults(wheel: Path) -> Iterator[str]:
    """Yield what is wrong with a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    for name in names:
        if name.split("/")[0] not in {*PACKAGES, info}:
            yield f"{name} is in the wheel"
    for package in PACKAGES:
        if f"{package}/py.typed" not in names:
            yield f"{package} has no py.typed"
    if "cas = cli.app:main" not in entry_points or "gitexport.branchreader:BranchReader" not in entry_points:
        yield "an entry point is missing"
    if f"{info}/licenses/LICENSE" not in names:
        yield "the licence is missing"
    if "](docs/" in str(metadata.get_payload()) or "<!--" in str(metadata.get_payload()):
        yield "the description has a link or a remark that only the repository can show"
    yield from _size_faults(wheel)


def sdist_faults(sdist: Path) -> Iterator[str]:
    """Yield what is wrong with an sdist."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for name in names:
        if name.split("/")[0] not in {*PACKAGES, "docs"} | _SDIST_ALSO:
            yield f"{name} is in the sdist"
    for name in _SDIST_ALSO - {".gitignore"} - set(names):
        yield f"{name} is missing in the sdist"
    yield from _size_faults(sdist)


def _size_faults(path: Path) -> Iterator[str]:
    if path.stat().st_size > _MOST_BYTES:
        yield f"{path.name} has {path.stat().st_size:,} bytes"


def main(dist: Path) -> int:
    """Print sizes and faults of what lies in a folder; return how many faults there are."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    faults = [*wheel_faults(wheel), *sdist_faults(sdist)]
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    print("\n".join(faults) or "wheel and sdist hold what they have to, and nothing else")
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
