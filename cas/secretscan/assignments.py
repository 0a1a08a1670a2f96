"""Reads ``<name> <separator> <value>`` around a keyword and judges both.

Invariant: a pure function of the bytes around the keyword, so that every engine and every way of cutting a
file into blocks reads the same. Values are handed back as a span, never stored.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cas.secretrules import vocabulary as known
from cas.secretscan import values
from cas.secretscan.names import NameKind, judge_name, split_words

_NAME_BACK_BYTES: Final = 64
_NAME_TAIL: Final = re.compile(rb"[A-Za-z0-9_\-.]{0,40}")
_NAME_HEAD: Final = re.compile(
    rb"(?:(?:api|secret|access|private|auth|seed|recovery) )?[A-Za-z0-9_\-.$]*\Z", re.IGNORECASE
)
_WORD_BEFORE: Final = re.compile(rb"([A-Za-z][A-Za-z0-9]{2,20})(?:'s)? \Z")
# The call whose argument a name is.
_CALL_BEFORE: Final = re.compile(rb"([A-Za-z_][\w.]{0,63})\((?:[^()\n]{0,120}[,\s])?\Z")
# Beside "pass" alone: whose password it is, or of what.
_LOGIN: Final = re.compile(rb"\b(?:user(?:name)?|login|host|server)\b[\"']?\s{0,4}[:=]", re.IGNORECASE)
_LOGIN_NEAR_BYTES: Final = 160
_SEPARATOR: Final = re.compile(
    rb"(?:\[\d{0,4}\])?(?P<close>[\"'`\\\])}*]{0,8})(?:\s{0,3}\{\s{0,3}get;[^}\n]{0,40}\})?\s{0,16}"
    rb"(?P<sep>:=|=>|->|<-|:-|===?|!==?|\|\|=|\?\?=|\?=|\|\||\?\?|or\b|[:=,>(]|\{(?=[\"']))\*{0,2}\s{0,40}(?:\\\r?\n\s{0,40})?(?:[\[{(](?=[\s\"\'`\\])\s{0,16})?(?P<block>[>|][+-]?\s{1,40})?"
)
_NAME_VALUE: Final = re.compile(
    rb"(?:[\"'`\\]{0,4}[\s,;:={\[]{1,40}[\"'`\\]{0,4}(?:value|string|default|content)[\"'`\\]{0,4}\s{0,4}[:=>]\s{0,8}|"
    rb">\s{0,24}<(?:value|string|plaintext)>\s{0,8}|</(?:key|name|td|th|dt)>\s{0,24}<(?:string|value|td|dd)>\s{0,8})",
    re.IGNORECASE,
)
# The same with other settings of the same thing in between, none of which gives a name.
_NAME_LATER_VALUE: Final = re.compile(
    rb"[\"'](?:\s{0,3}\{|,|\s)(?P<between>[^(){}\[\]<>]{0,160}?)(?<![A-Za-z0-9_])(?:value|default)[\"']?\s{0,8}[:=]\s{0,8}",
    re.IGNORECASE,
)
_NAMES: Final = re.compile(rb"\b(?:name|key|id|variable|option)\b[\"']?\s{0,4}[:=]|\n\s*-\s", re.IGNORECASE)
_NAMED: Final = re.compile(rb"\b(?:name|key|id)\s{0,3}=\s{0,3}[\"']\Z", re.IGNORECASE)
_CHARACTER_DATA: Final = b"<![CDATA["
# What comes into force when a condition does not hold: ``key = env("X") if live else "..."``.
_ELSE: Final = re.compile(rb"\s{0,4}=[^\n]{1,160}?\selse\s{1,3}(?=[bruf]?[\"'])")
_CHAINED: Final = re.compile(rb"[A-Za-z_][\w.]{0,48}\s{0,3}=\s{0,3}(?=[bruf]{0,2}[\"'])")
_TARGETS: Final = re.compile(
    rb"\s*(?P<names>[\w.]{1,64}(?:\s{0,3},\s{0,3}[\w.]{1,64}){1,5})\s{0,3}=\s{0,3}(?=[bruf]{0,2}[\"'])"
)
_ONE_OF_SEVERAL: Final = re.compile(
    rb"\s{0,3}(?:[bruf]{0,2}(?P<quote>[\"'])(?P<v>[^\"'\n]{0,512})(?P=quote)|[^,\"'\n]{1,128})\s{0,3}(?:,|\Z|(?=[;#\r\n]))"
)
# A name in one cell of a row, its value in the next.
_CELL: Final = re.compile(rb"[*` ]{0,4}\|[*` ]{0,4}(?=[^\s|])")
_ROW: Final = re.compile(rb"(?:\A|\n)[ \t]*\|[^\n]*\Z")
_NODE: Final = re.compile(rb"(?:(?:&[\w-]{1,32}|!!?str|!!binary)\s{1,4}){1,2}")
_BRACKETED: Final = re.compile(
    rb"(?:\[(?P<a>[^\s\[\]\"'<>,]{16,512})\]|<(?P<b>[^\s\[\]\"'<>,]{16,512})>)(?![\w\[(])"
)
_COMPARED: Final = re.compile(
    rb"(?:compare_digest|timingSafeEqual|constant_?time_?compare|secure_?compare)\(\s{0,8}[\w.]{0,64}\Z",
    re.IGNORECASE,
)
# No expression of a language has such a sign between letters and digits.
_UNLIKE_CODE: Final = re.compile(rb"[A-Za-z0-9]\w*(?:(?:[#@^~!](?!=)|\$(?=\d))[\w*]*){1,4}(?<![A-Za-z]!)")
_SAID: Final = re.compile(
    rb"\s{1,3}(?:(?:is|was)(?:\s(?:now|still|(?:re)?set\sto|changed\sto))?\s{0,2}[:=]?\s{1,3}|(?=`))",
    re.IGNORECASE,
)
# A word with a digit in it right behind the name: "using api key X1..."; as in the guard.
_PLAIN: Final = re.compile(rb"[ \t]{1,3}[\[(]?(?=[^\s0-9]{0,24}[0-9])")
# Words between the name and a colon: "old token, still works: X1...".
_LABEL: Final = re.compile(rb"[ ,][a-zA-Z ,()'-]{0,32}:[ \t]{1,3}(?=\S)")
# A heading, and the value alone on the line below.
_BELOW: Final = re.compile(rb"[*: \t]{0,4}\r?\n[ \t]{0,8}(?=[^\s\"'`]{16,128}[ \t]{0,8}(?:\r?\n|\Z))")
_HEADING: Final = re.compile(rb"(?:\A|\n)[ \t#*>-]{0,8}\Z")
# Pickle, MessagePack, BSON: what stands between a name and its string.
_PACKED: Final = re.compile(
    rb"(?:\x94\x8c[\s\S]|\x94X[\s\S]{4}|\xd9[\s\S]|\xda[\s\S]{2}|[\xa0-\xbf]|\x00[\s\S]\x00{3})(?=[!-~]{16})"
)
_PACKED_VALUE: Final = re.compile(rb"[!-~]{16,512}")
_PAIR_LEAD: Final = re.compile(rb"[A-Za-z_][\w.-]{0,24}[=:]")
_DIGEST_LEAD: Final = re.compile(rb"(?:checksum|hash|digest|sha\d{1,3})/\Z", re.IGNORECASE)
_OPTION: Final = re.compile(rb"(?:\s{1,3}|[\"']?\s{0,2}\r?\n\s{0,24}-\s{1,3})(?![-=\s])")
_ANNOTATION: Final = re.compile(
    rb"[A-Za-z_&][A-Za-z0-9_\[\]., |\"'<>&?]{0,48}?=(?!=)(?:[ \t]{0,16}(?=\S)|\s{0,16}(?=[\"'(\\]))"
)
_WRAPPER: Final = re.compile(
    rb"(?:[A-Za-z_]\w{0,24}\.){0,3}(?:SecretStr|SecretBytes|SecureString|Secret|Some|Ok|String::from|str|String|bytes|bytearray|b64decode|fromhex)"
    rb"\(\s{0,8}|(?:[A-Za-z_]\w{0,24}\.){0,3}[A-Za-z_]\w{0,32}\((?:[^()\n\"']{0,120}[,\s])?(?:default|value|default_value)\s{0,3}=\s{0,3}"
    rb"|(?:[A-Za-z_]\w{0,24}\.){0,2}(?:Field|Option|Argument|Param|Query|Header|Cookie|Form|Depends|default|lazy)\(\s{0,8}"
    rb"|lambda\s{0,3}:\s{0,3}|ConvertTo-SecureString\s{1,3}(?:-String\s{1,3})?"
)
_QUOTE: Final = re.compile(rb"[bBrRuUfF@$]{0,2}(?P<quote>\\{0,7}(?:\"\"\"|'''|[\"'`]))")
_BODIES: Final = {
    quote: re.compile(rb"(?:[^" + quote + rb"\\\r\n]|\\[^\r\n]){0,2048}") for quote in (b'"', b"'", b"`")
}
_BARE: Final = re.compile(rb"[^\s\"'`\\<>\x00-\x1f\x7f]{1,512}")
_NEXT_PAIR: Final = re.compile(rb"[&,;][A-Za-z_][\w.\[\]-]{0,40}=")
_CLOSING: Final = {b")": b"(", b"]": b"[", b"}": b"{"}
_COMMENT: Final = re.compile(rb"#|//|/\*|^\s*\*|--\s|<!--|\brem\b", re.IGNORECASE)
_DEFAULT_CALL: Final = re.compile(
    rb"(?:environ\.get|getenv|setdefault|putenv|setenv|env(?:\.\w+)?|\.get|\.set|config|\.header|\.add|environmentvariable|property|\.put|define)\(\s*$",
    re.IGNORECASE,
)
_WHOLE_LINE: Final = re.compile(
    rb"\s*(?:export\s+|set\s+|setx\s+|ENV\s+|ARG\s+|-\s+|\$env:|\$)?[\w.\-\"']*\Z"
)
_MAX_VALUE_BYTES: Final = 2048
_MIN_VALUE_CHARS: Final = 6  # as the guard's value
_SAID_CHARS: Final = 10
_LINE_OF_BASE64_CHARS: Final = 32  # a word turns up in one by chance
_UNMISTAKABLE_CHARS: Final = 16  # of random text, where the name or the place leaves a doubt
_PLAIN_SEPARATORS: Final = frozenset(
    (b"=", b":", b":=", b"=>", b"->", b"<-", b":-", b">", b"||=", b"??=", b"?=", b"{")
)
_MAX_WRAPPERS: Final = 3
_NEAR_BYTES: Final = 400
_LONG_SERVICES: Final = tuple(sorted(word.encode() for word in known.SERVICES if len(word) > 4))  # noqa: PLR2004


class Assigned(NamedTuple):
    """A credential and the name it was given."""

    kind: NameKind
    start: int
    end: int


_BARE_KEY: Final = NameKind("bare-key", sure=True, trading=True)
_SERVICE_KEY: Final = NameKind("key", sure=True, trading=True)


class _Value(NamedTuple):
    start: int
    end: int
    quoted: bool


def read_assignment(text: bytes, at: int, place: str, *, option: bool = False) -> Assigned | None:
    """Return the credential assigned to the name around ``at``, if there is one.

    Args:
        text: Bytes around the keyword: the window.
        at: Where the keyword begins.
        place: ``code``, ``config`` or ``text``; in code a bare value is an expression.
        option: Read ``--name value`` instead of ``name = value``.
    """
    head = _NAME_HEAD.search(text, max(0, at - _NAME_BACK_BYTES), at)
    start = head.start() if head else at
    if start < at and text[start - 1 : start] == b"\\" and text[start : start + 1] in b"nrt":
        start += 1  # the escaped line break before a header
    tail = _NAME_TAIL.match(text, at)
    end = tail.end() if tail else at
    name = text[start:end].rstrip(b"-.").decode()
    kind = judge_name(name.replace(" ", "_"))
    if kind is None and name.lower() in {"key", "keys"}:
        kind = _key_alone(text, start)
    elif kind is not None and kind.kind == "pass" and _is_beside_login(text, start, end):
        kind = kind._replace(kind="password")
    if len(name) >= _LINE_OF_BASE64_CHARS and values.is_random(name):
        return None
    if kind is None or _DIGEST_LEAD.search(text, max(0, start - 16), start):
        return None
    end = start + len(name)
    if option:
        return _read_option(text, start, end, kind)
    if targets := _read_target(text, start, kind):
        return targets
    return _read_separated(text, start, end, kind, place) or _read_other(text, start, end, kind, place)


def _read_target(text: bytes, start: int, kind: NameKind) -> Assigned | None:
    """Return the credential that one of several targets gets: ``user, password = "desk", "..."``."""
    line = text.rfind(b"\n", 0, start) + 1
    targets = _TARGETS.match(text, line)
    if targets is None or not targets.start("names") <= start < targets.end("names"):
        return None
    here, at = text.count(b",", targets.start("names"), start), targets.end()
    end = text.find(b"\n", at)
    values_given: list[re.Match[bytes]] = []
    while len(values_given) <= here:
        found = _ONE_OF_SEVERAL.match(text, at, len(text) if end < 0 else end)
        if found is None:
            return None
        values_given.append(found)
        at = found.end()
    low, high = values_given[here].span("v")
    value = _Value(low, high, quoted=True) if low >= 0 else None
    return _judged(text, value, kind)


def _key_alone(text: bytes, at: int) -> NameKind | None:
    """Return what the word "key" alone means at a place: a service's key, one that might be, or nothing."""
    word = _WORD_BEFORE.search(text, max(0, at - 32), at)
    call = _CALL_BEFORE.search(text, max(0, at - 200), at)
    owner = word or call
    words = split_words(owner[1].decode()) if owner else []
    if not known.SERVICES.isdisjoint(words):
        return _SERVICE_KEY
    return _BARE_KEY if _is_near_service(text, at) else None


def _is_beside_login(text: bytes, start: int, end: int) -> bool:
    return (
        _LOGIN.search(text, max(0, start - _LOGIN_NEAR_BYTES), start) is not None
        or _LOGIN.search(text, end, end + _LOGIN_NEAR_BYTES) is not None
    )


def _is_near_service(text: bytes, at: int) -> bool:
    """Tell whether a broker, an exchange, a data service or a secret is spoken of around a place."""
    around = text[max(0, at - _NEAR_BYTES) : at + _NEAR_BYTES].lower()
    plain = around.translate(None, b"_- ")
    return any(word in plain for word in (b"secret", b"credential", b"apikey")) or any(
        service in plain for service in _LONG_SERVICES
    )


def accepts_cell(kind: NameKind, cell: bytes) -> bool:
    """Tell whether the cell of a table, under a column of this kind, holds a credential."""
    try:
        content = cell.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _accepts(kind, content, quoted=True)


def _read_option(text: bytes, start: int, end: int, kind: NameKind) -> Assigned | None:
    blank = _OPTION.match(text, end)
    if blank is None or text[start : start + 2] != b"--":
        return None
    value = _read_value(text, blank.end())
    return _judged(text, value, kind)


def _read_separated(  # noqa: PLR0911  # one way out for each reason that it is no assignment
    text: bytes, start: int, end: int, kind: NameKind, place: str
) -> Assigned | None:
    found = _SEPARATOR.match(text, end)
    if found is None:
        return None
    separator, close, at = found["sep"], found["close"].strip(b"\\"), found.end()
    if separator == b":" and not close and (annotation := _ANNOTATION.match(text, at)):
        at = annotation.end()
    at = _skip_wrappers(text, at, separator)
    if (
        separator == b">"
        and text[start - 1 : start] != b"<"
        and not _NAMED.search(text, max(0, start - 16), start)
    ):
        return None
    value = _read_value(text, at, stop=b"}" if separator == b":-" else b"")
    if value is None or not _may_be_meant(text, start, value, found):
        return None
    if b"\n" in text[end : value.start] and not value.quoted and not found["block"]:
        # A scalar of YAML may stand on the line below, further in.
        return (
            _judged(text, value, kind, weak=True)
            if place == "config" and _is_below(text, start, value)
            else None
        )
    is_row = separator == b"," and not close
    weak = separator not in _PLAIN_SEPARATORS and not is_row
    if weak and not value.quoted:
        return None
    line = text[max(0, start - 200) : start].rpartition(b"\n")[2]
    if separator == b"," and not _allows_comma(text, start, value, close, line):
        return None
    # Text of several lines may stand in code too.
    is_code = place == "code" and not (
        _is_told(line) or _UNLIKE_CODE.fullmatch(text, value.start, value.end) is not None
    )
    ends_line = text[value.end : value.end + 2].strip(b"\r")[:1] in {b"", b"\n"}
    whole_line = place == "config" and ends_line and _WHOLE_LINE.match(line) is not None
    weak = weak and not _is_default(text, start)
    return _judged(text, value, kind, is_code=is_code, weak=weak, whole_line=whole_line)


def _may_be_meant(text: bytes, start: int, value: _Value, found: re.Match[bytes]) -> bool:
    """Tell an element of XML that ends, and no comparison with the digest of the word that the name is."""
    separator = found["sep"]
    if separator == b">":
        return text[value.end : value.end + 2] in {b"</", b"]]"}
    is_over = separator not in _PLAIN_SEPARATORS and b")" in found["close"]
    is_digest = is_over and values.is_hex(text[value.start : value.end].decode("ascii", "replace"))
    return not is_digest or _is_default(text, start)


def _is_below(text: bytes, start: int, value: _Value) -> bool:
    """Tell whether a value stands alone on the line below its name, further in."""
    name_line, value_line = text.rfind(b"\n", 0, start) + 1, text.rfind(b"\n", 0, value.start) + 1
    begun = text[name_line:start]
    is_alone = (
        text[value.end : value.end + 2].strip(b"\r")[:1] in {b"", b"\n"}
        and not text[value_line : value.start].strip()
    )
    return is_alone and not begun.strip(b" -\"'") and value.start - value_line > start - name_line


def _skip_wrappers(text: bytes, at: int, separator: bytes) -> int:
    """Return where the value begins behind the calls, targets, anchors and tags around it."""
    if separator == b">" and text.startswith(_CHARACTER_DATA, at):
        return at + len(_CHARACTER_DATA)
    if separator == b":" and (node := _NODE.match(text, at)):
        at = node.end()
    if separator == b"=" and (chained := _CHAINED.match(text, at)):
        at = chained.end()
    for _ in range(_MAX_WRAPPERS):
        wrapper = _WRAPPER.match(text, at)
        if wrapper is None:
            break
        at = wrapper.end()
    return at


def _is_told(line: bytes) -> bool:
    """Tell whether what follows on a line of code lies in a comment or in a text."""
    return _COMMENT.search(line) is not None or _is_inside_string(line)


def _is_inside_string(line: bytes) -> bool:
    return any((line.count(quote) - line.count(b"\\" + quote)) % 2 for quote in (b'"', b"'", b"`"))


def _allows_comma(text: bytes, start: int, value: _Value, close: bytes, line: bytes) -> bool:
    """Tell a name and its value, in a call or alone in a row, from two names in a list."""
    if b")" in close:  # the call that the name was given to is over
        return False
    if not close and _COMPARED.search(text, max(0, start - 96), start):
        return True
    if not close:
        row_ends = text[value.end : value.end + 2].strip(b'\r"')[:1] in {b"", b"\n"}
        return not line.strip() and row_ends and b" " not in text[value.start : value.end]
    if text[start : start + 2] == b"--":
        return True
    return _is_default(text, start) or text[value.end + 1 : value.end + 2] in {b")", b"]", b"}"}


def _is_default(text: bytes, start: int) -> bool:
    return _DEFAULT_CALL.search(text[max(0, start - 40) : start].rstrip(b"\"'bru\\")) is not None


def _read_other(text: bytes, start: int, end: int, kind: NameKind, place: str) -> Assigned | None:
    if kind.kind in {"pass", "bare-key"}:
        return None
    line = text[max(0, start - 200) : start].rpartition(b"\n")[2]
    is_code = place == "code" and not _is_told(line)
    if packed := _PACKED.match(text, end):
        run = _PACKED_VALUE.match(text, packed.end())
        value = _Value(run.start(), run.end(), quoted=True) if run else None
        return _judged(text, value, kind, weak=True)
    for form in (_NAME_VALUE, _NAME_LATER_VALUE, _ELSE, _CELL, _SAID, _PLAIN, _LABEL, _BELOW):
        found = form.match(text, end)
        if found is not None:
            value = _read_value(text, _skip_wrappers(text, found.end(), b""))
            if value is None or not _suits(form, text, start, value, found, sure=kind.sure):
                return None
            return _judged(text, value, kind, is_code=is_code, weak=form not in _CERTAIN_FORMS)
    return _read_bracketed(text, end, kind)


def _read_bracketed(text: bytes, end: int, kind: NameKind) -> Assigned | None:
    """Return a credential between brackets, as logs write values: ``token=[...]``."""
    if text[end : end + 1] not in {b"=", b":"}:
        return None
    found = _BRACKETED.match(text, end + 1 + (text[end + 1 : end + 2] == b" "))
    if found is None:
        return None
    value = _Value(*found.span("a" if found["a"] else "b"), quoted=False)
    return _judged(text, value, kind, weak=True)


_CERTAIN_FORMS: Final = frozenset((_NAME_VALUE, _NAME_LATER_VALUE, _ELSE))


def _suits(
    form: re.Pattern[bytes], text: bytes, start: int, value: _Value, found: re.Match[bytes], *, sure: bool
) -> bool:
    """Tell whether a value that only stands near a name may be looked at."""
    content = text[value.start : value.end]
    if form is _NAME_LATER_VALUE:
        return _NAMES.search(found["between"]) is None
    if form is _CELL:
        return _ROW.search(text, max(0, start - 200), start) is not None
    if form is _PLAIN:  # "method=password session=..." names two other things
        return sure and text[start - 1 : start] not in {b"=", b":"} and _PAIR_LEAD.match(content) is None
    if form is _BELOW:
        return _HEADING.search(text, max(0, start - 16), start) is not None
    return form is not _LABEL or not values.is_hex(content.decode("ascii", "replace"))


def _read_value(text: bytes, at: int, stop: bytes = b"") -> _Value | None:
    quoted = _QUOTE.match(text, at)
    if quoted is None:
        return _read_bare(text, at, stop)
    quote, start = quoted["quote"], quoted.end()
    body = _BODIES.get(quote)
    end = body.match(text, start).end() if body else text.find(quote, start, start + _MAX_VALUE_BYTES)  # type: ignore[union-attr]
    if end < start or text[end : end + len(quote)] != quote:
        return _read_bare(text, start, stop)
    return _Value(start, end, quoted=True)


def _read_bare(text: bytes, at: int, stop: bytes) -> _Value | None:
    found = _BARE.match(text, at)
    if found is None:
        return None
    end = found.end()
    if stop and (stopped := text.find(stop, at, end)) >= 0:
        end = stopped
    if following := _NEXT_PAIR.search(text, at, end):
        end = following.start()
    while (
        end > at
        and (last := text[end - 1 : end]) in b",;)]}|."
        and _CLOSING.get(last, b"\0") not in text[at:end]
    ):
        end -= 1
    return _Value(at, end, quoted=False) if end > at else None


def _judged(
    text: bytes,
    value: _Value | None,
    kind: NameKind,
    *,
    is_code: bool = False,
    weak: bool = False,
    whole_line: bool = False,
) -> Assigned | None:
    """Return what a value is under a name; a bare one of code is an expression."""
    if value is None:
        return None
    try:
        content = text[value.start : value.end].decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    is_expression = is_code and not value.quoted
    accepted = _accepts(
        kind, content, quoted=value.quoted, is_expression=is_expression, weak=weak, whole_line=whole_line
    )
    return Assigned(kind, value.start, value.end) if accepted else None


def _accepts(  # noqa: PLR0911  # one way out for each reason
    kind: NameKind,
    value: str,
    *,
    quoted: bool,
    is_expression: bool = False,
    weak: bool = False,
    whole_line: bool = False,
) -> bool:
    if kind.kind == "mnemonic":
        return values.is_mnemonic(value)
    if kind.kind == "aws-secret" and values.is_aws_secret(value):
        return True
    if kind.sure and (quoted or whole_line) and values.is_scrambled(value):
        return True
    if len(value) < _MIN_VALUE_CHARS or not value.isprintable() or values.is_stand_in(value):
        return False
    is_number_code = kind.kind == "password" and quoted and value.isdigit()
    if (values.is_something_else(value) and not is_number_code) or (
        is_expression and values.is_dotted(value)
    ):
        return False
    if kind.kind in {"password", "pass"}:
        if is_expression or not kind.sure:
            return kind.kind == "password" and values.is_random(value, _UNMISTAKABLE_CHARS)
        return _accepts_password(kind, value, quoted=quoted, weak=weak, whole_line=whole_line)
    return _accepts_key(kind, value, quoted=quoted, weak=weak or is_expression or not kind.sure)


def _accepts_password(kind: NameKind, value: str, *, quoted: bool, weak: bool, whole_line: bool) -> bool:
    if weak and not quoted:  # a sentence
        is_mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
        return (
            values.is_random(value, _SAID_CHARS)
            or values.is_word_and_number(value)
            or (values.has_symbol(value) and is_mixed)
        )
    if kind.kind == "pass":  # a word of test reports as well
        is_mixed = values.has_symbol(value) or (quoted and any(map(str.isdigit, value)))
        is_mixed = is_mixed or values.is_random(value, _SAID_CHARS)
        return is_mixed and values.is_password(value, quoted=quoted)
    return values.is_password(value, quoted=quoted, whole_line=whole_line) and not (weak and value.isalpha())


def _accepts_key(kind: NameKind, value: str, *, quoted: bool, weak: bool) -> bool:
    if kind.kind == "wallet" and values.is_wallet_key(value):
        return True
    if kind.kind == "bare-key":
        is_digest = values.is_hex(value) or values.is_named_digest(value)  # of a cache: pip-9f86d081...
        return not weak and values.is_random(value, _UNMISTAKABLE_CHARS) and not is_digest
    if weak:
        return values.is_random(value, _UNMISTAKABLE_CHARS) and (kind.sure or not values.is_hex(value))
    return values.is_random(value) or (quoted and kind.kind in {"secret", "key"} and values.is_made_up(value))
