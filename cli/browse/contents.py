"""Contents: a file of a run as a page shows it: highlighted text, rows of a table, or a word about why not.

Invariant: a file is read to its end, and so checked against its digest, before anything of it is shown; memory is
bounded by the limits below. Text reaches a page through escaping alone, and without characters that would hide or turn
what stands there.
"""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

from cli.figures import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_READ_BYTES: Final = (
    64 << 20
)  # half a second of reading and checking; larger ones are offered for download
MAX_SHOWN_BYTES: Final = 1 << 20  # more than a browser scrolls well
MAX_HIGHLIGHTED_BYTES: Final = 256 << 10  # a fifth of a second
# By suffix alone: guessing by content would hand a file to whichever of some hundred lexers it likes.
_LEXERS: Final = {
    ".py": "python",
    ".pyi": "python",
    ".ipynb": "json",
    ".json": "json",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".ini": "ini",
    ".cfg": "ini",
    ".sql": "sql",
    ".sh": "bash",
    ".md": "markdown",
    ".js": "javascript",
    ".ts": "typescript",
    ".html": "html",
    ".xml": "xml",
    ".svg": "xml",
    ".c": "c",
    ".h": "c",
    ".cpp": "cpp",
    ".rs": "rust",
    ".go": "go",
    ".java": "java",
    ".jl": "julia",
    ".r": "r",
    ".mq4": "cpp",
    ".mq5": "cpp",
    ".diff": "diff",
    ".patch": "diff",
}
_CODE: Final = frozenset(
    {".py", ".jl", ".r", ".cpp", ".c", ".rs", ".go", ".java", ".mq4", ".mq5", ".js", ".ts"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Text of a file.

    Attributes:
        lines: Its lines as markup, tokens in spans whose classes are pygments' short ones.
        cut_bytes: How many bytes at the end are not shown.
    """

    lines: list[Markup]
    cut_bytes: int = 0


def is_code_name(name: str) -> bool:
    """Tell whether a file holds a program, by its name."""
    return PurePosixPath(name).suffix.lower() in _CODE


def read_text(chunks: Iterable[bytes], name: str) -> Text | None:
    """Return the beginning of a file as text; None when it is binary.

    Args:
        chunks: The file's bytes; all are read.
        name: Its name, which decides how it is highlighted.
    """
    kept, size_bytes = bytearray(), 0
    for chunk in chunks:
        kept += chunk[: MAX_SHOWN_BYTES - len(kept)]
        size_bytes += len(chunk)
    if b"\0" in kept:
        return None
    cut_bytes = size_bytes - len(kept)
    text = kept.decode("utf-8-sig", "replace")
    if cut_bytes:  # at the end of a line, where there is one
        text = text[: text.rfind("\n") + 1] or text
    return Text(highlighted(text, name), cut_bytes)


def highlighted(text: str, name: str) -> list[Markup]:
    """Return the lines of a text as markup."""
    shown = visible(text)
    alias = _LEXERS.get(PurePosixPath(name).suffix.lower())
    if alias is None or len(shown) > MAX_HIGHLIGHTED_BYTES:
        return [escape(line) for line in shown.splitlines()]
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name  # pyright: ignore[reportUnknownVariableType]

    lexer = get_lexer_by_name(alias, stripnl=False, ensurenl=False)
    formatter: HtmlFormatter[str] = HtmlFormatter(nowrap=True)
    # The formatter escapes, and closes its spans at the end of each line.
    return [Markup(line) for line in highlight(shown, lexer, formatter).splitlines()]  # noqa: S704


def visible(text: str) -> str:
    """Return text whose only control characters are tabs and line ends; others are written as escapes."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)
