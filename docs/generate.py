"""Writes the parts of the documentation that follow from the code: `python docs/generate.py [--check]`.

A page holds each such part between two comments that name it. Invariant: what stands there is exactly what the code
says; the rest of a page is not touched. ``--check`` writes nothing, and names the pages that are behind or that the
index does not list.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from cas import errors
from cas.config import ArtifactStoreConfig
from cli import failures, settings, topics
from cli.app import VERBS, root_command
from cli.switches import SWITCH_NAMES
from cli.verbs import load_verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGES: Final = Path(__file__).parent
# Modules whose ``__all__`` is the public interface, and the line that introduces each.
PUBLIC_MODULES: Final = {
    "cas": "The store, its configuration and its errors.",
    "gitexport": "From the store into git.",
    "cas.events": "Events of an orchestrator; the Redis buses are `cas.events.pubsub.RedisBus` and "
    "`cas.events.streams.RedisStreamsBus`.",
    "cas.testing": "The test kit, explained in [testing.md](testing.md).",
}
# What calls return, and is not made by users.
RETURNED: Final = {
    "cas.artifactwriter": "ArtifactWriter",
    "cas.check": "Report",
    "cas.heal": "Healing",
    "cas.rescan": "RescanReport",
}
_PART: Final = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHORT_FLAGS: Final = {"repo_path": "`--repo`", "store_path": "`--store`"}
_SECTIONS: Final = "Args|Attributes|Returns|Raises|Yields"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table; a bar inside a cell is escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |\n"
        for line in lines
    )


def settings_table() -> str:
    """Return every key of the configuration."""
    types, descriptions = settings.field_types(), settings.field_descriptions()
    rows: list[tuple[str, ...]] = []
    for field in dataclasses.fields(ArtifactStoreConfig):
        key, default = field.name, topics.defaults()[field.name]
        rows.append(
            (
                f"`{key}`",
                _type_text(types[key]),
                f"`{default}`" if default else "none",
                f"`{settings.ENVIRONMENT_PREFIX}{key.upper()}`",
                _SHORT_FLAGS.get(key, f"`-o {key}=…`"),
                descriptions[key],
            )
        )
    return table(("key", "type", "default", "variable", "flag", "meaning"), rows)


def _type_text(kind: object) -> str:
    text = str(kind)
    if "Literal" in text:
        return "one of " + ", ".join(re.findall(r"'(\w+)'", text))
    for mark, name in (
        ("Path", "path"),
        ("tuple", "list of texts"),
        ("bool", "true or false"),
        ("int", "whole number"),
    ):
        if mark in text:
            return name
    return "number" if "float" in text else "text"


def exit_codes_table() -> str:
    """Return every exit code."""
    return table(
        ("code", "name", "meaning"),
        [(str(row.code), f"`{row.name}`", row.meaning) for row in failures.EXIT_CODES],
    )


def commands_text() -> str:
    """Return every command with its arguments and options."""
    parts = ["### Options of every command\n\n" + _parameters_table(root_command(), switches=True)]
    parts.append("### `cas`\n\n" + _command_text(root_command(), "cas"))
    for name in VERBS:
        command = load_verb(name)
        parts.append(f"### `cas {name}`\n\n" + _command_text(command, f"cas {name}"))
        for inner, further in getattr(command, "commands", {}).items():
            parts.append(f"#### `cas {name} {inner}`\n\n" + _command_text(further, f"cas {name} {inner}"))
    return "\n".join(parts)


def _command_text(command: Any, path: str) -> str:  # noqa: ANN401  typer's own types are private
    usage = " ".join([path, *command.collect_usage_pieces(_context(command))])
    text = f"`{usage}`\n\n{inspect.cleandoc(command.help or '').strip()}\n\n"
    return text + _parameters_table(command, switches=False)


def _context(command: Any) -> Any:  # noqa: ANN401
    return command.context_class(command, info_name=command.name, **command.context_settings)


def _parameters_table(command: Any, *, switches: bool) -> str:  # noqa: ANN401
    rows: list[tuple[str, ...]] = []
    context = _context(command)
    for param in command.get_params(context):
        if (param.name in SWITCH_NAMES or param.name == "help") is not switches or getattr(
            param, "hidden", False
        ):
            continue
        if param.param_type_name == "argument":
            name, text = str(param.metavar or param.name).strip("[]"), str(param.help)
        else:
            name, text = param.get_help_record(context)
        rows.append((f"`{name}`", re.sub(r"\s+", " ", text)))
    return table(("option or argument", "meaning"), rows) if rows else ""


def metrics_table() -> str:
    """Return every metric of ``cas metrics``."""
    import tempfile

    from cas import ArtifactStore
    from cas.exposition import new_registry

    with tempfile.TemporaryDirectory() as folder:
        config = ArtifactStoreConfig(repo_path=Path(folder), scan_for_secrets=False)
        with ArtifactStore(config) as store:
            # One run, as a figure that has no value yet is left out.
            store.commit_artifacts("wf", "task", {"a.csv": b"1\n"}, correlation_id="a")
            families = list(new_registry(store.environment, store.now_us).collect())
    rows = [
        (
            f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
            family.type,
            _labels(family),
            family.documentation,
        )
        for family in families
    ]
    known = {row[0].strip("`") for row in rows}
    rows += [
        (f"`cas_{name}`", "gauge", "", text)
        for name, text in _later_gauges().items()
        if f"cas_{name}" not in known
    ]
    return table(("metric", "type", "labels", "meaning"), sorted(rows))


def _later_gauges() -> dict[str, str]:
    """Return the gauges that appear once there is something to measure."""
    from cas.exposition import GAUGES, TIMES

    times = {f"{name}_timestamp_seconds": f"When the {name.replace('_', ' ')} was" for name in TIMES}
    return {name: text for name, (_, text) in GAUGES.items()} | times


def _labels(family: Any) -> str:  # noqa: ANN401
    keys = {key: None for sample in family.samples for key in sample.labels}
    return ", ".join(f"`{key}`" for key in keys)


def errors_table() -> str:
    """Return every error class."""
    rows: list[tuple[str, ...]] = []
    for name in errors.__all__:
        each = getattr(errors, name)
        made = each(()) if issubclass(each, errors.SecretDetectedError) else each("text")
        meaning = _plain((inspect.getdoc(each) or "").partition("\n\n")[0]).strip()
        base = "" if each is errors.ArtifactStoreError else f"`{each.__mro__[1].__name__}`"
        again = "yes" if each.retryable else ""
        rows.append((f"`{name}`", base, f"`{each.kind}`", again, str(failures.exit_code(made)), meaning))
    return table(("error", "is a", "kind", "retryable", "exit code", "meaning"), rows)


def api_text() -> str:
    """Return every public name with its signature and documentation."""
    parts: list[str] = []
    for module_name, intro in PUBLIC_MODULES.items():
        module = importlib.import_module(module_name)
        parts.append(f"## `{module_name}`\n\n{intro}\n")
        parts.extend(
            _name_text(module_name, name, getattr(module, name))
            for name in module.__all__
            if name not in errors.__all__
        )
    parts.append("## Returned objects\n\nWhat some calls return; they are not made by users.\n")
    parts.extend(
        _name_text(module_name, name, getattr(importlib.import_module(module_name), name))
        for module_name, name in RETURNED.items()
    )
    return "\n".join(parts)


def _name_text(module_name: str, name: str, thing: object) -> str:
    title = f"### `{module_name}.{name}`\n\n"
    if not isinstance(thing, type) and not inspect.isroutine(thing):
        return title + f"{_constant_text(name, thing)}\n"
    text = title + _callable_text(name, thing)
    if isinstance(thing, type) and not issubclass(thing, BaseException):
        for member, value in _public_members(thing):
            text += f"\n#### `{name}.{member}`\n\n" + _callable_text(member, value)
    return text


def _constant_text(name: str, thing: object) -> str:
    if name == "__version__":
        return "The version of the distribution."
    return f"`{thing}`".replace("collections.abc.", "").replace("cas.events.event.", "")


def _public_members(thing: type) -> Iterator[tuple[str, object]]:
    """Yield the methods and properties that have documentation of their own, by name."""
    for member, value in inspect.getmembers(thing):
        own = any(
            member in vars(base) for base in thing.__mro__ if base.__module__.startswith(("cas", "gitexport"))
        )
        described = inspect.getdoc(value.fget if isinstance(value, property) else value)
        is_code = isinstance(value, property) or inspect.isroutine(value)
        if not member.startswith("_") and own and is_code and described:
            yield member, value


def _callable_text(name: str, thing: Any) -> str:  # noqa: ANN401
    documentation = _documentation(inspect.getdoc(thing.fget if isinstance(thing, property) else thing) or "")
    if isinstance(thing, property) or getattr(thing, "_is_protocol", False):
        return documentation
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return documentation
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        return documentation + "\n" + "".join(f"- `{each.name}`: `{each.value}`\n" for each in thing)
    return f"`{name}{_signature(thing)}`\n\n{documentation}"


class _AsWritten:
    """An annotation that is shown as it stands in the source."""

    def __init__(self, annotation: object) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text.strip('"').replace("typing.", "")


def _signature(thing: Any) -> str:  # noqa: ANN401
    signature = inspect.signature(thing)
    empty = inspect.Parameter.empty
    shown = [
        each if each.annotation is empty else each.replace(annotation=_AsWritten(each.annotation))
        for each in signature.parameters.values()
        if each.name != "self"
    ]
    returned = signature.return_annotation
    nothing = returned in {empty, None, "None"}
    signature = signature.replace(
        parameters=shown, return_annotation=empty if nothing else _AsWritten(returned)
    )
    return re.sub(r"= <.+? at 0x[0-9a-f]+>|= <[^<>]+>", "= …", str(signature))


def _documentation(text: str) -> str:
    """Return a docstring in Markdown: its sections become lists."""
    pieces = re.split(rf"^({_SECTIONS}):\n", text, flags=re.MULTILINE)
    shown = _plain(pieces[0])
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        inner, _, after = textwrap.dedent(body).partition("\n\n")
        if title in {"Returns", "Yields"}:
            inner = re.sub(r"\s+", " ", inner)
        items = re.split(r"\n(?=\S)", inner.strip())
        named = [re.sub(r"^(\*{0,2}[\w.]+):", r"`\1`:", re.sub(r"\s+", " ", item)) for item in items]
        shown += f"\n{title}:\n\n" + "".join(f"- {_plain(item).strip()}\n" for item in named)
        shown += f"\n{_plain(after)}" if after.strip() else ""
    return shown


def _plain(text: str) -> str:
    return text.replace("``", "`").strip() + "\n"


def modules_text() -> str:
    """Return every module with the first sentence of its documentation, a table for each folder."""
    folders: dict[Path, list[tuple[str, ...]]] = {}
    for package in ("cas", "gitexport", "cli"):
        for path in sorted((PAGES.parent / package).rglob("*.py")):
            told = ast.get_docstring(ast.parse(path.read_text())) or ""
            meaning = re.sub(r"\s+", " ", _plain(told.partition("\n\n")[0])).strip()
            folder = path.parent.relative_to(PAGES.parent)
            folders.setdefault(folder, []).append((f"`{path.name}`", meaning))
    return "\n".join(
        f"### `{folder}/`\n\n" + table(("module", "what it is for"), folders[folder])
        for folder in sorted(folders)
    )


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_table,
    "exit-codes": exit_codes_table,
    "commands": commands_text,
    "metrics": metrics_table,
    "errors": errors_table,
    "api": api_text,
    "modules": modules_text,
}


def renewed(text: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    return _PART.sub(lambda found: f"{found[1]}\n{_escaped(PARTS[found[2]]()).strip()}\n\n{found[3]}", text)


def _escaped(text: str) -> str:
    """Keep what stands in angle brackets from being taken for HTML, outside of code."""
    pieces = re.split(r"(`[^`\n]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"<(?=\w)", r"\<", piece) for piece in pieces)


def unlisted() -> list[Path]:
    """Return the pages that the index does not list."""
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (PAGES / "README.md").read_text())
    return [page for page in sorted(PAGES.glob("*.md")) if page.name not in {*listed, "README.md"}]


def main() -> int:
    """Write the pages, or with ``--check`` only tell what is amiss."""
    behind = [page for page in sorted(PAGES.glob("*.md")) if renewed(page.read_text()) != page.read_text()]
    if "--check" in sys.argv[1:]:
        for page in behind:
            print(f"{page.relative_to(PAGES.parent)} is behind the code: run `make docs`")
        for page in unlisted():
            print(f"{page.relative_to(PAGES.parent)} is not listed in docs/README.md")
        return 1 if behind or unlisted() else 0
    for page in behind:
        page.write_text(renewed(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
