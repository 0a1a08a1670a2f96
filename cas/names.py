"""IDs to branch, tag and path names; artifact names at the gate. Pure: no file, no git, no store.

Invariant: the same ID always gives the same name, two different IDs never give the same one, and git and
every common file system accept it. ``/`` is always escaped, so an ID is one ref component and no name can be
a folder of another.

Escaping (``escape_id``): the ID's UTF-8 bytes, each one outside ``A-Z a-z 0-9 _ . -`` written ``%XX`` in
upper-case hexadecimal. Escaped as well, though plain: a leading ``.`` or ``-``, a trailing ``.``, every dot
that follows a dot, the dot of a final ``.lock`` in any case, and the first letter of a Windows device name
(``con``, ``NUL.txt``, ``com1``). An escaped ID above 100 bytes is cut and closed by ``%-`` and 32 hexadecimal
characters of the whole ID's digest; ``%-`` appears nowhere else. Such a name cannot be undone: the manifest
keeps the ID.

Limit: letters keep their case, so ``Task`` and ``task`` are two IDs whose loose refs meet on a
case-insensitive file system. Packed refs hold both. Artifact names of one run that differ only so are
refused.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from cas.digest import digest_bytes
from cas.errors import InvalidIdError, InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

ARTIFACT_ROOT: Final = "Backtest/codes"
METADATA_NAME: Final = "metadata.json"
CORRELATION_PREFIX: Final = "corr_"
PROMPT_PREFIX: Final = "prompt_"
PROMPT_CHARS: Final = 12

# Two components and the default prefix make 214 bytes, below the 244 that hosts are known to accept for a
# branch name; one component with git's ".lock" behind it stays far below the 255 bytes of a file name.
MAX_COMPONENT_BYTES: Final = 100
# 128 bits: no two long IDs of one store meet by accident, and nobody can look for a pair in reasonable time.
CUT_DIGEST_CHARS: Final = 32
CUT_MARK: Final = "%-"
_CUT_PREFIX_CHARS: Final = MAX_COMPONENT_BYTES - len(CUT_MARK) - CUT_DIGEST_CHARS

MAX_BRANCH_BYTES: Final = 244  # the least limit known of a host
_REF_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{")

MAX_PART_BYTES: Final = 255  # the limit of ext4, XFS, APFS and NTFS alike, give or take their unit
MAX_PATH_BYTES: Final = 1024  # macOS PATH_MAX; leaves room for a checkout's own folder on Linux
MAX_PATH_DEPTH: Final = 32

_DEVICE: Final = r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])"
_PLAIN_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]++)*+"
_PLAIN_ID: Final = re.compile(rf"(?!{_DEVICE}(?:\.|\Z)){_PLAIN_PART}(?<!\.[lL][oO][cC][kK])")
_PLAIN_PATH_PART: Final = rf"(?!{_DEVICE}(?:[./]|\Z)){_PLAIN_PART}"
_PLAIN_PATH: Final = re.compile(
    rf"(?!(?i:metadata\.json)(?:/|\Z)){_PLAIN_PATH_PART}(?:/{_PLAIN_PATH_PART})*+"
)

_SAFE_BYTES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_ESCAPES: Final = {byte: chr(byte) if byte in _SAFE_BYTES else f"%{byte:02X}" for byte in range(256)}
_ESCAPED: Final = re.compile(r"(?:[A-Za-z0-9_.-]|%[0-9A-F]{2})+")
# Order does not matter: each alternative names one character, and the result is the same whichever finds it.
_AWKWARD: Final = re.compile(rf"\A[.-]|(?<=\.)\.|\.\Z|\.(?=(?i:lock)\Z)|\A(?={_DEVICE}(?:\.|\Z))[A-Za-z]")

# Code points that HFS+ leaves out when it compares names, so that ".g<U+200C>it" opens ".git" there.
_HFS_IGNORED: Final = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None
)
_DEVICE_STEMS: Final = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"]
)
_GIT_FOLDER: Final = re.compile(r"\.git|git~[0-9]+")
# NTFS gives a long name a short one: "gitmod~1" to "~4", then "gi7eba~1" and so on, eight characters in all.
_GIT_MODULES: Final = re.compile(
    r"\.gitmodules|gitmod~[1-4]|(?=.{8}\Z)(?:g(?:i(?:7(?:e(?:ba?)?)?)?)?)?~[1-9][0-9]*"
)


def exact_text(text: str) -> str:
    """Return text as ``str`` itself; a subclass, such as an enumeration's member, may print as something else.

    Ids are worked out once from what the caller gave and ever after from what was stored; both have to be one text.
    """
    return text if type(text) is str else str.__str__(text)


def check_id(value: object, what: str) -> str:
    """Return ``value`` as plain text if it can be an ID: any non-empty text that UTF-8 can hold.

    Args:
        value: What the caller gave.
        what: How to call it in the error, such as ``workflow_id``.

    Raises:
        InvalidIdError: Not text, empty, or with a lone surrogate; ``subject`` is ``what``.
    """
    if not isinstance(value, str):
        raise InvalidIdError(f"{what} must be text, not {type(value).__name__}", subject=what)
    if not value:
        raise InvalidIdError(f"{what} is empty", subject=what)
    if not value.isascii() and not _is_utf8(value):
        raise InvalidIdError(f"{what} is not valid Unicode text (lone surrogate)", subject=what)
    return exact_text(value)


def escape_id(text: str) -> str:
    """Return the git ref component and path part of an ID; a plain ID comes back as it is.

    Args:
        text: Any ID.

    Returns:
        1 to 100 bytes of ASCII, different for every ID; see the module's header for the rules.

    Raises:
        InvalidIdError: The text is empty or not valid Unicode.
    """
    # Anything but plain text falls through to check_id, which says what is wrong.
    if type(text) is str and len(text) <= MAX_COMPONENT_BYTES and _PLAIN_ID.fullmatch(text):
        return text
    raw = check_id(text, "ID").encode("utf-8")
    escaped = "".join([_ESCAPES[byte] for byte in raw])
    escaped = _AWKWARD.sub(lambda match: f"%{ord(match[0]):02X}", escaped)
    if len(escaped) <= MAX_COMPONENT_BYTES:
        return escaped
    prefix = escaped[:_CUT_PREFIX_CHARS]
    broken_at = prefix.rfind("%", _CUT_PREFIX_CHARS - 2)
    if broken_at >= 0:
        prefix = prefix[:broken_at]
    return f"{prefix}{CUT_MARK}{digest_bytes(raw).hex()[:CUT_DIGEST_CHARS]}"


def unescape_id(component: str) -> str:
    """Return the ID that ``escape_id`` turned into ``component``.

    Raises:
        InvalidIdError: The component was shortened (``kind`` is ``id_not_reversible``; its ID is in the
            manifest), or ``escape_id`` never writes it.
    """
    if CUT_MARK in component:
        raise InvalidIdError(
            f"{component} is a shortened ID",
            subject=component,
            kind="id_not_reversible",
            hint="The whole ID is kept in the run's manifest and its metadata.json.",
        )
    if _ESCAPED.fullmatch(component):
        try:
            text = unquote_to_bytes(component).decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if text and escape_id(text) == component:
            return text
    raise InvalidIdError(f"{component!a} is not an escaped ID", subject=_printable(component))


def branch_name(prefix: str, workflow_id: str, task_id: str) -> str:
    """Return ``<prefix>/<workflow>/<task>`` with both IDs escaped, without ``refs/heads/``.

    Always two components below the prefix, so no branch can be a folder of another. The prefix is taken as it
    is: the configuration has checked it.

    Raises:
        InvalidIdError: An ID is empty or not valid Unicode.
    """
    return f"{prefix}/{escape_id(workflow_id)}/{escape_id(task_id)}"


def canonical_correlation_id(text: str) -> str:
    """Return the one form under which a correlation ID is kept and found: with its ``corr_`` prefix.

    ``x`` and ``corr_x`` are the same correlation ID, for both name the tag ``corr_x``. The prefixed form is
    the canonical one because adding it twice changes nothing, which taking it away would (``corr_corr_x``).

    Raises:
        InvalidIdError: The text is empty or not valid Unicode.
    """
    checked = check_id(text, "correlation_id")
    return checked if checked.startswith(CORRELATION_PREFIX) else CORRELATION_PREFIX + checked


def correlation_tag(correlation_id: str, revision: int = 1) -> str:
    """Return the tag of one revision of a correlation ID: ``corr_<id>``, later ``corr_<id>@<n>``.

    The ``@`` is never part of an escaped ID, so no ID can claim another's revision.

    Raises:
        InvalidIdError: The ID is empty or not valid Unicode, or the revision is below 1.
    """
    tag = escape_id(canonical_correlation_id(correlation_id))
    if revision == 1:
        return tag
    if revision < 1:
        raise InvalidIdError(f"revision must be 1 or more, not {revision}", subject="revision")
    return f"{tag}@{revision}"


def prompt_tag(prompt_hash: str) -> str:
    """Return the tag of a prompt: ``prompt_`` and the first 12 characters of its hash, escaped.

    Raises:
        InvalidIdError: The text is empty or not valid Unicode.
    """
    return escape_id(PROMPT_PREFIX + check_id(prompt_hash, "prompt_hash")[:PROMPT_CHARS])


def task_directory(task_id: str) -> str:
    """Return the folder of a task below ``Backtest/codes/``: its escaped ID, one path part.

    Raises:
        InvalidIdError: The ID is empty or not valid Unicode.
    """
    return escape_id(task_id)


def check_branch_name(branch: object) -> str:
    """Return ``branch`` as plain text if git accepts it as a branch name, without ``refs/heads/``.

    The rules are those of ``git check-ref-format --branch``, and at most 244 bytes, which hosts accept.

    Raises:
        InvalidNameError: It is not one.
    """
    if not isinstance(branch, str) or not branch:
        raise InvalidNameError("a branch name must be non-empty text", subject=None)
    bad_part = any(not part or part.startswith(".") or part.endswith(".lock") for part in branch.split("/"))
    forbidden = _REF_FORBIDDEN.search(branch) or not _is_utf8(branch)
    if bad_part or forbidden or branch.startswith("-") or branch in {"@", "HEAD"} or branch.endswith("."):
        raise InvalidNameError(f"git refuses {_quoted(branch)} as a branch name", subject=_printable(branch))
    if len(branch.encode()) > MAX_BRANCH_BYTES:
        raise InvalidNameError(f"a branch name may have {MAX_BRANCH_BYTES} bytes", subject=_printable(branch))
    return exact_text(branch)


def fold_name(name: str) -> str:
    """Return what a case-insensitive, normalising file system compares: equal results are one file there.

    Canonical caseless matching (Unicode 3.13, D145), with the code points that HFS+ ignores left out.
    """
    if name.isascii():
        return name.lower()
    decomposed = unicodedata.normalize("NFD", name.translate(_HFS_IGNORED))
    return unicodedata.normalize("NFC", decomposed.casefold())


def check_artifact_name(name: str) -> None:
    """Refuse an artifact name that is not a safe relative path on every common system.

    Accepted: canonical POSIX paths in UTF-8, parts of at most 255 bytes, at most 1024 bytes and 32 parts in
    all, without control characters, backslash, colon, parts that end in a dot or blank, Windows device names,
    anything that git would take for ``.git`` or ``.gitmodules``; ``metadata.json`` at the top is the store's
    own.

    Raises:
        InvalidNameError: With the reason; ``subject`` is the name.
    """
    if type(name) is str and len(name) <= MAX_PART_BYTES and _PLAIN_PATH.fullmatch(name):
        reason = _depth_fault(name)
    else:
        reason = _path_fault(name)
    if reason is not None:
        raise InvalidNameError(f"artifact name {_quoted(name)}: {reason}", subject=_printable(name))


class _Claim(NamedTuple):
    """Who holds a folded path: its spelling, its artifact, and whether it is that artifact's file."""

    path: str
    owner: str
    is_file: bool


class ArtifactNames:
    """The names of a run that takes its files one by one, no two of which meet on any file system.

    Two names meet when they are equal, equal after folding (``fold_name``), when one is a folder of the
    other, or when they spell a shared folder differently. A name costs the same however many there are. Owned
    by one thread.
    """

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}

    def check(self, name: str) -> None:
        """Check a name, and that it meets none that was added.

        Raises:
            InvalidNameError: The message names both culprits; ``subject`` is this one.
        """
        self._claimed(name)

    def add(self, name: str) -> None:
        """Check a name as `check` does, and keep it.

        Raises:
            InvalidNameError: As for `check`; it is not kept.
        """
        self._claims.update(self._claimed(name))

    def _claimed(self, name: str) -> dict[str, _Claim]:
        """Return what a name adds to the paths that are held, by their folded form."""
        check_artifact_name(name)
        new = {fold_name(name): _Claim(name, name, is_file=True)}
        slash_at = name.find("/")
        while slash_at >= 0:
            new[fold_name(name[:slash_at])] = _Claim(name[:slash_at], name, is_file=False)
            slash_at = name.find("/", slash_at + 1)
        for folded, claim in new.items():
            old = self._claims.get(folded)
            if old is not None and (old.path != claim.path or old.is_file or claim.is_file):
                raise _meeting(old, claim)
        return new


def check_artifact_names(names: Iterable[str]) -> None:
    """Check each name of a run, and that no two of them meet on any file system; see `ArtifactNames`.

    Args:
        names: The artifact names of one run, iterated once.

    Raises:
        InvalidNameError: The message names both culprits; ``subject`` is the later one.
    """
    taken = ArtifactNames()
    for name in names:
        taken.add(name)


def _meeting(old: _Claim, new: _Claim) -> InvalidNameError:
    """Return the error for two claims of one folded path."""
    if old.owner == new.owner:
        reason = "is given twice"
    elif old.is_file != new.is_file:
        reason = f"cannot stand beside {_quoted(old.owner)}: one is a folder of the other"
    elif old.is_file:
        reason = f"is the same file as {_quoted(old.owner)} where case or Unicode form is ignored"
    else:
        reason = f"spells a folder of {_quoted(old.owner)} differently, and some file systems ignore that"
    return InvalidNameError(f"artifact name {_quoted(new.owner)} {reason}", subject=new.owner)


def _depth_fault(name: str) -> str | None:
    return f"more than {MAX_PATH_DEPTH} parts" if name.count("/") >= MAX_PATH_DEPTH else None


def _path_fault(name: object) -> str | None:  # noqa: PLR0911  # one return per rule
    """Return why a path is refused, None if it is not."""
    if not isinstance(name, str):
        return f"must be text, not {type(name).__name__}"
    if not name:
        return "is empty"
    if not _is_utf8(name):
        return "is not valid Unicode text (lone surrogate)"
    if len(name.encode("utf-8")) > MAX_PATH_BYTES:
        return f"longer than {MAX_PATH_BYTES} bytes"
    if name.startswith("/"):
        return "must be relative"
    for char in name:
        if char in "\\:" or unicodedata.category(char) == "Cc":
            return f"holds {char!a}, which is a separator or control character on some system"
    parts = name.split("/")
    if fold_name(parts[0]) == METADATA_NAME:
        return f"{METADATA_NAME} is written by the store"
    return _depth_fault(name) or next((fault for part in parts if (fault := _part_fault(part))), None)


def _part_fault(part: str) -> str | None:
    """Return why one part of a path is refused, None if it is not."""
    folded = fold_name(part)
    if folded in {"", ".", ".."}:
        return "holds an empty, '.' or '..' part"
    if len(part.encode("utf-8")) > MAX_PART_BYTES:
        return f"a part is longer than {MAX_PART_BYTES} bytes"
    if part.endswith((".", " ")):
        return "a part ends in a dot or blank, which Windows drops"
    if _GIT_FOLDER.fullmatch(folded) or _GIT_MODULES.fullmatch(folded):
        return f"git would take {_quoted(part)} for its own"
    if folded.split(".", 1)[0].rstrip(" ") in _DEVICE_STEMS:
        return f"{_quoted(part)} is a device on Windows"
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _quoted(name: object) -> str:
    return repr(name) if isinstance(name, str) else "of another type"


def _printable(name: object) -> str:
    """Return a name as text that any encoder accepts, for the error's ``subject``."""
    return str(name).encode("utf-8", "backslashreplace").decode("utf-8")
