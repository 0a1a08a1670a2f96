"""Manifests: what one commit is, encoded so that the same manifest is the same bytes for ever.

Invariant: `encode` is canonical (msgpack arrays, fields in declared order), so the manifest id, the BLAKE3 digest of
those bytes, identifies the content; everything git will hold is a function of the manifest and of nothing else.
Fields are only ever added at the end, with a new format number. This module must not touch LMDB or files.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import numbers
from collections.abc import Mapping
from typing import Final, Literal, cast

import msgspec

from cas.digest import digest_bytes
from cas.errors import IntegrityError, InvalidMetadataError

MANIFEST_FORMAT: Final = 1
MAX_MANIFEST_BYTES: Final = (
    64 * 1024 * 1024
)  # far above any real one; stops a damaged length from taking all memory
MAX_METADATA_DEPTH: Final = 64
# Python refuses to read back whole numbers above a limit that may be set as low as 640 digits.
MAX_INTEGER_BITS: Final = 2048
_MICROSECONDS: Final = 1_000_000
_SECONDS_CHARS: Final = len("2025-11-07T14:30:00")

# Keys of metadata.json that the store writes itself.
_RESERVED_KEYS: Final = frozenset(
    ["workflow_id", "task_id", "correlation_id", "prompt_hash", "commit_timestamp", "files"]
)
FIRST_CLASS_KEYS: Final = ("agent_version", "llm_version", "test_metrics")


class FileEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One file of a run: its name, its content's BLAKE3 digest and git oid, and its size in bytes."""

    name: str
    size_bytes: int
    digest: bytes
    oid: bytes


class WaiverEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A secret finding that was let through: where, which rule, and by what (``inline`` or ``baseline``)."""

    name: str
    line: int
    rule: str
    source: str


class BaseEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One tree entry of a branch's own content that a rollback keeps: git mode, name and oid."""

    mode: int
    name: bytes
    oid: bytes


class RunManifest(msgspec.Struct, frozen=True, array_like=True, tag="run", forbid_unknown_fields=True):
    """One revision of one run, as committed."""

    format: int
    object_format: Literal["sha1", "sha256"]
    branch: str
    parent: bytes | None
    author_name: str
    author_email: str
    created_at_us: int
    workflow_id: str
    task_id: str
    correlation_id: str
    revision: int
    prompt_hash: str | None
    metadata: bytes
    files: tuple[FileEntry, ...]
    with_metadata_file: bool
    waivers: tuple[WaiverEntry, ...] = ()


class ImportedManifest(RunManifest, frozen=True, array_like=True, tag="imported", forbid_unknown_fields=True):
    """A commit that another program made, with the bytes that no field of ours could give back.

    A run in every respect but its git form. ``parent`` is the commit before it on the branch if that was imported as
    well, ``metadata_file`` the bytes of its own ``metadata.json`` (``with_metadata_file`` tells whether it has one),
    ``commit`` the commit object, ``trees`` the tree objects from its root (the first) down to and below its task's
    folder, ``tag_objects`` name and bytes of its annotated tags. Trees may name objects that the store does not hold.
    """

    commit: bytes = b""
    trees: tuple[bytes, ...] = ()
    metadata_file: bytes = b""
    tag_objects: tuple[tuple[str, bytes], ...] = ()


class RunHead(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """The fields of a run that queries look at; the others are stepped over without being decoded."""

    format: int
    object_format: msgspec.Raw
    branch: msgspec.Raw
    parent: msgspec.Raw
    author_name: msgspec.Raw
    author_email: msgspec.Raw
    created_at_us: int
    workflow_id: str
    task_id: str
    correlation_id: str
    revision: int
    prompt_hash: str | None
    metadata: bytes


class _ImportedHead(RunHead, frozen=True, array_like=True, tag="imported"):
    """The same of an imported run."""


class _RollbackHead(msgspec.Struct, frozen=True, array_like=True, tag="rollback"):
    """A rollback, of which queries know nothing but that it is one."""

    format: int


class RollbackManifest(
    msgspec.Struct, frozen=True, array_like=True, tag="rollback", forbid_unknown_fields=True
):
    """A commit that sets a branch's artifact root to that of a tag and keeps every other path."""

    format: int
    object_format: Literal["sha1", "sha256"]
    branch: str
    parent: bytes | None
    author_name: str
    author_email: str
    created_at_us: int
    tag: str
    source: bytes
    artifact_root: bytes
    root_entries: tuple[BaseEntry, ...] = ()
    backtest_entries: tuple[BaseEntry, ...] = ()
    reason: str | None = None


Manifest = RunManifest | RollbackManifest


class ManifestRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A manifest as stored, with the ids derived from it and the one thing that cannot be derived: a signature."""

    manifest: bytes
    commit_oid: bytes
    tree_oid: bytes
    tags: tuple[tuple[str, bytes], ...]
    signature: str | None = None


_ENCODER: Final = msgspec.msgpack.Encoder()
# Made once: json.dumps makes an encoder for each call that is not the default one.
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_PLAIN_KINDS: Final = frozenset({str, float, bool, type(None)})
_PLAIN_INTEGER_BITS: Final = 64  # far below MAX_INTEGER_BITS
_PLAIN_DEPTH: Final = 8  # far below MAX_METADATA_DEPTH
_MANIFEST_DECODER: Final[msgspec.msgpack.Decoder[RunManifest | ImportedManifest | RollbackManifest]] = (
    msgspec.msgpack.Decoder(RunManifest | ImportedManifest | RollbackManifest)
)
_ROW_DECODER: Final = msgspec.msgpack.Decoder(ManifestRow)


class _RowHead(msgspec.Struct, frozen=True, array_like=True):
    """The first field of a row, without the ids after it; a view into the row."""

    manifest: memoryview


_ROW_HEAD_DECODER: Final = msgspec.msgpack.Decoder(_RowHead)
_HEAD_DECODER: Final[msgspec.msgpack.Decoder[RunHead | _ImportedHead | _RollbackHead]] = (
    msgspec.msgpack.Decoder(RunHead | _ImportedHead | _RollbackHead)
)


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return _ENCODER.encode(manifest)


def manifest_id(encoded: bytes) -> bytes:
    """Return the 32-byte id of a manifest given its canonical bytes."""
    return digest_bytes(encoded)


def decode(encoded: bytes | memoryview) -> Manifest:
    """Return the manifest of canonical bytes.

    Raises:
        IntegrityError: The bytes are not a manifest of a format this version reads.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise IntegrityError("a stored manifest is longer than any manifest can be")
    try:
        manifest = _MANIFEST_DECODER.decode(encoded)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a stored manifest cannot be decoded") from error
    if manifest.format != MANIFEST_FORMAT:
        raise IntegrityError(
            f"a stored manifest has format {manifest.format}, this version reads {MANIFEST_FORMAT}",
            hint="Install a newer version of cas-gitexport.",
        )
    return manifest


def decode_head(encoded_row: bytes | memoryview) -> RunHead | None:
    """Return the head of a run given its stored row; None for a manifest that is no run.

    A third of the cost of decoding it all; for queries that look at many runs.

    Raises:
        IntegrityError: The bytes are not a manifest row of a format this version reads.
    """
    try:
        head = _HEAD_DECODER.decode(_ROW_HEAD_DECODER.decode(encoded_row).manifest)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a stored manifest cannot be decoded") from error
    if head.format != MANIFEST_FORMAT:
        decode(decode_row(encoded_row).manifest)  # says so
    return head if isinstance(head, RunHead) else None


def encode_row(row: ManifestRow) -> bytes:
    """Return the stored form of a manifest row."""
    return _ENCODER.encode(row)


def decode_row(encoded: bytes | memoryview) -> ManifestRow:
    """Return the row of its stored form.

    Raises:
        IntegrityError: The bytes are not a manifest row.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise IntegrityError("a stored manifest row is longer than any can be")
    try:
        return _ROW_DECODER.decode(encoded)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a stored manifest row cannot be decoded") from error


def normalise_metadata(metadata: object, max_bytes: int) -> bytes:
    """Return metadata as compact JSON, keys in the order given.

    Whole and real numbers of other libraries (numpy's, say) are taken as numbers, tuples as lists. NaN and infinities
    are refused: JSON has no such numbers (RFC 8259, section 6).

    Args:
        metadata: A mapping of JSON values, or None for none.
        max_bytes: The most bytes of JSON allowed.

    Raises:
        InvalidMetadataError: Not a mapping, not JSON, too large, or it claims a key the store writes itself; the
            subject is the path of the culprit, such as ``test_metrics.sharpe``.
    """
    if metadata is None:
        return b"{}"
    if not isinstance(metadata, Mapping):
        raise InvalidMetadataError(f"metadata must be a mapping, not {type(metadata).__name__}")
    given = cast("Mapping[object, object]", metadata)
    try:
        encoded = _COMPACT.encode(given if _is_plain_mapping(given) else _plain(given, "", 0)).encode()
    except ValueError:  # NaN, an infinity, or text that is not Unicode: the long way tells where
        encoded = _COMPACT.encode(_plain(given, "", 0)).encode()
    if len(encoded) > max_bytes:
        raise InvalidMetadataError(
            f"metadata is {len(encoded)} bytes of JSON, more than the {max_bytes} allowed",
            hint="Store large results as a file of the run, or raise max_metadata_bytes.",
        )
    return encoded


def _is_plain_mapping(metadata: Mapping[object, object]) -> bool:
    """Tell whether metadata, as of nearly every run, is made of Python's own types and needs no conversion.

    Numbers that JSON cannot hold and text that is not Unicode are left to the encoder, which refuses them.
    """
    kind: type = type(metadata)
    return kind is dict and _RESERVED_KEYS.isdisjoint(metadata) and _is_plain(metadata, 0)


def _is_plain(mapping: Mapping[object, object], depth: int) -> bool:
    for key, value in mapping.items():
        if type(key) is not str:
            return False
        if type(value) in _PLAIN_KINDS or (type(value) is int and value.bit_length() <= _PLAIN_INTEGER_BITS):
            continue
        if type(value) is not dict or depth >= _PLAIN_DEPTH:
            return False
        if not _is_plain(cast("dict[object, object]", value), depth + 1):
            return False
    return True


def _plain(value: object, path: str, depth: int) -> object:
    # Almost every value of a run is a plain float; the general tests below cost ten times as much.
    if (type(value) is float and math.isfinite(value)) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, path)
    if _is_numpy_bool(value):
        return bool(value)
    if isinstance(value, numbers.Real):
        return _number(value, path)
    if depth >= MAX_METADATA_DEPTH:
        raise InvalidMetadataError(
            f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels", subject=path or None
        )
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, depth)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        items: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(items)]
    raise InvalidMetadataError(
        f"metadata value at {path or 'the top'!r} is a {type(value).__name__}, which JSON cannot hold",
        subject=path or None,
    )


def _number(value: numbers.Real, path: str) -> int | float:
    if isinstance(value, numbers.Integral):
        return _whole(int(value), path)
    number = _double(value, path)
    if not math.isfinite(number):
        raise InvalidMetadataError(
            f"metadata value at {path or 'the top'!r} is {number}, which JSON cannot hold",
            subject=path or None,
            hint="Use None for a metric that has no value.",
        )
    return number


def _is_numpy_bool(value: object) -> bool:
    """Tell a comparison's result in numpy, which unlike numpy's numbers has no abstract class of Python's."""
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in {"bool", "bool_"}


def _whole(number: int, path: str) -> int:
    if number.bit_length() > MAX_INTEGER_BITS:
        raise InvalidMetadataError(
            f"metadata value at {path or 'the top'!r} is a whole number of {number.bit_length()} bits, more than "
            f"the {MAX_INTEGER_BITS} allowed",
            subject=path or None,
            hint="Store it as text.",
        )
    return number


def _double(value: numbers.Real, path: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidMetadataError(
            f"metadata value at {path or 'the top'!r} is beyond the range of a double", subject=path or None
        ) from error


def _plain_mapping(mapping: Mapping[object, object], path: str, depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in mapping.items():
        if not isinstance(key, str):
            raise InvalidMetadataError(
                f"metadata key at {path or 'the top'!r} is a {type(key).__name__}, JSON keys are text",
                subject=path or None,
            )
        _text(key, path)
        if depth == 0 and key in _RESERVED_KEYS:
            raise InvalidMetadataError(
                f"metadata key {key!r} is written by the store itself",
                subject=key,
                hint="Rename the key, or leave it out.",
            )
        plain[key] = _plain(item, f"{path}.{key}" if path else key, depth + 1)
    return plain


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidMetadataError(
            f"metadata at {path or 'the top'!r} holds text that is not valid Unicode", subject=path or None
        ) from error
    return str.__str__(value)  # an Enum that is a str prints its name, but is its value


def load_metadata(encoded: bytes) -> dict[str, object]:
    """Return metadata as plain data, as it was given."""
    loaded: object = json.loads(encoded)
    if not isinstance(loaded, dict):
        raise IntegrityError("stored metadata is not a JSON object")
    return loaded  # pyright: ignore[reportUnknownVariableType]


def scan_metadata(encoded: bytes) -> dict[str, object]:
    """Return metadata as plain data, three times as fast as `load_metadata`; for many runs at once."""
    try:
        return msgspec.json.decode(encoded, type=dict[str, object])
    except msgspec.MsgspecError:
        return load_metadata(encoded)  # a number msgspec does not take


@functools.lru_cache(maxsize=4)
def peek_metadata(encoded: bytes) -> dict[str, object]:
    """Return metadata as plain data that nobody may change: a commit asks for the same bytes several times."""
    return scan_metadata(encoded)


def content_digest(
    workflow_id: str, task_id: str, prompt_hash: str | None, metadata: bytes, files: tuple[FileEntry, ...]
) -> bytes:
    """Return the digest that makes two commits of one correlation ID the same commit.

    The order of files and of metadata keys does not count: two mappings with equal items are equal.
    """
    sorted_metadata = _SORTED.encode(peek_metadata(metadata))
    named = sorted((entry.name, entry.digest) for entry in files)
    return digest_bytes(_ENCODER.encode((workflow_id, task_id, prompt_hash, sorted_metadata, named)))


def timestamp_text(created_at_us: int) -> str:
    """Return a commit time as ISO 8601 UTC with seconds, such as ``2025-11-07T14:30:00Z``."""
    return _seconds_text(created_at_us // _MICROSECONDS)


@functools.lru_cache(maxsize=256)  # runs of a batch share their seconds
def _seconds_text(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()[:_SECONDS_CHARS] + "Z"


def timestamp_s(manifest: Manifest) -> int:
    """Return the commit time of a manifest in whole seconds since the epoch."""
    return manifest.created_at_us // _MICROSECONDS


def metadata_file_bytes(manifest: RunManifest) -> bytes:
    """Return a run's ``metadata.json``: generated (the replaced system's keys, then the rest), or imported."""
    if isinstance(manifest, ImportedManifest):
        return manifest.metadata_file
    given = msgspec.json.decode(manifest.metadata, type=dict[str, msgspec.Raw])
    document: dict[str, object] = {
        "workflow_id": manifest.workflow_id,
        "task_id": manifest.task_id,
        "correlation_id": manifest.correlation_id,
        "prompt_hash": manifest.prompt_hash,
        "commit_timestamp": timestamp_text(manifest.created_at_us),
    }
    for key in FIRST_CLASS_KEYS:
        document[key] = given.pop(key, None)
    document["files"] = [entry.name for entry in manifest.files]
    document.update(given)
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
