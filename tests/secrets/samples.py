"""Makes the corpus and divides it: one half to tune on, one half to report on."""

from __future__ import annotations

import random

from tests.secrets.corpus import POSITIVE, Maker, Sample
from tests.secrets.ordinary import NEGATIVE

SEED = 20260214


def make_samples(count: int, *, part: str) -> list[Sample]:
    """Return ``count`` samples with a credential and as many without; ``part`` is ``tune`` or ``report``."""
    return [
        _make(family, f"{SEED}/{part}/{index}") for family in (POSITIVE, NEGATIVE) for index in range(count)
    ]


def _make(families, seed: str) -> Sample:
    choice = random.Random(f"{seed}/family")
    (template,) = choice.choices(
        [family for family, _ in families], weights=[weight for _, weight in families]
    )
    name, text = template(Maker(seed))
    is_secret = families is POSITIVE
    if isinstance(text, bytes):
        return Sample(name, text, _line_of_value(text) if is_secret else 0, template.__name__)
    before, mark, after = text.partition("@") if is_secret and _is_marked(text) else (text, "", "")
    return Sample(
        name,
        (before + after).encode(),
        before.count("\n") + 1 if is_secret and mark else int(is_secret),
        template.__name__,
    )


def _is_marked(text: str) -> bool:
    return any(line.startswith("@") for line in text.split("\n"))


def _line_of_value(data: bytes) -> int:
    return 2 if data.startswith("first line".encode("utf-16-le")) else 1


def judge(samples, scan):
    """Return precision, recall, and the samples that were judged wrongly."""
    true, false, missed, wrong = 0, 0, 0, []
    for sample in samples:
        lines = scan(sample)
        if sample.line and lines:
            true += 1
        elif sample.line:
            missed += 1
            wrong.append(sample)
        elif lines:
            false += 1
            wrong.append(sample)
    return true / max(1, true + false), true / max(1, true + missed), wrong
