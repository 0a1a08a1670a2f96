"""The mutants mutmut makes of a module, with what each one changes, and the rules that leave some of them out.

mutmut writes all mutants of a function beside its original into one file, and chooses one at run time. Here the same
file is made in memory: for the names to draw from, for the lines that differ, and for the rules.

A rule leaves out what cannot be told apart by a test that is worth having. It looks at the place of the change, never
at whether a test notices it, and holds for every module alike:

- the text of an error (the first argument of an exception's construction when it is a literal, and its `hint`):
  tests pin the type, the kind and the fields, wording is free to improve;
- the type named in `typing.cast`, which does nothing at run time;
- the case of letters in the name of a text encoding, which Python ignores.

Annotations, docstrings, decorators and decorated functions (properties, context managers) are left out by mutmut
itself, and so is everything outside functions.
"""

import ast
import functools
import textwrap
from dataclasses import dataclass
from pathlib import Path

ENCODINGS = frozenset({"utf-8", "ascii"})
TEXT_KEYWORDS = frozenset({"hint", "message"})


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        name: What mutmut calls it; the number at its end counts within the function.
        module: Path of the module below the project folder.
        function: Name of the function or method, dotted.
        original: The text of the whole function.
        changed: The text of the mutant.
        rule: Name of the rule that leaves it out, or "".
    """

    name: str
    module: str
    function: str
    original: str
    changed: str
    rule: str

    @property
    def was(self) -> str:
        """The lines of the original that differ, joined."""
        return self._difference[0]

    @property
    def becomes(self) -> str:
        """The same lines of the mutant."""
        return self._difference[1]

    @functools.cached_property
    def _difference(self) -> tuple[str, str]:
        return _difference(_parsed(self.original), _parsed(self.changed))


def mutants_of(module: str, root: Path) -> list[Mutant]:
    """Every mutant of a module, in mutmut's order; those that a rule leaves out are marked, not missing."""
    from mutmut.mutation.file_mutation import mutate_file_contents  # its group is not installed everywhere

    source = (root / module).read_text()
    mutated = mutate_file_contents(module, source)
    lines = mutated.code.splitlines(keepends=True)
    texts = {
        name: "".join(lines[span.start - 1 : span.end])
        for name, span in mutated.line_span_by_function_name.items()
    }
    originals = {name: _parsed(text) for name, text in texts.items() if name.endswith("__mutmut_orig")}
    dotted = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    mutants = []
    for name in mutated.mutant_names:
        stem = name.rpartition("__mutmut_")[0]
        original = f"{stem}__mutmut_orig"
        function = stem.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        rule = _rule(originals[original], _parsed(texts[name]))
        mutants.append(Mutant(f"{dotted}.{name}", module, function, texts[original], texts[name], rule))
    return mutants


def _parsed(text: str) -> ast.FunctionDef:
    """One function alone, whatever its indentation, under a name that all mutants of it share."""
    text = textwrap.dedent(text)
    (function,) = ast.parse(text).body
    function.name = "f"
    return function


def _difference(original: ast.AST, changed: ast.AST) -> tuple[str, str]:
    """The lines that differ, in the form `ast.unparse` gives them, so that layout plays no part."""
    before, after = ast.unparse(original).splitlines(), ast.unparse(changed).splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))


def _rule(original: ast.AST, changed: ast.AST) -> str:
    path = _path_to_difference(original, changed)
    for (node, field, _), (below, _, _) in zip(path, [*path[1:], (None, "", None)], strict=True):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "cast" and field == "args" and below is node.args[0]:
            return "type of a cast"
        if called.endswith("Error") and _is_text_of_error(node, field, below, path[-1]):
            return "text of an error"
        if called in {"encode", "decode", "open", "fdopen", "read_text", "write_text"} and _is_encoding(
            path[-1]
        ):
            return "case of an encoding"
    return ""


def _is_text_of_error(
    call: ast.Call, field: str, below: ast.AST | None, end: tuple[ast.AST, str, object]
) -> bool:
    if field == "keywords" and isinstance(below, ast.keyword):
        return below.arg in TEXT_KEYWORDS
    if field == "keywords" and isinstance(end[2], ast.Call):  # a keyword was dropped
        kept = {keyword.arg for keyword in end[2].keywords}
        return {keyword.arg for keyword in call.keywords} - kept <= TEXT_KEYWORDS
    if field != "args" or not call.args or not isinstance(call.args[0], ast.Constant | ast.JoinedStr):
        return False
    if below is not None:
        return below is call.args[0]
    return isinstance(end[2], ast.Call) and len(end[2].args) < len(call.args) == 1  # the text was dropped


def _is_encoding(end: tuple[ast.AST, str, object]) -> bool:
    node, _, other = end
    return (
        isinstance(node, ast.Constant)
        and node.value in ENCODINGS
        and isinstance(other, ast.Constant)
        and isinstance(other.value, str)
        and other.value.lower() == node.value
    )


def _path_to_difference(original: ast.AST, changed: ast.AST) -> list[tuple[ast.AST, str, object]]:
    """Nodes from the function down to the smallest one that holds the change, each with the field that leads on.

    The third part is the node of the mutant in the same place. Empty when the two are alike.
    """
    if type(original) is not type(changed):
        return [(original, "", changed)]
    for field in original._fields:
        before, after = getattr(original, field, None), getattr(changed, field, None)
        if isinstance(before, list):
            if len(before) != len(after):
                return [(original, field, changed)]
            for below, other in zip(before, after, strict=True):
                path = _path_below(below, other)
                if path is not None:
                    return [(original, field, changed), *path]
        else:
            path = _path_below(before, after)
            if path is not None:
                return [(original, field if path or before is None else "", changed), *path]
    return []


def _path_below(before: object, after: object) -> list[tuple[ast.AST, str, object]] | None:
    """The path on from a field's value; empty when the field itself is what differs, None when nothing does."""
    if isinstance(before, ast.AST) and isinstance(after, ast.AST):
        return _path_to_difference(before, after) or None
    if isinstance(before, ast.AST):
        return [(before, "", after)]
    same = type(before) is type(after) and before == after
    return None if same else []
