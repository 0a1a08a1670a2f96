"""Does a name name a credential, and of what kind?

Invariant: pure; looks at the name alone. A name is judged by its words: the last ones say what it names,
words such as *count* or *path* turn it into something about a credential, and a few words may follow without
changing anything.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from cas.secretrules import vocabulary as known

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_LOOSE_TAIL_WORDS: Final = 2  # a name such as TOKEN_MY_DESK; more than two unknown words say something else
_TRADING_OPENERS: Final = known.SERVICES - {
    "github",
    "gitlab",
    "slack",
    "discord",
    "openai",
    "stripe",
    "aws",
    "azure",
    "google",
}


class NameKind(NamedTuple):
    """What a name names.

    Attributes:
        kind: One of the keys of ``KIND_RULES``, by which a finding is called.
        sure: False when unknown words follow, so that only an unmistakable value counts.
        trading: A word of the name is a broker, an exchange or a data service.
    """

    kind: str
    sure: bool
    trading: bool


def split_words(name: str) -> list[str]:
    """Return the lower-case words of a name in snake, kebab, dotted or camel case."""
    found: list[str] = []
    for word in _WORD.findall(name):
        lowered = word.lower()
        ending = next((end for end in known.GLUED if lowered.endswith(end)), None)
        if ending is None:
            found.append(lowered)
            continue
        if len(lowered) > len(ending):
            found.append(lowered[: -len(ending)])
        found += _unglued(ending)
    return found


def _unglued(word: str) -> list[str]:
    for last in ("key", "secret", "token"):
        if word.endswith(last) and word != last:
            return [word[: -len(last)], last]
    return [word]


def judge_name(name: str) -> NameKind | None:
    """Return what ``name`` names, or None when it is no credential.

    Args:
        name: The whole dotted name; its last part decides, the others may tell whose it is.
    """
    everything = split_words(name)
    words = split_words(re.split(r"[.\[\]]", name.rstrip(".[]"))[-1]) or everything
    trading = any(word in _TRADING_OPENERS for word in everything)
    sure, skipped = True, 0
    while words:
        kind = _kind(words, everything)
        if kind is not None:
            return NameKind("key" if kind == "some-key" else kind, sure and kind != "some-key", trading)
        last = words.pop()
        if last in known.NOT_CREDENTIAL and not (last == "id" and words and words[-1] == "key"):
            return None
        if not (last in known.NEUTRAL_TAIL or last in known.SERVICES or last.isdigit() or last == "id"):
            sure, skipped = False, skipped + 1
        if skipped > _LOOSE_TAIL_WORDS:
            return None
    return None


def _kind(words: list[str], everything: list[str]) -> str | None:  # noqa: PLR0911  # one return for each kind
    """Return the kind when the last word, or the last two, name a credential."""
    last, before = words[-1], words[:-1]
    if any(word in known.NOT_CREDENTIAL_LEADS for word in before):
        return None
    lead = before[-1] if before else ""
    owner = lead or next(iter(everything[-2:-1]), "")  # smtp.pass
    if last in known.PASSWORD_WORDS or (
        last == "pass" and (owner in known.PASS_LEADS or owner in known.SERVICES)
    ):
        return "password"
    if last == "pass" and not before:
        return "pass"
    if last in known.SECRET_WORDS:
        return "secret"
    if last in known.TOKEN_WORDS:
        return (
            None
            if any(word in known.TOKEN_NOT_CREDENTIAL for word in before) or last == "tokens"
            else "token"
        )
    if last == "key":
        return _key_kind(owner if owner in known.DOTTED_KEY_LEADS else lead, everything)
    return _rare_kind(last, lead, everything)


def _rare_kind(last: str, lead: str, everything: list[str]) -> str | None:
    if last == "bearer" or (last == "auth" and (lead in known.SERVICES or lead == "x")):
        return "token"
    if last == "private" and not known.SERVICES.isdisjoint(everything):
        return "secret"
    if last == "keys" and lead in known.LISTED_KEY_LEADS:
        return "key"
    if last in known.OTHER_WORDS or (
        last == "phrase" and lead in {"seed", "recovery", "mnemonic", "backup", "wallet"}
    ):
        return "mnemonic" if last in {"mnemonic", "phrase"} else "secret"
    if last == "pk" and lead in known.PRIVATE_KEY_LEADS:
        return "wallet"
    return None


def _key_kind(lead: str, everything: list[str]) -> str | None:
    if "aws" in everything and "secret" in everything:
        return "aws-secret"
    if lead == "access" and "secret" in everything:
        return "aws-secret"
    if lead in {"private", "priv"}:
        return "wallet"
    if lead in known.KEY_LEADS or any(word in known.SERVICES for word in everything):
        return "key"
    # AV_KEY, cgKey: somebody's key, unless it is the key of a table, a cache or a dictionary.
    return "some-key" if lead and lead not in known.KEY_OF_SOMETHING else None
