"""Figures as people read them: sizes, durations, ages, metrics, and text that is safe on a terminal.

Invariant: pure; the same input gives the same text in every locale. Nothing here prints or reads the clock.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

MICROSECONDS: Final = 1_000_000
SHORT_OID_CHARS: Final = 12  # what git shows of an id in a large repository; unique for any store of ours
_KIBI: Final = 1024
_SIZE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400
_TWO_UNITS: Final = 2  # below two minutes a person counts seconds, below two hours minutes, and so on
_TEN: Final = 10
_THOUSAND: Final = 1000
_HUNDRED_THOUSAND: Final = 100_000
_TINY: Final = 0.001
# Characters that move the cursor, hide text or turn its direction: an ID may hold them, a terminal may not get them.
_HOSTILE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")


def printable(text: str) -> str:
    r"""Return text with every character that could steer a terminal written as an escape, such as ``\x1b``."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        character
        if unicodedata.category(character) not in _HOSTILE_CATEGORIES
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def size_text(size_bytes: float) -> str:
    """Return a number of bytes as text, such as ``1.4 MiB``."""
    value, unit = float(size_bytes), _SIZE_UNITS[0]
    for unit in _SIZE_UNITS:
        if abs(value) < _KIBI or unit == _SIZE_UNITS[-1]:
            break
        value /= _KIBI
    return f"{value:.0f} {unit}" if unit == _SIZE_UNITS[0] else f"{value:.1f} {unit}"


def duration_text(duration_s: float) -> str:
    """Return a duration as text, such as ``3.2 s`` or ``2 h 5 min``."""
    if duration_s < _TEN and duration_s != int(duration_s):
        return f"{duration_s:.1f} s"
    if duration_s < _TWO_UNITS * _MINUTE_S:
        return f"{duration_s:.0f} s"
    minutes = round(duration_s / _MINUTE_S)
    if minutes < _TWO_UNITS * _MINUTE_S:
        return f"{minutes} min"
    if duration_s < _TWO_UNITS * _DAY_S:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{duration_s // _DAY_S:.0f} days"


def age_text(then_us: int, now_us: int) -> str:
    """Return how long ago a moment was, such as ``12 min ago``.

    Args:
        then_us: The moment, microseconds since the epoch.
        now_us: The present time, microseconds since the epoch.
    """
    seconds = (now_us - then_us) / MICROSECONDS
    if seconds < 1:
        return "just now"
    return f"{duration_text(round(seconds))} ago"


def time_text(created_at_us: int, *, seconds: bool = True) -> str:
    """Return a moment as UTC text, such as ``2026-01-31 18:00:05``, or to the minute."""
    moment = datetime.datetime.fromtimestamp(created_at_us // MICROSECONDS, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def written_time_text(moment: object) -> str:
    """Return a moment that a record holds as ISO 8601 text in UTC, such as ``2026-01-31 18:00:05``."""
    return str(moment).replace("T", " ").removesuffix("Z")


def count_text(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun, such as ``1 run`` or ``12 runs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def metric_text(value: object) -> str:
    """Return a metric's value in few characters, keeping about four significant digits."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(str(value))
    if isinstance(value, int):
        return str(value)
    if not value:
        return "0"
    if abs(value) >= _HUNDRED_THOUSAND or abs(value) < _TINY:
        return f"{value:.3g}"
    return f"{value:.4g}" if abs(value) < _THOUSAND else f"{value:.1f}"


def short_oid(oid: object) -> str:
    """Return the beginning of an id that a command accepts in its place."""
    return str(oid)[:SHORT_OID_CHARS] if oid else "-"


def metrics_of(record: Mapping[str, object]) -> dict[str, object]:
    """Return the test metrics of a run's record; empty when it has none."""
    return mapping_of(record.get("test_metrics"))


def mapping_of(value: object) -> dict[str, object]:
    """Return a record's value as a mapping; empty when it is none."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def list_of(value: object) -> list[object]:
    """Return a record's value as a list; empty when it is none."""
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else []


def number_of(value: object) -> float:
    """Return a record's value as a number; 0 when it is none."""
    return value if isinstance(value, int | float) else 0


def whole_of(value: object) -> int:
    """Return a record's value as a whole number; 0 when it is none."""
    return value if isinstance(value, int) else 0
