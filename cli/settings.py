"""Settings: flag > environment > file > default, each value with its origin; the only reader of environment and TOML.

Every field of `ArtifactStoreConfig` can be set in four places: a flag (``-o key=value``, ``--repo``, ``--store``), a
variable ``CAS_<KEY>``, ``cas.toml`` or ``[tool.cas]`` of ``pyproject.toml`` in the nearest folder upward, and the
default. Invariant: an unknown key is an error that names near matches; a relative path counts from where it was
written. Nothing is written.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cas.config import ArtifactStoreConfig

FILE_NAME: Final = "cas.toml"
PROJECT_FILE_NAME: Final = "pyproject.toml"
STORE_NAME: Final = ".cas"
ENVIRONMENT_PREFIX: Final = "CAS_"
CONFIG_VARIABLE: Final = "CAS_CONFIG"
# A file is searched for in the folders above, where others may be able to write: /tmp is above many a project.
_PROGRAM_KEYS: Final = frozenset({"git_ssh_command", "git_credential_helper", "on_exported_command"})
_COMMA_LISTS: Final = frozenset({"indexed_metrics"})  # names without commas; a pattern may well hold one
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_SIZE: Final = re.compile(r"(\d+)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_SIZE_STEPS: Final = {"K": 1, "M": 2, "G": 3, "T": 4}
_BITS_PER_STEP: Final = 10  # 1024 times


class Setting(NamedTuple):
    """One value, and where it comes from: ``default``, a file, a variable or a flag."""

    key: str
    value: object
    origin: str


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """All values of one call.

    Attributes:
        config: The checked configuration.
        settings: Every key with its value and origin, in the order of the configuration's fields.
        file: The configuration file that was read, if any.
    """

    config: ArtifactStoreConfig
    settings: tuple[Setting, ...]
    file: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class TerminalWishes:
    """What the environment says about the terminal; None leaves it to the terminal itself.

    Attributes:
        color: Whether to use colour.
        columns: Its width.
        is_dumb: It cannot move the cursor, so that nothing can be drawn over.
    """

    color: bool | None = None
    columns: int | None = None
    is_dumb: bool = False


class _Given(NamedTuple):
    """A value as written, where, and the folder that relative paths count from."""

    value: object
    origin: str
    folder: Path


def terminal_wishes(environ: Mapping[str, str] | None = None) -> TerminalWishes:
    """Return the wishes in NO_COLOR, CLICOLOR_FORCE, TERM and COLUMNS."""
    environ = os.environ if environ is None else environ
    color: bool | None = None
    is_dumb = environ.get("TERM") == "dumb"
    if environ.get("NO_COLOR") or is_dumb:
        color = False
    elif environ.get("CLICOLOR_FORCE", "0") not in {"", "0"}:
        color = True
    columns = environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else None
    return TerminalWishes(color, width, is_dumb)


def shows_traces(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether CAS_DEBUG asks for traces of unexpected errors."""
    return bool((os.environ if environ is None else environ).get("CAS_DEBUG"))


def has_screen(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether a browser would open a window here: on macOS, and elsewhere under X or Wayland."""
    environ = os.environ if environ is None else environ
    return sys.platform == "darwin" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


@functools.cache
def field_types() -> dict[str, object]:
    """Return every key with its type, in the order of the configuration's fields."""
    from cas.config import ArtifactStoreConfig

    hints = get_type_hints(ArtifactStoreConfig)
    return {field.name: hints[field.name] for field in dataclasses.fields(ArtifactStoreConfig)}


@functools.cache
def field_descriptions() -> dict[str, str]:
    """Return what each key means, as the configuration's own documentation says it."""
    from cas.config import ArtifactStoreConfig

    arguments = (inspect.getdoc(ArtifactStoreConfig) or "").partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", arguments, re.MULTILINE)
    return {key: re.sub(r"\s+", " ", text.replace("``", "")) for key, text in found}


def load(
    flags: Mapping[str, tuple[str, str]] | None = None,
    *,
    config_file: Path | None = None,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    search_upward: bool = True,
) -> Settings:
    """Return the settings of a call.

    Args:
        flags: Key to the value as written and the flag's own name.
        config_file: File to read instead of the nearest one.
        directory: Where the call is made; None means the current folder.
        environ: Variables; None means the process's own.
        search_upward: Look for a store in the folders above as well; False when one is to be made here.

    Raises:
        ConfigError: An unknown key, an unusable value, a file that is not TOML, or one of another user that was only
            found and names a program.
        NotFoundError: The present folder was removed.
    """
    environ = os.environ if environ is None else environ
    directory = directory or _present_folder()
    file, table = _read_file(config_file or _path_of(environ.get(CONFIG_VARIABLE)), directory)
    root = file.parent if file is not None else (_store_root(directory) if search_upward else directory)
    given: dict[str, _Given] = {}
    if file is not None:
        given |= {key: _Given(value, str(file), file.parent) for key, value in table.items()}
        _refuse_unknown(table, str(file))
    given |= _from_environment(environ, directory)
    for key, (text, flag) in (flags or {}).items():
        _refuse_unknown({key: text}, flag)
        given[key] = _Given(text, flag, directory)
    values = {key: _value(key, item) for key, item in given.items()}
    values.setdefault("repo_path", root)
    config = _build(values, given)
    listed = tuple(
        Setting(key, getattr(config, key), given[key].origin if key in given else "default")
        for key in field_types()
    )
    return Settings(config=config, settings=listed, file=file)


def _present_folder() -> Path:
    from cas.errors import NotFoundError

    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise NotFoundError("the present folder was removed", hint="Go to one that exists: cd /") from error


def _build(values: Mapping[str, object], given: Mapping[str, _Given]) -> ArtifactStoreConfig:
    from cas.config import ArtifactStoreConfig
    from cas.errors import ConfigError

    try:
        return ArtifactStoreConfig(**values)  # type: ignore[arg-type]  # checked by the class itself
    except ConfigError as error:
        source = given.get(error.subject or "")
        if source is None:
            raise
        hint = error.hint or f"It is set in {source.origin}; see `cas help config`."
        raise ConfigError(error.message, subject=error.subject, hint=hint) from error


def _path_of(text: str | None) -> Path | None:
    if not text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user; that no file has the plain name either is told later
        return Path(text)


def _read_file(given: Path | None, directory: Path) -> tuple[Path | None, dict[str, object]]:
    if given is not None:
        file = directory / given
        table = _table_of(file)
        return file, {} if table is None else table
    for folder in (directory, *directory.parents):
        for name in (FILE_NAME, PROJECT_FILE_NAME):
            file = folder / name
            if os.path.isfile(file):  # noqa: PTH113  a path's own method raises where one may not look
                table = _table_of(file)
                if table is not None:
                    _refuse_foreign(file, table)
                    return file, table
    return None, {}


def _refuse_foreign(file: Path, table: Mapping[str, object]) -> None:
    """Refuse a file that was only found, and by which another user would start programs as this one."""
    from cas.errors import ConfigError

    programs = sorted(_PROGRAM_KEYS & table.keys())
    if programs and file.stat().st_uid not in {os.geteuid(), 0}:
        raise ConfigError(
            f"{file} belongs to another user, and names a program to start ({', '.join(programs)})",
            subject=programs[0],
            hint=f"Read it; to trust it, name it: --config {file}, or CAS_CONFIG.",
        )


def _table_of(file: Path) -> dict[str, object] | None:
    """Return the keys of a file, or None when a project file has no table of ours."""
    import tomllib

    from cas.errors import ConfigError

    try:
        document: dict[str, object] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}",
            subject=str(file),
            hint="Name a file with --config, or leave it out.",
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}", subject=str(file)) from error
    if file.name != PROJECT_FILE_NAME:
        return document
    tool: object = document.get("tool", {})
    table: object = cast("dict[str, object]", tool).get("cas") if isinstance(tool, dict) else None
    return cast("dict[str, object]", table) if isinstance(table, dict) else None


def _store_root(directory: Path) -> Path:
    """Return the nearest folder upward that holds a store, else the folder itself."""
    for folder in (directory, *directory.parents):
        try:
            found = (folder / STORE_NAME / "data.mdb").is_file()
        except PermissionError:  # of another user; opening it says so
            found = True
        if found:
            return folder
    return directory


def _from_environment(environ: Mapping[str, str], directory: Path) -> dict[str, _Given]:
    """Return the keys set by variables; a misspelt one is an error, one of another program is not ours to judge."""
    known = {ENVIRONMENT_PREFIX + key.upper(): key for key in field_types()}
    found: dict[str, _Given] = {}
    for name, text in environ.items():
        if name in known:
            found[known[name]] = _Given(text, name, directory)
        elif name.startswith(ENVIRONMENT_PREFIX) and name not in {CONFIG_VARIABLE, "CAS_DEBUG"}:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.85)
            if near:
                _refuse_unknown({name.removeprefix(ENVIRONMENT_PREFIX).lower(): text}, name)
    return found


def _refuse_unknown(keys: Mapping[str, object], origin: str) -> None:
    from cas.errors import ConfigError

    for key in keys:
        if key not in field_types():
            near = difflib.get_close_matches(key.lower(), field_types(), 3)
            hint = f"Did you mean {', '.join(near)}? " if near else ""
            raise ConfigError(
                f"unknown setting {key!r} in {origin}",
                subject=key,
                hint=hint + "`cas help config` lists every setting.",
            )


def _value(key: str, given: _Given) -> object:
    """Return a value in its field's type; texts of flags and variables are read, values of TOML taken as they are."""
    kind = str(field_types()[key])
    value = given.value
    if "Path" in kind and isinstance(value, str):
        try:
            return given.folder / Path(value).expanduser() if value else None
        except RuntimeError as error:
            raise _refused(key, value, given.origin, "a path: its user is not known here") from error
    if not isinstance(value, str):
        return value
    if kind == str(bool):
        return _boolean(key, value, given.origin)
    if kind in {str(int), str(float)}:
        return _number(key, value, given.origin, whole=kind == str(int))
    if "tuple" in kind:
        return _list(key, value)
    return value


def _refused(key: str, value: str, origin: str, wanted: str) -> Exception:
    from cas.errors import ConfigError

    return ConfigError(
        f"{key}: {value!r} is not {wanted}",
        subject=key,
        hint=f"It is set in {origin}; see `cas help config`.",
    )


def _boolean(key: str, value: str, origin: str) -> bool:
    folded = value.strip().lower()
    if folded in _TRUE or folded in _FALSE:
        return folded in _TRUE
    raise _refused(key, value, origin, "true or false")


def _number(key: str, value: str, origin: str, *, whole: bool) -> float:
    size = _SIZE.fullmatch(value.strip())
    if whole and size is not None:
        return int(size[1]) << (_BITS_PER_STEP * _SIZE_STEPS[size[2].upper()])
    try:
        return int(value) if whole else float(value)
    except ValueError as error:
        raise _refused(key, value, origin, "a whole number" if whole else "a number") from error


def _list(key: str, value: str) -> list[object]:
    if value.lstrip().startswith("["):
        try:
            parsed: object = json.loads(value)
        except ValueError:
            parsed = None  # a pattern may begin with a bracket
        if isinstance(parsed, list):
            return cast("list[object]", parsed)
    parts = value.split(",") if key in _COMMA_LISTS else value.splitlines()
    return [part.strip() for part in parts if part.strip()]
