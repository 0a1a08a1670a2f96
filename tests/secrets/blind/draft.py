"""Drafts: how the blind sets write one artifact each, and how they are judged.

A set is two lists of templates, each a file name and a function of a `Draft`. What it says is a credential is noted, so
that a finding counts only on a line where one stands. Values are drawn when the set is made; none was ever valid, and
nothing in the sources looks like one.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from tests.secrets.corpus import B62, B64, DIGITS, HEX, LOWER, UPPER, URLSAFE, Maker


@dataclass(frozen=True)
class Sample:
    """One artifact; ``lines`` are those on which a finding is right, empty for an artifact without credential."""

    name: str
    data: bytes
    is_secret: bool
    lines: frozenset[int]
    number: int


class Draft(Maker):
    """Draws values and notes which of them are credentials."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.noted: list[str] = []

    def s(self, value: str) -> str:
        """Note a credential."""
        self.noted.append(value)
        return value

    def key(self, count: int = 32) -> str:
        return self.s(self.of(B62, count))

    def hex(self, count: int = 32) -> str:
        return self.s(self.of(HEX, count))

    def caps(self, count: int = 20) -> str:
        return self.s(self.of(UPPER + DIGITS, count))

    def low(self, count: int = 24) -> str:
        return self.s(self.of(LOWER + DIGITS, count))

    def b64(self, size: int = 32) -> str:
        return self.s(self.plain_b64(size))

    def safe(self, count: int = 40) -> str:
        return self.s(self.of(B62, 1) + self.of(URLSAFE, count - 2) + self.of(B62, 1))

    def word_pw(self) -> str:
        """A password as people make them."""
        word = self.pick(
            "Falcon", "Winter", "Trader", "Dragon", "Monsoon", "Bluebird", "Kestrel", "Sunrise", "Tango"
        )
        tail = self.pick("!", "#", "@", "$", "_")
        return self.s(
            self.pick(
                f"{word}{self.number(10, 9999)}{tail}",
                f"{word.lower()}{tail}{self.number(100, 9999)}",
                f"{word.replace('a', '4').replace('o', '0')}{tail}{self.number(10, 99)}x",
                f"{word}{tail}{self.pick('Harbor', 'Copper', 'Jasper')}{self.number(1, 99)}",
            )
        )

    def rand_pw(self, count: int = 14) -> str:
        return self.s(self.of(B62, 1) + self.of(B62 + "!#%*_-", count - 2) + self.of(B62, 1))

    # Values that are no credentials.
    def plain_hex(self, count: int = 32) -> str:
        return self.of(HEX, count)

    def plain_b64(self, size: int = 32) -> str:
        return base64.b64encode(self.random.randbytes(size)).decode()

    def plain_key(self, count: int = 32) -> str:
        return self.of(B62, count)

    def url_b64(self, text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def jwt(self) -> str:
        head = self.url_b64(json.dumps({"alg": self.pick("HS256", "RS256", "ES256"), "typ": "JWT"}))
        body = self.url_b64(
            json.dumps({"sub": str(self.number(1, 10**9)), "exp": self.number(10**9, 2 * 10**9)})
        )
        return self.s(f"{head}.{body}.{self.of(URLSAFE, 43)}")

    def pem(self, kind: str = "", size: int = 600) -> list[str]:
        body = self.plain_b64(size)
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        self.s("-----" + f"BEGIN {kind}PRIVATE KEY-----")
        return [f"-----BEGIN {kind}PRIVATE" + " KEY-----", *lines, f"-----END {kind}PRIVATE" + " KEY-----"]

    def aws_id(self) -> str:
        return self.s("AK" + "IA" + self.of(UPPER + "234567", 16))

    def aws_secret(self) -> str:
        return self.s(self.of(B64, 40))

    def iso(self) -> str:
        return f"{self.date()}T{self.number(10, 23)}:{self.number(10, 59)}:{self.number(10, 59)}Z"


def make(templates_with, templates_without, *, seed: str, draws: int) -> list[Sample]:
    """Return ``draws`` samples of each template."""
    samples = []
    for is_secret, templates in ((True, templates_with), (False, templates_without)):
        for number, (name, write) in enumerate(templates):
            samples += [
                _sample(f"{seed}/{is_secret}/{number}/{n}", name, write, is_secret, number)
                for n in range(draws)
            ]
    return samples


def _sample(seed: str, name: str, write, is_secret: bool, number: int) -> Sample:
    draft = Draft(seed)
    text = write(draft)
    if is_secret and not draft.noted:
        raise ValueError(f"template {number} of {name} notes no credential")
    plain = (
        text.decode("utf-16") if isinstance(text, bytes) and text[:2] in {b"\xff\xfe", b"\xfe\xff"} else text
    )
    data = text if isinstance(text, bytes) else text.encode()
    lines = set()
    if is_secret and isinstance(plain, str):
        for value in draft.noted:
            at = plain.find(value)
            lines |= {plain.count("\n", 0, at) + 1} if at >= 0 else set()
    return Sample(name, data, is_secret, frozenset(lines), number)


def judge(samples, scan):
    """Return precision, recall, the missed samples and those falsely accused."""
    right, missed, accused = 0, [], []
    for sample in samples:
        found = {finding.line for finding in scan(sample.data, sample.name)}
        if sample.is_secret:
            if found and (not sample.lines or found & sample.lines):
                right += 1
            else:
                missed.append(sample)
        elif found:
            accused.append(sample)
    return right / max(1, right + len(accused)), right / max(1, right + len(missed)), missed, accused
