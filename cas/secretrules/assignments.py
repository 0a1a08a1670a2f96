"""Rules: a credential recognised by the name it is given to.

``<name> <separator> <value>`` in source code, JSON, YAML, TOML, env files, logs, shell and XML. The guard
only says where a closer look pays; names and values are judged by the scanner with the words of
``vocabulary``. Invariant: data only. The guard admits whatever the judgement could accept, so a rule of it
must never be narrower than the reader's; and it must stay quiet on ``"token_count": 123`` and on prose.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule
from cas.secretrules.vocabulary import KEYED_SERVICES

# What each kind of name is called in a finding.
KIND_RULES: Final[dict[str, tuple[str, str]]] = {
    "password": ("password", "password assigned to a name"),
    "pass": ("password", "password assigned to a name"),
    "secret": ("secret-key", "secret or secret key assigned to a name"),
    "token": ("token", "token assigned to a name"),
    "key": ("api-key", "API key assigned to a name"),
    "aws-secret": ("aws-secret-access-key", "AWS secret access key assigned to a name"),
    "wallet": ("wallet-private-key", "wallet's private key assigned to a name"),
    "mnemonic": ("wallet-mnemonic", "wallet's recovery phrase assigned to a name"),
    "bare-key": ("api-key", "API key assigned to a name"),
    "trading": ("trading-credential", "exchange or broker credential assigned to a name"),
}

# Repeats are unbounded here because they cost the engine one state each; how far a guard may reach is bounded
# by the scanner, which applies it to a few hundred bytes.
_TAIL = rb"[A-Za-z0-9_\-.]*"
# Which word stands before "key" is judged later; a blank between the two needs one of the commonest.
KEYWORD: Final = (
    rb"(?:(?:pass(?:w(?:or)?d|phrase|code|wort|w)|psswd|pswd|pwd|psk|mpin|secret|cred(?:s|ential)|mnemonic|phrase|bearer|_private"
    rb"|[a-z0-9_\-.] ?key|[a-z][_\-](?:pk|auth))" + _TAIL + rb"|pass(?:[_\-.0-9]" + _TAIL + rb")?"
    # The word that ordinary logs are full of, as in tokens and token_count: the engine must lose interest at
    # once.
    rb"|token(?:value|str|string|[0-9]+)?(?:[_\-.](?:[abd-z0-9]|c[a-np-z]|co[a-tv-z])[a-z0-9]*(?:[_\-.][a-z0-9]+)?)?)"
)
SHORT_KEYWORD: Final = rb"pw" + _TAIL
_SHORT_GATE: Final = rb"pw[\x00-\xff]"
# Six characters that are not a plain number, or an opening quote and six characters.
_VALUE = (
    rb"(?:[^\s\"'`0-9][^\s\"'`]{5}|[0-9]{1,5}[^\s\"'`0-9.,}\])][^\s\"'`]{2}|[0-9]{6}[^\s\"'`,}\])]"
    rb"|\"[^\s\"'`][^\"\r\n]{5}|'[^\s\"'`][^'\r\n]{5}|`[^\s\"'`][^`\r\n]{5})"
)
# A call around the value, with other arguments before it; YAML's block, anchor and tag.
_OPEN = (
    rb"(?:(?:[A-Za-z_.:]+\(\s*(?:[^()\n\"']*=\s*)?){1,2}|[>|][+-]?\s+|[&!][A-Za-z0-9_!\-]+\s+"
    rb"|convertto-securestring\s+(?:-string\s+)?)?[bruf@$]{0,2}[\"'`\\]*"
)
_CLOSE = rb"[\"'`\\\])}*\[]*"
# C#'s accessors of a property stand between the name and what it begins with.
_SEPARATED = (
    _CLOSE
    + rb"(?:\s*\{\s*get;[^}\n]*\})?[\s|?]*(?:or|[:=,<>(!\-?|{]+)[\s\[{(*\\]*"
    + rb"(?:[A-Za-z_&][A-Za-z0-9_\[\]., |\"'<>&?]*=\s*)?"
)
# A name that is a value itself, and its value under a name of its own, nearby.
_NAME_VALUE = (
    rb"(?:"
    + _CLOSE
    + rb"[\s,;:={\[]+[\"'`\\]*(?:value|string|default|content)[\"'`\\]*\s*[:=>]\s*"
    + rb"|[\"'](?:\s*\{|,|\s)[^(){}\[\]<>]*[^a-z0-9_](?:value|default)[\"']?\s*[:=]\s*"
    + rb"|>\s*<(?:value|string|plaintext)>\s*"
    + rb"|</(?:key|name|td|th|dt)>\s*<(?:string|value|td|dd)>\s*)"
)
# ``user, password = "desk", "..."``, and a default behind a condition.
_TARGETS = rb"(?:\s*,\s*[A-Za-z_.]+)*\s*=\s*[\"'][^\"'\n]+[\"']\s*,\s*[\"']"
_ELSE = rb"\s*=[^\n]+\selse\s+[bruf]?[\"'][^\"'\n]{6}"
_SAID = rb"\s+(?:(?:is|was)(?:\s(?:now|still|(?:re)?set\sto|changed\sto))?\s*[:=]?\s+|`)"
_PLAIN = rb"[ \t]+[^\s0-9]*[0-9]"
_LABEL = rb"[ ,][a-z ,()'\-]*:[ \t]+[\"'`]?[^\s\"'`]{8}"
_BELOW = rb"[*: \t]*\r?\n[ \t]*[^\s\"'`]{16}"
# How pickle, MessagePack and BSON put a string behind its name.
_PACKED = (
    rb"(?:\x94\x8c[\x00-\xff]|\x94X[\x00-\xff]{4}|\xd9[\x00-\xff]|\xda[\x00-\xff]{2}|[\xa0-\xbf]|\x00[\x00-\xff]\x00\x00\x00)"
    rb"[!-~]{16}"
)


def _assignment_guard(keyword: bytes) -> bytes:
    given = rb"(?:" + _SEPARATED + rb"|" + _NAME_VALUE + rb"|" + _SAID + rb")" + _OPEN + _VALUE
    ways = (given, _PLAIN, _LABEL, _BELOW, _PACKED, _TARGETS, _ELSE)
    return keyword + rb"(?:" + rb"|".join(ways) + rb")"


def _option_guard(keyword: bytes) -> bytes:
    return rb"--[a-z0-9\-]*" + keyword + rb"[\"']?\s+(?:-\s+)?[\"'`\\]*" + _VALUE


# The name "key" alone says little, so here the value has to.
BARE_KEY_GUARD: Final = (
    rb"(?:^|[^a-z0-9_.\-])keys?[\"'`\\]*\s{0,8}[:=]\s{0,8}(?:[\[(]\s{0,16})?[\"'`\\]*[a-z0-9+/=_\-]{16}"
)
_COLUMN_WORD: Final = rb"(?:pass(?:wor[dt]|wd|phrase)|pwd|secret|token|key|credential|mnemonic)"


def _title(word: bytes) -> bytes:
    return rb"[a-z0-9_ \-.]*" + word + rb"[a-z0-9_ \-.]*"


def _table_guard(word: bytes) -> bytes:
    title = _title(word)
    return rb"(?:[,;\t|][ \"*`]*" + title + rb"[\"*` ]*[,;\t|\r\n]|" + title + rb"[\"]?[,;\t])"


def _insert_guard(word: bytes) -> bytes:
    return _title(word) + rb"[`\"\]]?\s*(?:,[a-z0-9_ ,`\"\[\]\r\n]*)?\)\s*(?:values\s*\(|from\s+stdin)"


ASSIGNMENT_LITERALS: Final = (
    b"pass",
    b"pswd",
    b"psswd",
    b"pwd",
    b"psk",
    b"mpin",
    b"secret",
    b"cred",
    b"mnemonic",
    b"bearer",
    b"_private",
    b"phrase",
    b"key",
    b"token",
    b"_pk",
    b"_auth",
    b"-auth",
)


def _named(
    rule_id: str,
    description: str,
    check: str,
    rank: int,
    guard: bytes,
    literals: tuple[bytes, ...],
    gate: bytes = b"",
) -> Rule:
    """Return a rule that judges by a name; what it looks for is told by the guard alone."""
    return Rule(
        id=rule_id,
        description=description,
        pattern=b"",
        check=check,
        rank=rank,
        guard=guard,
        literals=literals,
        gate=gate,
    )


ASSIGNMENTS: Final[tuple[Rule, ...]] = (
    *(
        _named(rule_id, description, "assignment", 20, guard(keyword), literals, gate)
        for rule_id, description, guard in (
            ("assignment", "credential assigned to a name", _assignment_guard),
            ("option", "credential given to a command line option", _option_guard),
        )
        for keyword, literals, gate in (
            (KEYWORD, ASSIGNMENT_LITERALS, b""),
            (SHORT_KEYWORD, (b"pw",), _SHORT_GATE),
        )
    ),
    _named("bare-key", "credential assigned to a key", "assignment", 12, BARE_KEY_GUARD, (b"key",)),
)
_COLUMN_LITERALS: Final = (b"pass", b"pwd", b"secret", b"token", b"key", b"credential", b"mnemonic")
TABLES: Final[tuple[Rule, ...]] = tuple(
    _named(rule_id, description, check, 15, guard(word), literals, gate)
    for rule_id, description, check, guard in (
        ("inserted-column", "credential in a column of an SQL statement", "insert", _insert_guard),
        ("column", "credential in a column that a header names so", "table", _table_guard),
    )
    for word, literals, gate in ((_COLUMN_WORD, _COLUMN_LITERALS, b""), (b"pw", (b"pw",), _SHORT_GATE))
)
# ``FINNHUB=<key>``: the service alone is the name.
_SERVICES: Final = sorted(word.encode() for word in KEYED_SERVICES)
_SERVICES_PER_RULE: Final = 24  # an automaton refuses one alternative of all


def _service_rule(words: list[bytes]) -> Rule:
    longest_first = sorted(words, key=len, reverse=True)
    named = b"|".join(longest_first)
    tail = rb"(?:[_.\-]?(?:io|com|live|prod|paper|demo|main|bot|token))?[\"']?"
    return Rule(
        id="service-credential",
        description="credential under the name of its service",
        pattern=rb"(?i:" + named + rb")(?i:" + tail + rb")\s{0,4}[=:]\s{0,4}[\"']?"
        rb"(?P<v>[A-Za-z0-9_\-+/=]{16,128})(?![A-Za-z0-9_\-+/=.:])",
        check="service",
        rank=10,
        guard=rb"(?:" + named + rb")" + tail + rb"\s*[=:]\s*[\"']?[a-z0-9_\-+/=]{8}",
        literals=tuple(words),
    )


SERVICE_NAMES: Final[tuple[Rule, ...]] = tuple(
    _service_rule(_SERVICES[at : at + _SERVICES_PER_RULE])
    for at in range(0, len(_SERVICES), _SERVICES_PER_RULE)
)
# A client object made with its key as a bare argument: ``binance.Client("<key>", "<secret>")``.
_ARGUMENT = rb"[A-Za-z0-9_.\-+/=]"
# Arguments before the one that is looked at, which may be names, ids and passwords.
_BEFORE_PATTERN: Final = (
    rb"",
    rb"[bru]?\\{0,3}[\"'][^\"'\r\n]{1,128}[\"'],\s{0,40}",
    rb"(?:[bru]?\\{0,3}[\"'][^\"'\r\n]{1,128}[\"'],\s{0,40}){2}",
)
_BEFORE_GUARD: Final = (
    rb"",
    rb"[bru]?\\{0,3}[\"'][^\"'\r\n]{1,128}[\"'],\s*",
    rb"[bru]?\\*[\"'][^\"'\r\n]+[\"'],\s*[bru]?\\*[\"'][^\"'\r\n]+[\"'],\s*",
)
CLIENT_CALLS: Final[tuple[Rule, ...]] = tuple(
    Rule(
        id="client-credential",
        description="exchange, broker or data credential given to a client",
        pattern=rb"\(\s{0,40}"
        + before_pattern
        + rb"[bru]?\\{0,3}[\"'](?P<v>"
        + _ARGUMENT
        + rb"{16,128})\\{0,3}[\"']",
        check="client",
        rank=25,
        guard=rb"[a-z0-9_]\(\s*" + before_guard + rb"[bru]?\\*[\"'][a-z0-9_.\-+/=]{16}",
        literals=(b"(",),
        gate=rb"\((?:[\"'][\x00-\xff]|\s[\s\"'bru\\]|[bru][\"'\\]|\\[\"'\\])",
    )
    for before_pattern, before_guard in zip(_BEFORE_PATTERN, _BEFORE_GUARD, strict=True)
)
