"""Rules: credentials on command lines, and in the files that programs read their login from.

Invariant: data only. The program or the option tells what the value is; each guard admits all that its pattern matches.
"""

# A pattern reads best as the one line that it is.
# ruff: noqa: E501

from __future__ import annotations

from typing import Final

from cas.secretrules.model import Rule

_SHELL_VALUE: Final = rb"[\"']?(?P<v>[^\s\"'`$<>|][^\s\"'`]{5,128})"
_SHELL_GUARD: Final = rb"[\"']?[^\s\"'`$<>|][^\s\"'`]{5}"
_WORD: Final = rb"[^\s]{1,128}[ \t]{1,4}"
_WORD_GUARD: Final = rb"[^\s]+[ \t]+"
_SESSION: Final = rb"[A-Za-z0-9_.-]{0,24}(?:session|sess|sid|auth|token)[A-Za-z0-9_.-]{0,24}"


def _command(
    rule_id: str, description: str, begun: bytes, guard: bytes, *words: bytes, check: str = "directive"
) -> Rule:
    return Rule(
        id=rule_id,
        description=description,
        pattern=begun + _SHELL_VALUE,
        check=check,
        rank=30,
        guard=guard + _SHELL_GUARD,
        literals=words,
    )


COMMANDS: Final[tuple[Rule, ...]] = (
    Rule(
        id="piped-password",
        description="password written into a program's standard input",
        pattern=rb"(?i:echo|printf)[ \t]{1,4}(?:-[a-zA-Z]{1,3}[ \t]{1,4})?[\"']?(?:[A-Za-z0-9_.-]{1,64}:(?=[^\n|]{1,160}\|[ \t]{0,4}(?:sudo[ \t]{1,4})?chpasswd))?"
        rb"(?P<v>[^\s\"'`$|\\]{6,128})(?:\\n)?[\"']?[ \t]{0,4}\|[^\n]{0,160}?"
        rb"(?:--password-stdin|--with-token|--pass(?:word|phrase)?-fd|--stdin|[ \t]-S[ \t]|passwd|login)",
        check="directive",
        rank=32,
        guard=rb"(?:echo|printf)[ \t]+[^\n|]+\|[^\n]*(?:--password-stdin|--with-token|--pass(?:word|phrase)?-fd|--stdin|[ \t]-s[ \t]|passwd|login)",
        literals=(b"echo", b"printf"),
    ),
    _command(
        "command-option-password",
        "password given to an option of a program",
        rb"(?<=[ \t])-(?:[paPw]|storepass|keypass|srcstorepass|deststorepass|passphrase)[ \t=]{0,3}",
        rb"(?:^|[^a-z0-9_.\-])(?:ldap[a-z]+|sqlcmd|(?:un)?zip|7z[ar]?|keytool|jarsigner|twine|az[ \t]+[a-z]+|bcp|isql|impala-shell|beeline|openconnect|helm[ \t]+registry[ \t]+login|podman[ \t]+login)"
        rb"[ \t](?:[^\n]*[ \t])?-(?:[paw]|storepass|keypass|srcstorepass|deststorepass|passphrase)[ \t=]*",
        b"-p",
        b"-w",
        b"-a",
        b"-storepass",
        b"-keypass",
        b"-srcstorepass",
        b"-deststorepass",
    ),
    _command(
        "command-argument-password",
        "password as the last argument of a program",
        rb"(?i:htpasswd[ \t]{1,4}(?:-[a-zA-Z]{1,8}[ \t]{1,4}){1,4}"
        + _WORD
        + _WORD
        + rb"|mc[ \t]{1,4}(?:alias[ \t]{1,4}set|config[ \t]{1,4}host[ \t]{1,4}add)[ \t]{1,4}"
        + _WORD
        + _WORD
        + _WORD
        + rb"|net[ \t]{1,4}use[ \t]{1,4}"
        + _WORD
        + rb"(?:\\\\"
        + _WORD
        + rb")?)",
        rb"(?:htpasswd[ \t]+(?:-[a-z]+[ \t]+)+"
        + _WORD_GUARD
        + _WORD_GUARD
        + rb"|mc[ \t]+(?:alias[ \t]+set|config[ \t]+host[ \t]+add)[ \t]+"
        + _WORD_GUARD
        + _WORD_GUARD
        + _WORD_GUARD
        + rb"|net[ \t]+use[ \t]+"
        + _WORD_GUARD
        + rb"(?:\\\\"
        + _WORD_GUARD
        + rb")?)",
        b"htpasswd",
        b"mc ",
        b"net ",
    ),
    _command(
        "command-joined-password",
        "password behind the user on a command line",
        rb"(?i:smbclient[^\n]{1,160}?[ \t]-U[ \t]{0,3}[\"']?[^\s%\"']{1,64}%|lftp[^\n]{0,160}?[ \t]-u[ \t]{0,3}[\"']?[^\s,\"']{1,64},|sqlplus[ \t]{1,4}(?:-[a-z]{1,8}[ \t]{1,4})?[\"']?[A-Za-z0-9_]{1,64}/(?=[^\s@]{6,128}@))",
        rb"(?:smbclient[^\n]*[ \t]-u[ \t]*[\"']?[^\s%\"']+%|lftp[^\n]*[ \t]-u[ \t]*[\"']?[^\s,\"']+,|sqlplus[ \t]+(?:-[a-z]+[ \t]+)?[\"']?[a-z0-9_]+/)",
        b"smbclient",
        b"lftp",
        b"sqlplus",
    ),
    _command(
        "command-setting-token",
        "token set by a program's own configuration command",
        rb"(?i:(?:npm|yarn|pnpm|poetry|pip|git|gh|bundle|cargo|conda|heroku|aws)[ \t]{1,4}config[ \t]{1,4}(?:set[ \t]{1,4})?(?:--?[a-z-]{1,16}[ \t]{1,4})?[^\s]{0,120}(?:token|password|secret|auth)[A-Za-z0-9_.-]{0,40}[ \t=]{1,4})",
        rb"(?:npm|yarn|pnpm|poetry|pip|git|gh|bundle|cargo|conda|heroku|aws)[ \t]+config[ \t]+(?:set[ \t]+)?(?:--?[a-z\-]+[ \t]+)?[^\s]*(?:token|password|secret|auth)[a-z0-9_.\-]*[ \t=]+",
        b"npm",
        b"yarn",
        b"poetry",
        b"pip",
        b"git",
        b"gh ",
        b"bundle",
        b"cargo",
        b"conda",
        b"heroku",
        b"aws",
        check="strong",
    ),
    Rule(
        id="expected-password",
        description="password that a script types",
        pattern=rb"(?i:pass(?:word|phrase|code)?)[^\n\"]{0,40}\"[^\n]{0,24}\n\s{0,16}(?:send(?:line)?|exp_send)[ \t]{1,4}(?:--[ \t]{1,4})?\"(?P<v>[^\"\n\\$]{6,128})(?:\\[rn])?\"",
        check="directive",
        rank=30,
        guard=rb"pass(?:word|phrase|code)?[^\n\"]*\"[^\n]*\n\s*(?:send(?:line)?|exp_send)[ \t]+(?:--[ \t]+)?\"[^\"\n\\$]{6}",
        literals=(b"pass",),
    ),
    Rule(
        id="cookie-record-session",
        description="session in a browser's record of a cookie",
        pattern=rb"\\{0,3}\"name\\{0,3}\"\s{0,4}:\s{0,4}\\{0,3}\"(?i:"
        + _SESSION
        + rb")\\{0,3}\"\s{0,4},\s{0,40}\\{0,3}\"value\\{0,3}\"\s{0,4}:\s{0,4}\\{0,3}\""
        rb"(?P<v>[A-Za-z0-9%._~+/=-]{16,512})(?=[^{}]{1,200}\"(?:domain|httpOnly|secure|sameSite|path)\\{0,3}\")",
        check="strong",
        rank=18,
        guard=rb"\"name\\*\"\s*:\s*\\*\"[a-z0-9_.\-]*(?:session|sess|sid|auth|token)[a-z0-9_.\-]*\\*\"\s*,\s*\\*\"value\\*\"\s*:\s*\\*\"[a-z0-9%._~+/=\-]{16}",
        literals=(b'"name',),
    ),
    Rule(
        id="cookie-file-session",
        description="session in a file of cookies",
        pattern=rb"\t(?:TRUE|FALSE)\t\d{1,12}\t(?i:" + _SESSION + rb")\t(?P<v>[A-Za-z0-9%._~+/-]{16,512})",
        check="strong",
        rank=30,
        guard=rb"\t(?:true|false)\t[0-9]+\t[a-z0-9_.\-]*(?:session|sess|sid|auth|token)[a-z0-9_.\-]*\t[a-z0-9%._~+/\-]{16}",
        literals=(b"\ttrue\t", b"\tfalse\t"),
    ),
)
