"""Can a value be a credential, or is it a stand-in, a reference, a measurement, or a sentence?

Invariant: pure, and silent: values go in, truth values come out, nothing is kept, printed or raised. Values
are text of at most a few kilobytes.
"""

# The lengths and counts below are the judgement itself, tuned together on the corpus in tests/secrets.
# ruff: noqa: PLR2004

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from cas.secretrules import vocabulary as known
from cas.secretrules.letters import ALPHABET, BIGRAM_BITS
from cas.secretscan.names import split_words

_BITS: Final = {
    a: {b: int(BIGRAM_BITS[i][j], 16) for j, b in enumerate(ALPHABET)} for i, a in enumerate(ALPHABET)
}
# Random letters and digits cost 5 to 8 bits each, names 3 to 5 (99 % below 4.8).
_RANDOM_BITS: Final = 5.0
_LONG_RANDOM_BITS: Final = 4.6  # averages of longer texts spread less
_LONG_CHARS: Final = 24
_RANDOM_MIN_CHARS: Final = 12
_SCRAMBLED: Final = re.compile(r"[A-Za-z0-9!@#$%^&*()\-_=+.,:;~]+")

_REFERENCE: Final = re.compile(
    r"""\$[{(]|^\$\w+$|^%\w+%$|%[sdr]\b|%\(\w+\)|\{\{|\}\}|\{[\w.!:\[\]'"]*\}|^<.*>$|^\[.*\]$|^&(?:lt|\#x3c);|<[a-z_
    -]{2,40}>|^@\w+@$|\#\{|^__\w+__$|^:[a-z_]\w*$
    |environ\b|getenv|process\.env|\bENV\[|\bFetch\(|arn:aws|^projects/|^(?:vault|ssm|kms|op|ref\+\w+|file|env|secret|keyring)[:]
    |^!(?:vault|secret|ref|sub|env|include|getatt)\b|^ENC\[|secretsmanager|SecretKeyRef|/run/secrets
    |^(?:secrets|vars|env|params|inputs|config|settings|args|self|this|cls|ctx|request|options|opts|data|os|cfg|conf|kwargs|event)
    (?:\.[A-Za-z_]|\[)|^[A-Za-z_][\w.]*(?:\(|\[['"\w]*\]?$)|^[A-Za-z_]\w*(?:\??\.[A-Za-z_]\w*)+$|^(?:await|new|lambda|not|async)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_DOTTED_NUMBERED: Final = re.compile(
    r"(?!(?:self|config|settings|args|cfg|env)\.)[A-Za-z]+(?:[.-][A-Za-z]+)+[.-]?\d{2,}"
)  # river.stone84, river.stone-bridge.84
_FORMAT: Final = re.compile(r"%[sdr]\b")
_SAYS_SO: Final = re.compile(
    r"example|placeholder|change_?-?me|your[_-]?(?:api|secret|token|key|password|access|real|own|bot)|replace[_-]?(?:me|with|this)|"
    r"insert[_-]|dummy|redacted|do[_-]?not[_-]?commit|to[_-]be[_-]|(?:key|token|secret|password)[_-]?(?:goes[_-]?)?here|not[_-]?a[_-]?real"
)
_MASKED: Final = re.compile(r"\.\.\.|…|\*{3}|[xX]{5}|(.)\1{6}|•{3}|#{4}|_{4}|\?{3}")
_DATE: Final = re.compile(
    r"\d{4}[-/]?\d{2}[-/]?\d{2}(?:[T _-]?\d{2}:?\d{2}(?::?\d{2})?(?:\.\d+)?Z?)?|\d{1,2}:\d{2}(?::\d{2})?"
)
_NUMBER: Final = re.compile(r"[-+]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?|0[xX][0-9a-fA-F]{1,16}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_WEB: Final = re.compile(r"[a-z][a-z0-9+.-]{1,15}://", re.IGNORECASE)
_PATH: Final = re.compile(r"~?(?:\.{0,2}/)?(?:[\w.@ -]{1,64}/)+[\w.@ -]{0,64}|[A-Za-z]:\\.*")
_FILE: Final = re.compile(
    r"[\w./-]+\.(?:py|json|ya?ml|toml|ini|cfg|env|txt|pem|key|crt|csv|log|md|sh|js|ts|html?|xml|db)"
)
_MAIL: Final = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_HOST: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::\d+)?(?:/.*)?", re.IGNORECASE)
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_MODEL_TOKEN: Final = re.compile(r"[<\[|][\w|/ -]{1,24}[>\]|]")
_SEALED: Final = re.compile(r"Ag[A-Za-z0-9+/]{250,}={0,2}")  # a value of a Kubernetes SealedSecret
_WORD_MIN_CHARS: Final = 4
_CREDENTIAL_WORDS: Final = (
    known.PASSWORD_WORDS | known.SECRET_WORDS | known.TOKEN_WORDS | {"key", "apikey", "credential"}
)
_GIVEAWAYS: Final = ("super", "strong", "very", "secure", "ultra", "top", "my")


def is_stand_in(value: str) -> bool:
    """Tell whether a value is empty, a placeholder, masked, or refers to where the credential is kept."""
    lowered = value.strip().lower()
    if len(set(lowered)) <= 3 or lowered in known.EMPTY_VALUES or _MASKED.search(value):  # "abab", "0000"
        return True
    # A place for a value in a format turns up in long random text by chance.
    told = _FORMAT.sub("", value) if "%" in value and is_random(value, _LONG_CHARS) else value
    if _REFERENCE.search(told) and not _DOTTED_NUMBERED.fullmatch(value):
        return not (_DOTTED.fullmatch(value) and is_random(value, _LONG_CHARS))
    # Three letters turn up in random text by chance, so they count only where they stand alone.
    alone = re.split(r"[^a-z0-9]+", lowered)
    # Four letters do so in long random text.
    least_chars = _WORD_MIN_CHARS + is_random(value, _LONG_CHARS)
    inside = [word for word in split_words(value) if len(word) >= least_chars]
    return bool(_SAYS_SO.search(lowered)) or any(
        word in known.PLACEHOLDER_WORDS for word in (*alone, *inside)
    )


def is_dotted(value: str) -> bool:
    """Tell whether a value reads as an attribute of a module or an object."""
    return bool(_DOTTED.fullmatch(value))


def is_something_else(value: str) -> bool:
    """Tell whether a value has a form that credentials do not have: number, date, path, address, host name, file."""
    for form in (_NUMBER, _DATE, _ADDRESS, _MAIL, _FILE, _MODEL_TOKEN, _SEALED):
        if form.fullmatch(value):
            stem = value.rpartition(".")[0]
            # A file may be called after the key it holds, or after a digest.
            return form is not _FILE or "/" in stem or is_hex(stem) or not is_random(stem, _LONG_CHARS)
    if _WEB.match(value) or value.endswith(":"):
        return True
    if _PATH.fullmatch(value) and not is_random(value.replace("/", "")):
        return True
    if _DOTTED_NUMBERED.fullmatch(value):
        return False
    return bool(_HOST.fullmatch(value)) and not is_random(value.replace(".", ""))


def surprise_bits(value: str) -> float:
    """Return the mean cost of a character, in bits, for a reader who expects names and words."""
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", value) if _is_camel(value) else value
    pieces = [
        piece
        for piece in re.split(r"[^a-z0-9]+", text.lower())
        if piece and not (piece.isdigit() and len(piece) <= 8)
    ]
    if not pieces:
        return 0.0
    spelled = "_" + "_".join(pieces) + "_"
    return sum(_BITS[a][b] for a, b in pairwise(spelled)) / (len(spelled) - 1)


_CAMEL: Final = re.compile(r"[a-z]*(?:[A-Z]{1,5}[a-z]{2,}|[A-Z]{2,6}(?=[A-Z]|\d|$)|\d{1,4})+")


def _is_camel(value: str) -> bool:
    return all(
        _CAMEL.fullmatch(piece) or piece.islower() or piece.isupper()
        for piece in re.split(r"[^A-Za-z0-9]+", value)
        if piece
    )


def _turns(pieces: list[str]) -> int:
    """Return how often letters and digits change places in the piece where they do most."""
    kinds = [[character.isdigit() for character in piece] for piece in pieces]
    return max(sum(a != b for a, b in pairwise(kind)) for kind in kinds)


def is_random(value: str, least_chars: int = _RANDOM_MIN_CHARS) -> bool:
    """Tell whether a value was drawn by a machine rather than written by a person.

    Args:
        value: Text without blanks.
        least_chars: Fewest characters that can count.
    """
    if len(value) < least_chars or not value.isascii() or any(character.isspace() for character in value):
        return False
    if _UUID.fullmatch(value):
        return True
    alnum = sum(character.isalnum() for character in value)
    if alnum < 0.7 * len(value) or len(set(value)) < 6:  # line noise, and repeated letters
        return False
    pieces = re.split(r"[^A-Za-z0-9]+", value)
    mixed = any(
        len(piece) > 4 and any(map(str.isdigit, piece)) and any(map(str.isalpha, piece)) for piece in pieces
    )
    # Letters and digits by turns, in a piece too long for sma20x50.
    if mixed and _turns(pieces) >= 3 and max(map(len, pieces)) >= 10:
        return True
    bits = surprise_bits(value)
    limit = _LONG_RANDOM_BITS if len(value) >= _LONG_CHARS else _RANDOM_BITS
    if mixed or (
        any(c.isupper() for c in value) and any(c.islower() for c in value) and not _is_camel(value)
    ):
        return bits >= limit
    return bits >= limit + 0.5 and len(value) >= 16  # one alphabet alone says less


def is_scrambled(value: str) -> bool:
    """Tell whether a value was drawn from letters, digits and signs alike, as frameworks draw their signing keys.

    Its brackets close nothing and its signs join nothing, so that other judgements take it for an expression.
    """
    if len(value) < _LONG_CHARS or not _SCRAMBLED.fullmatch(value):
        return False
    signs = {character for character in value if not character.isalnum()}
    has_digits = sum(map(str.isdigit, value)) >= 3
    return has_digits and len(signs - set("-_.")) >= 4 and surprise_bits(value) >= _LONG_RANDOM_BITS


def is_password(value: str, *, quoted: bool, whole_line: bool = False) -> bool:
    """Tell whether a value under the name of a password is one.

    Args:
        value: The value, neither a stand-in nor of another form.
        quoted: It stood in quotes, so that blanks and its exact extent are certain.
        whole_line: The line holds nothing but the name and the value.
    """
    if any(character.isspace() for character in value):
        return quoted and _is_phrase(value.split())
    letters = any(c.isalpha() for c in value)
    digits = any(c.isdigit() for c in value)
    symbols = any(not c.isalnum() and c not in "_-. /" for c in value)
    if letters and (digits or symbols):
        return len(value) >= (6 if quoted else 8) and not _is_code(value)
    if not letters or not value.isascii():  # foreign letters alone: a label in the reader's language
        return not letters and quoted and len(value) >= 8 and len(set(value)) > 3
    words = split_words(value)
    if any(word in _CREDENTIAL_WORDS for word in words):
        return quoted and words[0].startswith(_GIVEAWAYS) and len(value) >= _RANDOM_MIN_CHARS
    bits = surprise_bits(value)
    is_jumbled = any(map(str.isupper, value)) and any(map(str.islower, value)) and not _is_camel(value)
    if len(value) >= 8 and bits >= (_LONG_RANDOM_BITS if is_jumbled else _RANDOM_BITS + 0.5):
        return True
    return (quoted or whole_line) and (len(value) >= 10 or (quoted and len(value) >= 8 and len(words) == 1))


def _is_phrase(words: list[str]) -> bool:
    return (
        4 <= len(words) <= 12
        and all(w.isalnum() and (w.islower() or w.isdigit()) for w in words)
        and not known.STOP_WORDS & set(words)
    )


def _is_code(value: str) -> bool:
    """Tell whether a value is an expression, a pattern or markup rather than a password."""
    return bool(re.search(r"[(\[{]\w*[)\]}]|\\[dws]|=>|\(\?|</?\w+>|[\w]\(|::|\[\^", value))


def is_mnemonic(value: str) -> bool:
    """Tell whether a value is a wallet's recovery phrase: 12 to 25 lower-case words."""
    words = value.replace(",", " ").split()
    if not 12 <= len(words) <= 25 or known.STOP_WORDS & set(words):
        return False
    return all(3 <= len(word) <= 8 and word.isalpha() and word.islower() for word in words)


_AWS_SECRET: Final = re.compile(r"[A-Za-z0-9+/]{40}")
_WALLET_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{51,88}")
_MADE_UP: Final = re.compile(
    r"[A-Za-z][\w-]{4,}?(?<!\d)(?!(?:19|20)\d{6}$)\d{5,12}|[A-Za-z]{0,3}[_-]?(?=[a-zA-Z]*\d)(?=\d*[a-zA-Z])[A-Za-z0-9]{14,64}"
)
_WORD_AND_NUMBER: Final = re.compile(r"[A-Za-z][a-z]{3,}[_.]\d{2,6}[a-z]?")
_NAMED_DIGEST: Final = re.compile(r"(?:[A-Za-z][\w.]{0,15}[-_:/]){1,4}[0-9a-f]{32,128}")
_HEX: Final = re.compile(r"[0-9a-fA-F-]+")


def is_aws_secret(value: str) -> bool:
    """Tell whether a value under an AWS secret's name has the form of one, the documented example included."""
    return bool(_AWS_SECRET.fullmatch(value)) and len(set(value)) > 10 and any(c.isupper() for c in value)


def is_wallet_key(value: str) -> bool:
    """Tell whether a value is a private key of a wallet in hexadecimal or base58."""
    return bool(_WALLET_KEY.fullmatch(value)) and len(set(value.lower())) > 6


def is_made_up(value: str) -> bool:
    """Tell whether a value is a made-up credential of letters and a number, such as people write by hand."""
    return bool(_MADE_UP.fullmatch(value)) and sum(character.isdigit() for character in value) >= 4


def is_hex(value: str) -> bool:
    """Tell whether a value could be a digest or an id."""
    return bool(_HEX.fullmatch(value))


def is_named_digest(value: str) -> bool:
    """Tell whether a value is a digest behind words that say of what."""
    return bool(_NAMED_DIGEST.fullmatch(value))


def is_word_and_number(value: str) -> bool:
    """Tell whether a value is a word and a number joined by a sign, as people make passwords: ``Winter_1847``."""
    return bool(_WORD_AND_NUMBER.fullmatch(value)) and known.NOT_CREDENTIAL.isdisjoint(split_words(value))


def has_symbol(value: str) -> bool:
    """Tell whether a value holds a sign that names and numbers do not."""
    return any(not character.isalnum() and character not in "_-. /:,%" for character in value)
