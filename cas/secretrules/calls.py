"""Rules: credentials handed to a function, given back by one, set by a command, or sent in a cookie.

Invariant: data only. There is no name in front of the value here, so the call is what tells; each guard admits all
that its pattern matches.
"""

from __future__ import annotations

from typing import Final

from cas.secretrules.model import START, Rule

_OPEN: Final = rb"[bru]{0,2}\\{0,3}[\"']"
_OPEN_GUARD: Final = rb"[bru]*\\*[\"']"
_CLOSE: Final = rb"\\{0,3}[\"']"
_BASE58: Final = rb"[1-9A-HJ-NP-Za-km-z]"

CALLS: Final[tuple[Rule, ...]] = (
    Rule(
        id="signing-key",
        description="key handed to a signing or encrypting function",
        pattern=rb"(?i:hmac\.(?:new|digest|hmac)|fernet|aesgcm|chacha20poly1305)\(\s{0,40}(?:key\s{0,3}=\s{0,3})?(?:[A-Za-z0-9_.]{1,40}\(\s{0,8})?"
        + _OPEN
        + rb"(?P<v>[^\"'\s\\]{16,128})"
        + _CLOSE,
        check="strong",
        rank=30,
        guard=rb"(?:hmac\.(?:new|digest|hmac)|fernet|aesgcm|chacha20poly1305)\(\s*(?:key\s*=\s*)?(?:[a-z0-9_.]+\(\s*)?"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]{16}",
        literals=(b"hmac.", b"fernet(", b"aesgcm(", b"chacha20poly1305("),
    ),
    Rule(
        id="token-signing-key",
        description="key handed to a function that signs tokens or messages",
        pattern=rb"(?i:jwt\.(?:encode|decode|sign|verify)|createhmac)\([^()\n]{1,160}?,\s{0,40}(?:key\s{0,3}=\s{0,3})?"
        + _OPEN
        + rb"(?P<v>[^\"'\s\\]{16,128})"
        + _CLOSE,
        check="strong",
        rank=30,
        guard=rb"(?:jwt\.(?:encode|decode|sign|verify)|createhmac)\([^()\n]+,\s*(?:key\s*=\s*)?"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]{16}",
        literals=(b"jwt.", b"createhmac("),
    ),
    Rule(
        id="returned-credential",
        description="credential that a function gives back",
        pattern=rb"(?i:key|secret|token|password|passphrase)[A-Za-z0-9_]{0,24}\([^()\n]{0,80}\)[^\n:{=\"']{0,40}(?:[:{]|=>)"
        rb"\s{0,40}(?:return\s{1,4})?" + _OPEN + rb"(?P<v>[^\"'\s\\]{16,128})" + _CLOSE,
        check="returned",
        rank=25,
        guard=rb"(?:key|secret|token|password|passphrase)[a-z0-9_]*\([^()\n]*\)[^\n:{=\"']*(?:[:{]|=>)\s*(?:return\s+)?"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]{16}",
        literals=(b"key", b"secret", b"token", b"password", b"passphrase"),
    ),
    Rule(
        id="login-pair",
        description="user and password handed to a login",
        pattern=rb"(?i:session|log_?in|sign_?in|authenticate|credentials|auth(?:provider)?)\(\s{0,8}"
        + _OPEN
        + rb"[^\"'\s\\]{1,64}"
        + _CLOSE
        + rb"\s{0,3},\s{0,8}"
        + _OPEN
        + rb"(?P<v>[^\"'\n\\]{6,128})"
        + _CLOSE,
        check="login",
        rank=28,
        guard=rb"(?:session|log_?in|sign_?in|authenticate|credentials|auth(?:provider)?)\(\s*"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]+\\*[\"']\s*,\s*"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]{6}",
        literals=(b"session", b"login", b"log_in", b"signin", b"sign_in", b"auth", b"credentials"),
    ),
    Rule(
        id="connect-password",
        description="password handed to a connection by its place",
        pattern=rb"(?i:connect(?:ion)?|open_connection|getconnection)\(\s{0,8}(?:(?:"
        + _OPEN
        + rb"[^\"'\n\\]{1,128}"
        + _CLOSE
        + rb"|\d{1,5})\s{0,3},\s{0,8}){2,3}"
        + _OPEN
        + rb"(?P<v>[^\"'\n\\]{6,128})"
        + _CLOSE,
        check="login",
        rank=28,
        guard=rb"(?:connect(?:ion)?|open_connection|getconnection)\(\s*(?:(?:"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]+\\*[\"']|[0-9]+)\s*,\s*){2,3}"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]{6}",
        literals=(b"connect(", b"connection("),
    ),
    Rule(
        id="ftp-password",
        description="password handed to a client of FTP by its place",
        pattern=rb"(?i:ftp(?:_?tls)?)\(\s{0,8}(?:"
        + _OPEN
        + rb"[^\"'\s\\]{1,128}"
        + _CLOSE
        + rb"\s{0,3},\s{0,8}){2}"
        + _OPEN
        + rb"(?P<v>[^\"'\n\\]{6,128})"
        + _CLOSE,
        check="directive",
        rank=28,
        guard=rb"ftp(?:_?tls)?\(\s*"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]+\\*[\"']\s*,\s*"
        + _OPEN_GUARD
        + rb"[^\"'\s\\]+\\*[\"']\s*,\s*"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]{6}",
        literals=(b"ftp(", b"ftptls(", b"ftp_tls("),
    ),
    Rule(
        id="secure-string",
        description="password made a secure string of PowerShell",
        pattern=rb"(?i:convertto-securestring)\s{1,3}(?:-(?i:string)\s{1,3})?[\"'](?P<v>[^\"'\n$][^\"'\n]{5,127})[\"']",
        check="directive",
        rank=18,
        guard=rb"convertto-securestring\s+(?:-string\s+)?[\"'][^\"'\n$][^\"'\n]{5}",
        literals=(b"convertto-securestring",),
    ),
    Rule(
        id="collection-key",
        description="API key in the authentication part of a collection of requests",
        pattern=rb"\"key\"\s{0,3}:\s{0,3}\"value\"\s{0,3},\s{0,40}\"value\"\s{0,3}:\s{0,3}\"(?P<v>[A-Za-z0-9_.\-+/=]{16,128})\"",
        check="strong",
        rank=28,
        guard=rb"\"key\"\s*:\s*\"value\"\s*,\s*\"value\"\s*:\s*\"[a-z0-9_.\-+/=]{16}",
        literals=(b'"key"',),
    ),
    Rule(
        id="set-password",
        description="password handed to a function that sets it",
        pattern=rb"(?i:set_?(?:password|passphrase|secret)(?:_?string)?)\(\s{0,8}(?:"
        + _OPEN
        + rb"[^\"'\n\\]{1,128}"
        + _CLOSE
        + rb"\s{0,3},\s{0,8}){0,2}"
        + _OPEN
        + rb"(?P<v>[^\"'\n\\]{6,128})"
        + _CLOSE
        + rb"\s{0,8}\)",
        check="directive",
        rank=28,
        guard=rb"set_?(?:password|passphrase|secret)(?:_?string)?\(\s*(?:"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]+\\*[\"']\s*,\s*){0,2}"
        + _OPEN_GUARD
        + rb"[^\"'\n\\]{6}",
        literals=(b"setpass", b"set_pass", b"setsecret", b"set_secret"),
    ),
    Rule(
        id="session-cookie",
        description="session in a cookie",
        pattern=rb"(?i:session|sess|sid|auth|token)[A-Za-z0-9_.-]{0,16}\\{0,3}[\"']?\s{0,3}[=:]\s{0,3}\\{0,3}[\"']?"
        rb"(?P<v>[A-Za-z0-9%._~+/-]{20,512})",
        check="strong",
        rank=12,
        guard=rb"(?:cookies?[\"'\\]*\s*[:=,]|curl[^\n]*\s-b\s)[^\n]*(?:session|sess|sid|auth|token)[a-z0-9_.\-]*\\*[\"']?\s*[=:]\s*\\*[\"']?"
        rb"[a-z0-9%._~+/\-]{20}",
        literals=(b"session", b"sess", b"sid", b"auth", b"token"),
    ),
    Rule(
        id="command-secret",
        description="secret set by a command",
        pattern=rb"(?i:secrets?)[ \t]{1,3}(?:set|put|add)[ \t]{1,3}[A-Za-z0-9_-]{2,64}[ \t=]{1,3}"
        rb"(?:--?(?:b|body|v|value)[ \t=]{1,3})?[\"']?(?P<v>[^\s\"'`$=]{12,256})",
        check="strong",
        rank=30,
        guard=rb"secrets?[ \t]+(?:set|put|add)[ \t]+[a-z0-9_\-]+[ \t=]+(?:--?(?:b|body|v|value)[ \t=]+)?"
        rb"[\"']?[^\s\"'`$=]{12}",
        literals=(b"secret",),
    ),
    Rule(
        id="twitter-bearer-token",
        description="Twitter bearer token",
        pattern=rb"(?i:bearer)[A-Za-z_ ]{0,12}[\"']?\s{0,3}[:=]?\s{0,3}[\"']?"
        rb"(?P<v>A{18,24}[A-Za-z0-9%_-]{60,140})(?![A-Za-z0-9%_-])",
        check="padded",
        rank=45,
        guard=rb"bearer[a-z_ ]*[\"']?\s*[:=]?\s*[\"']?a{18}[a-z0-9%_\-]{60}",
        literals=(b"bearer",),
    ),
    Rule(
        id="bitcoin-private-key",
        description="Bitcoin private key in wallet import format",
        pattern=rb"(?i:wif|private|bitcoin|wallet)[^\n]{0,40}?"
        + START
        + rb"(?P<v>(?:5"
        + _BASE58
        + rb"{50}|[KL]"
        + _BASE58
        + rb"{51}))(?![A-Za-z0-9])",
        check="strong",
        rank=40,
        guard=rb"(?:wif|private|bitcoin|wallet)[^\n]*[5kl][1-9a-z]{50}",
        literals=(b"wif", b"private", b"bitcoin", b"wallet"),
    ),
)
