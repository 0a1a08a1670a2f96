"""What a rule asks of a match beyond its pattern: checksums, decodable parts, randomness, context.

Invariant: pure functions of the bytes around the match. A check gives back the span of the value, which may
differ from the pattern's, or None when the match is no credential.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Final

from cas.secretrules import vocabulary as known
from cas.secretscan import values
from cas.secretscan.names import judge_name, split_words

if TYPE_CHECKING:
    from collections.abc import Callable

Span = tuple[int, int]

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_CHARS: Final = 6
_ASSIGNED_ID: Final = re.compile(rb"access_?key(?:_?id)?[\"']?\s{0,4}[:=]\s{0,4}[\"']?\Z", re.IGNORECASE)
_DIGITS_BEFORE: Final = re.compile(rb"(?:(?<![0-9A-Za-z])|(?<=\\[nrt])|(?<=/bot))[0-9]{8,10}\Z")
_HEX_BEFORE: Final = re.compile(rb"(?:(?<![0-9A-Za-z_-])|(?<=\\[nrt]))[0-9a-f]{32}\Z")
# The lengths of keys that bear a mark: MaxMind, and those of Azure's services.
_MARKED_CHARS: Final = frozenset((40, 44, 52, 56, 84, 88))
_MOST_MARKED_CHARS: Final = 90
_MARKED_BEFORE: Final = re.compile(rb"[A-Za-z0-9+/_-]{1,90}\Z")
_MARKED_BEHIND: Final = re.compile(rb"[A-Za-z0-9+/_-]{0,90}={0,2}")
_KEY_BODY: Final = re.compile(rb"[A-Za-z0-9+/=]{16,}")
_CLIENT: Final = re.compile(r"([A-Za-z_](?:[\w.]|::){0,63})\Z")
_KEY_CALL: Final = re.compile(
    r"(?:^|[._])(?:authenticate|authorize|login|set_?(?:api_?)?(?:key|secret|token|credentials)|(?:rest|api|ws|websocket|trading)_?client)$"
)
_CONSTRUCTOR: Final = re.compile(
    r"(?:^|[._])(?:[A-Z]\w*)?(?:Client|API|Api|REST|Rest|Spot|Exchange|Broker|Trader|Trading|Credentials|Futures|Connector|"
    r"Data|Feed|Provider|Websocket|WebSocket|Gateway|Historical|Live|Auth|Account|Session|Service|Wallet|Kraken|TOTP)$"
)
_MADE_BY: Final = re.compile(r"\.(?:create|connect|new|build|init|setup|open)$")
_WALLET_CALL: Final = re.compile(
    r"(?:from_key|fromKey|from_secret|from_base58(?:_string)?|from_private_key|fromBase58|fromSecretKey|fromPrivateKey|privateKeyToAccount|Wallet|Keypair|PrivateKey)$"
)
_SERVICE_LEAD: Final = re.compile(rb"(?:^|[\s\"'{(,;])(?P<lead>[A-Za-z_]{0,20})\Z")
_COMMAND: Final = re.compile(
    rb"\b(?:curl|wget|httpie|https?|xh|docker|helm|oras|mysql\w*|mariadb|sshpass|redis-cli|mongosh?|sqlcmd|l?ftp)\b"
)
_FUNCTION: Final = re.compile(rb"([A-Za-z_]\w{0,63})\(")
_VERB: Final = re.compile(r"^_*(?:get|load|read|fetch|default|make|build)_?(?=[A-Za-z])")
_SHORT_RANDOM_CHARS: Final = 10
_MIN_PASSWORD_CHARS: Final = 4
_MIN_KEY_CHARS: Final = 40
_DER_HEAD_CHARS: Final = 36
_REPORTS_TO: Final = re.compile(rb"@(?:o\d{1,12}\.)?(?:ingest\.)?[\w.-]{0,40}sentry|@o\d{1,12}\.ingest")
_SHOWN_KEY_CHARS: Final = 200  # as much of a key's body as it takes to see that it is one


def _text(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")


def random_enough(data: bytes, start: int, end: int) -> Span | None:
    """Accept what does not say that it is a stand-in; the pattern has already said what it is."""
    value = _text(data, start, end)
    rest = re.split(r"[_\-.]", value, maxsplit=1)[-1]
    body = rest if len(rest) > len(value) // 2 else value  # without the prefix that names the provider
    shown = value.removeprefix("sk-None-")  # a real prefix: an OpenAI key that belongs to no project
    if values.is_stand_in(shown) or len(set(body.lower())) < 6:  # noqa: PLR2004  # "aaaa1111"
        return None
    pieces = [piece for piece in re.split(r"[^A-Za-z0-9]+", body) if piece]
    readable = not any(c.isdigit() for c in body) and values.surprise_bits(body) < 4.6  # noqa: PLR2004  # names: 99 % below
    return None if readable and (len(pieces) > 1 or len(body) < 32) else (start, end)  # noqa: PLR2004


def der(data: bytes, start: int, end: int) -> Span | None:
    """Accept the encoding of a private key that is random behind its fixed beginning."""
    return (
        (start, end)
        if values.is_random(_text(data, start, end)[_DER_HEAD_CHARS:_SHOWN_KEY_CHARS], 24)
        else None
    )


def url_token(data: bytes, start: int, end: int) -> Span | None:
    """Accept a random user of an address, unless the address is one that browsers are given to report errors to."""
    return None if _REPORTS_TO.match(data, end) else strong(data, start, end)


def strong(data: bytes, start: int, end: int) -> Span | None:
    """Accept only what a machine has drawn."""
    value = _text(data, start, end)
    if values.is_stand_in(value) or values.is_something_else(value) or not values.is_random(value, 16):
        return None
    return start, end


def github(data: bytes, start: int, end: int) -> Span | None:
    """Accept a token whose checksum is right, or which looks random: a mistyped token is still worth a look.

    The last six characters are the CRC-32 of the others after the prefix, in base 62.
    """
    value = _text(data, start, end)
    body = value.partition("_")[2]
    if base62_checksum(body[:-_CHECKSUM_CHARS]) == body[-_CHECKSUM_CHARS:]:
        return start, end
    return None if values.is_stand_in(value) or not values.is_random(body, 16) else (start, end)


def base62_checksum(text: str) -> str:
    """Return the CRC-32 of ``text`` as six base 62 digits, as GitHub and npm append it to their tokens."""
    number, digits = binascii.crc32(text.encode()), ""
    while number:
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits.rjust(_CHECKSUM_CHARS, "0")


def aws_id(data: bytes, start: int, end: int) -> Span | None:
    """Accept any id but the documented example, and that one too where it is assigned to the setting."""
    if data[start:end].endswith(b"EXAMPLE"):
        return (start, end) if _ASSIGNED_ID.search(data, max(0, start - 40), start) else None
    return random_enough(data, start, end)


def stripe(data: bytes, start: int, end: int) -> Span | None:
    """Accept what follows the prefix unless it is a word or a mask."""
    body = _text(data, start + len(b"sk_live_"), end)
    masked = values.is_stand_in(body) or (body.isalpha() and values.surprise_bits(body) < 4.6)  # noqa: PLR2004
    return None if masked else (start, end)


def telegram(data: bytes, start: int, end: int) -> Span | None:
    """Accept a token that the bot's number precedes, and take the number in."""
    number = _DIGITS_BEFORE.search(data, max(0, start - 12), start)
    return None if number is None else random_enough(data, number.start(), end)


def mailchimp(data: bytes, start: int, end: int) -> Span | None:
    """Accept a data centre that 32 hexadecimal digits precede, and take them in."""
    body = _HEX_BEFORE.search(data, max(0, start - 34), start)
    return None if body is None else random_enough(data, body.start(), end)


def marked(data: bytes, start: int, end: int) -> Span | None:
    """Accept a key of one of the known lengths around the mark of its service, and take all of it in."""
    before = _MARKED_BEFORE.search(data, max(0, start - _MOST_MARKED_CHARS), start)
    behind = _MARKED_BEHIND.match(data, end)
    span = before.start() if before else start, behind.end() if behind else end
    return random_enough(data, *span) if span[1] - span[0] in _MARKED_CHARS else None


def pem(data: bytes, start: int, end: int) -> Span | None:
    """Accept a key with a body of base64, whatever line breaks or quotes lie between."""
    body = key_body(data[start:end]).decode("ascii")
    return (start, end) if values.is_random(body[:_SHOWN_KEY_CHARS], _MIN_KEY_CHARS) else None


def key_body(text: bytes) -> bytes:
    """Return the base64 of a private key without its header and line breaks, plain or escaped."""
    return b"".join(_KEY_BODY.findall(re.sub(rb"\\{1,4}[nr]", b"\n", text)))


def jwt(data: bytes, start: int, end: int) -> Span | None:
    """Accept a token whose header decodes to a JSON object that names an algorithm."""
    header = data[start:end].split(b".", 1)[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4)))
    except (ValueError, RecursionError):
        return None
    return (start, end) if isinstance(decoded, dict) and ("alg" in decoded or "typ" in decoded) else None


def url(data: bytes, start: int, end: int) -> Span | None:
    """Accept a password in an address unless it is a stand-in, a default, or the user's own name."""
    value = _text(data, start, end)
    before = data[max(0, start - 90) : start - 1]
    user = before.rpartition(b"://")[2].decode("utf-8", "replace")
    lowered = value.lower()
    if values.is_stand_in(value) or lowered in known.DEFAULT_PASSWORDS or lowered == user.lower():
        return None
    if (
        len(value) < _MIN_PASSWORD_CHARS
        or re.fullmatch(r"\d{1,5}", value)
        or re.search(r"[{}<>$(]|^%", value)
    ):
        return None
    return start, end


def password(data: bytes, start: int, end: int) -> Span | None:
    """Accept what can be a password in a place where one belongs."""
    value = _text(data, start, end).strip()
    if values.is_stand_in(value) or len(value) < _MIN_PASSWORD_CHARS + 2:
        return None
    return (start, end) if values.is_password(value, quoted=True) else None


def command(data: bytes, start: int, end: int) -> Span | None:
    """Accept a user's password behind a program that takes one."""
    line = data[max(0, start - 300) : start].rpartition(b"\n")[2]
    return password(data, start, end) if _COMMAND.search(line) else None


def login(data: bytes, start: int, end: int) -> Span | None:
    """Accept the second of two arguments that can hardly be anything but a password."""
    value = _text(data, start, end)
    is_mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    unmistakable = is_mixed and (values.has_symbol(value) or values.is_random(value, _SHORT_RANDOM_CHARS))
    return password(data, start, end) if unmistakable else None


def returned(data: bytes, start: int, end: int) -> Span | None:
    """Accept a random value from a function whose name, without its verb, names a credential."""
    names = _FUNCTION.findall(data, max(0, start - 300), start)
    kind = judge_name(_VERB.sub("", names[-1].decode("ascii"))) if names else None
    return strong(data, start, end) if kind is not None and kind.sure else None


def padded(data: bytes, start: int, end: int) -> Span | None:
    """Accept a value that is random behind its zeroes."""
    body = _text(data, start, end).lstrip("A")
    return (start, end) if values.is_random(body, _MIN_KEY_CHARS) else None


def mnemonic(data: bytes, start: int, end: int) -> Span | None:
    """Accept a recovery phrase."""
    return (start, end) if values.is_mnemonic(_text(data, start, end)) else None


def basic(data: bytes, start: int, end: int) -> Span | None:
    """Accept base64 of ``user:password``."""
    raw = data[start:end]
    try:
        decoded = base64.b64decode(raw + b"=" * (-len(raw) % 4)).decode("utf-8")
    except ValueError:
        return None
    user, colon, secret = decoded.partition(":")
    if not colon or not decoded.isprintable() or not (user or secret) or values.is_stand_in(secret or user):
        return None
    return None if secret.lower() in known.DEFAULT_PASSWORDS else (start, end)


def client(data: bytes, start: int, end: int) -> Span | None:
    """Accept a random argument of a call whose name holds a broker, an exchange or a data service."""
    call = data.rfind(b"(", max(0, start - 200), start)
    name = _CLIENT.search(_text(data, max(0, call - 64), call))
    if name is None:
        return None
    lowered = name[1].lower().replace("::", ".")
    is_key_call = bool(_KEY_CALL.search(lowered))
    if _WALLET_CALL.search(name[1]) and values.is_wallet_key(_text(data, start, end)):
        return start, end
    is_service = (
        is_key_call
        or any(service in lowered for service in _LONG_SERVICES)
        or not known.SERVICES.isdisjoint(split_words(name[1]))
    )
    if is_service:
        return strong(data, start, end)
    if _CONSTRUCTOR.search(_MADE_BY.sub("", name[1].replace("::", "."))) and not values.is_hex(
        _text(data, start, end)
    ):
        return strong(data, start, end)
    return None


def service(data: bytes, start: int, end: int) -> Span | None:
    """Accept a random value under the bare name of a service: in capitals any, else one that is no digest or id."""
    before = data[max(0, start - 80) : start].rpartition(b"\n")[2]
    name = re.search(rb"([A-Za-z0-9_.-]{3,40})[\"']?\s{0,4}[=:]\s{0,4}[\"']?\Z", before)
    if name is None or not _SERVICE_LEAD.search(before[: name.start()]):
        return None
    value = _text(data, start, end)
    is_setting = name[1].upper() == name[1] and not before[: name.start()].strip(b" \t\"'{")
    if (
        not is_setting
        and not before.lstrip().startswith((b"export ", b"set ", b"ENV "))
        and values.is_hex(value)
    ):
        return None
    return strong(data, start, end)


def pgpass(data: bytes, start: int, end: int) -> Span | None:
    """Accept the last field of a pgpass line when it can be a password and holds a digit."""
    line = data[max(0, start - 300) : start].rpartition(b"\n")[2]
    if b" " in line.strip() or line.count(b":") != 4:  # noqa: PLR2004  # host, port, database, user
        return None
    return directive(data, start, end)


def directive(data: bytes, start: int, end: int) -> Span | None:
    """Accept a password that holds a digit: a word alone may be the default of the documentation."""
    return password(data, start, end) if any(48 <= byte <= 57 for byte in data[start:end]) else None  # noqa: PLR2004


_LONG_SERVICES: Final = tuple(sorted(word for word in known.SERVICES if len(word) > 3))  # noqa: PLR2004  # "ig" is in "config"

CHECKS: Final[dict[str, Callable[[bytes, int, int], Span | None]]] = {
    "random": random_enough,
    "strong": strong,
    "github": github,
    "aws-id": aws_id,
    "stripe": stripe,
    "telegram": telegram,
    "mailchimp": mailchimp,
    "marked": marked,
    "der": der,
    "url-token": url_token,
    "pem": pem,
    "jwt": jwt,
    "url": url,
    "password": password,
    "command": command,
    "basic": basic,
    "client": client,
    "service": service,
    "pgpass": pgpass,
    "directive": directive,
    "mnemonic": mnemonic,
    "login": login,
    "returned": returned,
    "padded": padded,
}
