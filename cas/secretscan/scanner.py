"""The scanner: bytes and a name in, findings out.

Invariant: the same bytes under the same kind of name give the same findings, whichever engine runs and
however the bytes are cut; no value of a credential outlives the call that met it, and none is in any
attribute, repr or exception.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final, cast

import msgspec

from cas.arguments import check_config
from cas.config import ArtifactStoreConfig
from cas.digest import digest_bytes
from cas.errors import ConfigError, InvalidFileError, InvalidInputError, StateError
from cas.secretrules import KIND_RULES, RULES, TABLE_VERSION
from cas.secretrules import vocabulary as known
from cas.secretscan.allowance import PatternTooSlowError, now_ns
from cas.secretscan.engine import CELL_BYTES, Candidate, Engine, build
from cas.secretscan.findings import Finding, Waiver
from cas.secretscan.matcher import OVERLAP_BYTES, Block, Hit, Matcher, without_overlaps
from cas.secretscan.patterns import compile_patterns
from cas.secretscan.waivers import Baseline, read_baseline

# One pass over this much at a time: small beside memory, large beside the overlap.
BLOCK_BYTES: Final = 4 * 1024 * 1024
# A first look takes this much at a time, which stays in the processor's cache for the automata that follow the first.
_LOOK_BYTES: Final = 512 * 1024
# Compiling the automata takes half a second. A process that has scanned so long without them, which is two or three
# ordinary runs, is taken for a batch: they pay after a dozen runs, and one `cas commit` alone never waits for them.
# Bytes tell little of that: half a megabyte of source code takes the slow engine a second, of numbers a twentieth of
# one. A block that could take it longer than compiling takes is not begun with it.
_SLOW_NS: Final = 100_000_000
_SLOW_BYTES: Final = 256 * 1024
_VERSION_CHARS: Final = 16
_ALL_RULES: Final = "*"
_MOST_VARIANTS: Final = 1024  # remembered names; a few hundred kilobytes
_WITHHELD_NAME: Final = "(a name that holds a credential)"

# Engines by what they look for, for the life of the process. Two threads may both build one; either serves.
# No lock, so that a fork in the middle leaves nothing held.
_ENGINES: dict[tuple[str, tuple[str, ...]], Engine] = {}


def place_of(name: str) -> str:
    """Return how bare values in a file of this name are read: ``code``, ``config`` or ``text``."""
    base = PurePosixPath(name.replace("\\", "/")).name.lower()
    ending = base.rpartition(".")[2]
    if ending in known.CODE_ENDINGS:
        return "code"
    if (
        ending in known.CONFIG_ENDINGS
        or base.startswith((".env", "dockerfile", "containerfile"))
        or ".env." in base
    ):
        return "config"
    return "text"


class SecretScanner:
    """Finds credentials in artifacts.

    What a scanner finds never changes. It may be shared by threads; after a fork the child may go on using it.

    Args:
        config: Gives the user's patterns, the baseline file and the rules left out; None means the built-in rules.
        engine: ``hyperscan``, ``python``, or ``auto``: Hyperscan where it is installed, once there is enough to scan.
        disabled_rules: Ids of rules that are not applied; None takes those of ``config``.
        path_rules: Patterns of artifact names (``fnmatch``, case-sensitive), each with ids of rules that do not apply
            there; ``*`` stands for every rule. What they let through is reported as a waiver. None takes those of
            ``config``.
        baseline: Findings let through; None reads the file that ``config`` names.

    Raises:
        ConfigError: A pattern, rule id, engine or baseline is unusable.
    """

    def __init__(
        self,
        config: ArtifactStoreConfig | None = None,
        *,
        engine: str = "auto",
        disabled_rules: Collection[str] | None = None,
        path_rules: Mapping[str, Collection[str]] | None = None,
        baseline: Baseline | Path | None = None,
    ) -> None:
        settings = (
            ArtifactStoreConfig(repo_path=Path("/")) if config is None else config
        )  # no folder matters here
        check_config(settings)
        self._patterns = tuple(settings.secret_patterns or ())
        self._user_patterns = compile_patterns(self._patterns)
        self._matcher = Matcher(self._user_patterns)
        off, by_path = read_ignored(settings.secret_ignore or ())
        self._disabled = off if disabled_rules is None else _checked_rules(disabled_rules, "disabled_rules")
        self._path_rules = by_path if path_rules is None else _checked_path_rules(path_rules)
        there_are = rule_ids() | {pattern.rule for pattern in self._user_patterns}
        for rule in self._disabled.union(*self._path_rules.values()) - there_are - {_ALL_RULES}:
            near = difflib.get_close_matches(rule, sorted(there_are), 3)
            raise ConfigError(
                f"unknown secret rule {rule!r}",
                subject=rule,
                hint=f"Did you mean {', '.join(near)}?" if near else "Findings name their rule in brackets.",
            )
        chosen = settings.secret_baseline if baseline is None else baseline
        if not isinstance(chosen, Baseline | Path | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"baseline must be a path, not {type(chosen).__name__}", subject="baseline")
        self._baseline = read_baseline(chosen) if isinstance(chosen, Path) else chosen or Baseline()
        self._choice = _choose_engine(engine)
        self._is_auto = engine == "auto"
        self._slow_ns = 0  # processor time of looks and searches before the engine was ready
        self._ready: Engine | None = None
        self._variants: dict[str, str] = {}  # name → variant: the files of all runs bear the same few names
        self.ruleset_version = self._version()

    def __repr__(self) -> str:
        return f"SecretScanner(ruleset_version={self.ruleset_version!r}, engine={self._choice!r})"

    def variant(self, name: str) -> str:
        """Return all that findings depend on besides the bytes, short enough for a key.

        Two artifacts with the same bytes and the same variant have the same findings, but for the name in
        them. A baseline entry for one of the two names belongs to the variant as well.
        """
        variant = self._variants.get(name)
        if variant is None:
            if len(self._variants) >= _MOST_VARIANTS:
                self._variants.clear()
            variant = self._variants[name] = self._find_variant(name)
        return variant

    def _find_variant(self, name: str) -> str:
        globs = sorted(glob for glob in self._path_rules if fnmatch.fnmatchcase(name, glob))
        named = [entry for entry in self._baseline.entries if entry[2] == name]
        extra = digest_bytes(msgspec.json.encode([globs, sorted(named)])).hex()[:8] if globs or named else ""
        return f"{self.ruleset_version}-{place_of(name)}{'-' + extra if extra else ''}"

    def scan(self, data: bytes | bytearray | memoryview, name: str) -> list[Finding]:
        """Return the findings in ``data``, without waived ones, in file order.

        Args:
            data: Contents of one artifact, or any text; only read, and not kept.
            name: Name for the findings; its ending tells source code and settings from other text.

        Raises:
            InvalidInputError: ``data`` is no bytes, or ``name`` no text.
            InvalidFileError: A configured pattern took too long in it (``pattern_too_slow``).
        """
        return self.scan_waived(data, name)[0]

    def scan_waived(
        self, data: bytes | bytearray | memoryview, name: str
    ) -> tuple[list[Finding], list[Waiver]]:
        """Return the findings in ``data`` and the waivers that were used, each in file order.

        Raises:
            InvalidInputError: ``data`` is no bytes, or ``name`` no text.
            InvalidFileError: A configured pattern took too long in it (``pattern_too_slow``).
        """
        _check_name(name)
        if self.has_nothing(data):
            return [], []  # most artifacts
        stream = self.stream(name)
        stream.feed(data)
        return stream.finish_waived()

    def has_nothing(self, data: bytes | bytearray | memoryview) -> bool:
        """Tell whether there is nothing to look at, which costs neither a count of lines nor a copy of the whole.

        Where there is something it need not be a credential; of texts with a blank line between them all are covered.
        """
        if isinstance(data, bytes) and len(data) <= _LOOK_BYTES:
            return not self._look(data)
        view = _view(data)
        for start in range(0, view.nbytes, _LOOK_BYTES):
            if self._look(bytes(view[max(0, start - OVERLAP_BYTES) : start + _LOOK_BYTES])):
                return False
        return True

    def _look(self, data: bytes) -> list[Candidate]:
        if self._ready is not None:
            return self._ready.candidates(data)
        engine = self._engine(0)
        started_ns = now_ns()
        found = engine.candidates(data)
        self._slow_ns += now_ns() - started_ns
        return found

    def stream(self, name: str) -> StreamScanner:
        """Return a scanner of one artifact that arrives in chunks; for one thread.

        Raises:
            InvalidInputError: ``name`` is no text.
        """
        _check_name(name)
        return StreamScanner(self, name)

    def warm(self) -> None:
        """Build the fast engine now rather than when there was enough to scan; takes about half a second."""
        self._engine(_SLOW_BYTES)

    def search(self, block: Block, name: str) -> list[Hit]:
        """Return the hits in the core of one block; used by ``StreamScanner``.

        Raises:
            InvalidFileError: A configured pattern took too long, so that nothing can be said of the file.
        """
        engine = self._engine(len(block.data))
        started_ns = now_ns()
        try:
            hits = self._matcher.search(block, engine, place_of(name))
        except PatternTooSlowError as error:
            rule = error.rule
        else:
            return [hit for hit in hits if hit.rule not in self._disabled]
        finally:
            self._slow_ns += now_ns() - started_ns
        raise self._too_slow(rule, name)

    def _too_slow(self, rule: str, name: str) -> InvalidFileError:
        pattern = next(item.pattern for item in self._user_patterns if item.rule == rule)
        shown = self.shown_name(name)
        return InvalidFileError(
            f"file {shown!r} cannot be scanned: the configured pattern {pattern!r} takes too long in it",
            subject=shown,
            kind="pattern_too_slow",
            hint="Begin the pattern in secret_patterns with fixed text, or bound its repeats, as in {0,40}.",
        )

    def shown_name(self, name: str) -> str:
        """Return a name as findings may tell it: not one that holds a credential itself, or may hold one."""
        encoded = name.encode("utf-8", "surrogateescape")
        block = Block(encoded, 0, 0, len(encoded))
        try:
            found = self._matcher.search(block, self._engine(0), place_of(""))
        except PatternTooSlowError:  # nobody knows
            return _WITHHELD_NAME
        return _WITHHELD_NAME if found else name

    def sort_out(self, located: list[tuple[Finding, str]]) -> tuple[list[Finding], list[Waiver]]:
        """Divide findings, each with its inline mark, into those that stand and those that are waived."""
        findings: list[Finding] = []
        waivers: list[Waiver] = []
        for finding, mark in located:
            source = self._waived_by(finding, mark)
            if source:
                waivers.append(Waiver(finding.name, finding.line, finding.rule, finding.fingerprint, source))
            else:
                findings.append(finding)
        return findings, waivers

    def _waived_by(self, finding: Finding, mark: str) -> str:
        if mark:
            return f"inline:{mark}"
        if self._baseline.covers(finding):
            return "baseline"
        for glob, rules in self._path_rules.items():
            if fnmatch.fnmatchcase(finding.name, glob) and rules & {finding.rule, _ALL_RULES}:
                return "settings"
        return ""

    def _engine(self, size_bytes: int) -> Engine:
        if self._ready is not None:
            return self._ready
        key = (self._choice, self._patterns)
        self._ready = _ENGINES.get(key)
        if self._ready is not None:
            return self._ready
        if self._is_auto and size_bytes < _SLOW_BYTES and self._slow_ns < _SLOW_NS:
            key = ("python", self._patterns)
        return _ENGINES.get(key) or _ENGINES.setdefault(key, build(self._matcher.anchors, key[0]))

    def _version(self) -> str:
        table = [
            TABLE_VERSION,
            [(r.id, r.pattern, r.check, r.rank, r.guard, r.literals, r.gate) for r in RULES],
            self._patterns,
            sorted(self._disabled),
            sorted((glob, sorted(rules)) for glob, rules in self._path_rules.items()),
            sorted(self._baseline.entries),
        ]
        return digest_bytes(msgspec.json.encode(table)).hex()[:_VERSION_CHARS]


class StreamScanner:
    """Scans one artifact chunk by chunk in bounded memory; the findings are those of the whole.

    Holds one block at a time beside the chunk it is given. Not thread-safe.
    """

    def __init__(self, scanner: SecretScanner, name: str) -> None:
        self._scanner = scanner
        self._name = name
        self._buffer = b""
        self._base = 0  # offset of the buffer in the artifact
        self._core = 0  # offset in the buffer of the first byte not answered for
        self._hits: list[tuple[Hit, int, int]] = []  # with line and column
        self._newline_count = 0  # before the buffer
        self._line_start = 0  # offset in the artifact of the last line that begins at or before the buffer
        self._is_finished = False

    def __repr__(self) -> str:
        return f"StreamScanner(name={self._name!r})"

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the artifact.

        Raises:
            StateError: ``finish`` was called.
            InvalidInputError: The chunk is no bytes.
            InvalidFileError: A configured pattern took too long (``pattern_too_slow``); the stream takes no more.
        """
        if self._is_finished:
            raise StateError("the stream is finished", subject=self._name)
        rest = _view(chunk)
        while rest.nbytes:
            end = self._core + BLOCK_BYTES + OVERLAP_BYTES
            taken = rest[: end - len(self._buffer)]
            rest = rest[taken.nbytes :]
            self._buffer = b"".join((self._buffer, taken))
            # Just a block and what it must see behind it, so that nothing is copied again.
            if len(self._buffer) == end:
                self._search(self._core + BLOCK_BYTES)
                self._forget()

    def finish(self) -> list[Finding]:
        """Return the findings of the whole artifact, without waived ones, in file order; see `finish_waived`."""
        return self.finish_waived()[0]

    def finish_waived(self) -> tuple[list[Finding], list[Waiver]]:
        """Return the findings of the whole artifact and the waivers that were used.

        Raises:
            StateError: It was called before.
            InvalidFileError: A configured pattern took too long (``pattern_too_slow``).
        """
        if self._is_finished:
            raise StateError("the stream is finished", subject=self._name)
        self._is_finished = True
        self._search(len(self._buffer))
        self._buffer = b""
        places = {hit: (line, column) for hit, line, column in self._hits}
        located: list[tuple[Finding, str]] = []
        name = self._scanner.shown_name(self._name) if places else self._name
        for hit in without_overlaps(list(places)):
            line, column = places[hit]
            located.append(
                (Finding(name, line, column, hit.rule, hit.description, hit.fingerprint), hit.mark)
            )
        self._hits.clear()
        return self._scanner.sort_out(located)

    def _search(self, core_end: int) -> None:
        data = self._buffer[: core_end + OVERLAP_BYTES]
        hits = self._scanner.search(Block(data, self._base, self._core, core_end), self._name)
        at, line, line_start = 0, self._newline_count + 1, self._line_start
        for hit in sorted(hits):
            start = hit.start - self._base
            line += data.count(b"\n", at, start)
            newline = data.rfind(b"\n", at, start)
            line_start = self._base + newline + 1 if newline >= 0 else line_start
            at = start
            # In UTF-16 a line break takes two bytes, or the line's first byte is the zero of its first
            # character.
            is_shifted = hit.wide and line_start > 0
            self._hits.append((hit, line, hit.start - line_start + 1 - is_shifted))
        self._core = core_end

    def _forget(self) -> None:
        cut = max(0, self._core - OVERLAP_BYTES) // (2 * CELL_BYTES) * (2 * CELL_BYTES)
        newline = self._buffer.rfind(b"\n", 0, cut)
        if newline >= 0:
            self._line_start = self._base + newline + 1
        self._newline_count += self._buffer.count(b"\n", 0, cut)
        self._buffer = self._buffer[cut:]
        self._base += cut
        self._core -= cut


def _view(data: object) -> memoryview:
    """Return bytes to look at, one by one and without a copy.

    Raises:
        InvalidInputError: It is something else, such as text, of which nobody says how it is encoded.
    """
    try:
        return memoryview(data).cast("B")  # type: ignore[arg-type]  # what is none is told below
    except TypeError:
        raise InvalidInputError(f"data must be bytes, not {type(data).__name__}", subject="data") from None


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidInputError(f"name must be text, not {type(name).__name__}", subject="name")


def _checked_rules(rules: object, what: str) -> frozenset[str]:
    """Return rule ids; a text alone would be taken letter by letter."""
    is_list = isinstance(rules, Collection) and not isinstance(rules, str)
    items = list(cast("Collection[object]", rules)) if is_list else [None]
    ids = frozenset(item for item in items if isinstance(item, str))
    if not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{what} must be a list of rule ids", subject=what)
    return ids


def _checked_path_rules(rules: object) -> dict[str, frozenset[str]]:
    checked: dict[str, frozenset[str]] = {}
    given = cast("Mapping[object, object]", rules if isinstance(rules, Mapping) else {None: ()})
    for glob, ids in given.items():
        if not isinstance(glob, str):
            raise ConfigError(
                "path_rules must be a mapping of name patterns to lists of rule ids", subject="path_rules"
            )
        checked[glob] = _checked_rules(ids, "path_rules")
    return checked


def rule_ids() -> frozenset[str]:
    """Return the ids of all built-in rules, as they appear in findings."""
    return frozenset(rule.id for rule in RULES if rule.check not in {"assignment", "table", "insert"}) | {
        rule for rule, _ in KIND_RULES.values()
    }


def read_ignored(items: Collection[str]) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Return the rules that are off everywhere, and those that are off by name pattern; see ``secret_ignore``.

    Raises:
        ConfigError: An item has neither form.
    """
    everywhere: set[str] = set()
    by_path: dict[str, frozenset[str]] = {}
    for item in items:
        glob, colon, listed = item.partition(":")
        rules = frozenset(filter(None, (part.strip() for part in (listed if colon else glob).split(","))))
        if not rules or (colon and not glob.strip()) or (not colon and _ALL_RULES in rules):
            raise ConfigError(
                f"secret_ignore: {item!r} is neither 'RULE' nor 'GLOB: RULE, RULE'", subject="secret_ignore"
            )
        if colon:
            by_path[glob.strip()] = by_path.get(glob.strip(), frozenset()) | rules
        else:
            everywhere |= rules
    return frozenset(everywhere), by_path


def _choose_engine(engine: str) -> str:
    if engine not in ("auto", "hyperscan", "python"):  # a list in a set is an error
        raise ConfigError(f"unknown scan engine {engine!r}: auto, hyperscan or python", subject="engine")
    is_installed = importlib.util.find_spec("hyperscan") is not None
    if engine == "hyperscan" and not is_installed:
        raise ConfigError(
            "the hyperscan package is not installed", subject="engine", hint="use engine='auto'"
        )
    return "hyperscan" if engine != "python" and is_installed else "python"
