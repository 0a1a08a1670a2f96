"""The value of a credential stays where it was found."""

import gc
import json
import pickle
import traceback

import pytest

from cas.errors import SecretDetectedError
from cas.secretscan import SecretScanner, fingerprint
from tests.secrets.corpus import B62, Maker
from tests.secrets.samples import make_samples

SCANNER = SecretScanner(engine="python")
VALUE = "Zq7" + "wLm2" * 6 + "Tk9"
TEXT = f'api_key = "{VALUE}"\n'.encode()


def everything_said():
    findings, waivers = SCANNER.scan_waived(TEXT + TEXT.replace(b"\n", b"  # cas: allow-secret\n"), "a.py")
    error = SecretDetectedError(findings)
    try:
        raise error
    except SecretDetectedError:
        trace = traceback.format_exc()
    stream = SCANNER.stream("a.py")
    stream.feed(TEXT)
    stream.finish()
    yield from (
        repr(findings),
        repr(waivers),
        str(error),
        repr(error),
        repr(error.args),
        trace,
        repr(SCANNER),
        repr(stream),
    )
    yield from (
        json.dumps([finding.as_dict() for finding in findings]),
        json.dumps(error.as_dict()),
        pickle.dumps(error).decode("latin-1"),
    )
    yield from (repr(vars(stream)), repr(vars(SCANNER)), json.dumps([waiver.as_dict() for waiver in waivers]))


@pytest.mark.parametrize("said", list(everything_said()))
def test_value_is_in_nothing_that_is_said(said):
    assert VALUE not in said


def test_value_is_kept_by_no_object_after_the_scan():
    marker = Maker("kept").of(B62, 30)
    stream = SCANNER.stream("a.py")
    stream.feed(f'api_key = "{marker}"\n'.encode())
    kept = (stream.finish(), stream, SCANNER)
    gc.collect()
    assert len(kept[0]) == 1
    assert not [
        item
        for item in gc.get_objects()
        if isinstance(item, list | tuple | dict | set) and _holds(item, marker)
    ]


def _holds(container, marker):
    items = list(container.values()) if isinstance(container, dict) else list(container)
    return any(marker in item for item in items if isinstance(item, str)) or any(
        marker.encode() in item for item in items if isinstance(item, bytes)
    )


def test_fingerprint_is_stable_and_tells_values_and_rules_apart():
    (first,), (again,) = SCANNER.scan(TEXT, "a.py"), SCANNER.scan(b"\n\n  " + TEXT, "b.yaml")
    assert first.fingerprint == again.fingerprint == fingerprint(first.rule, VALUE.encode())
    assert len({fingerprint("a", b"x"), fingerprint("b", b"x"), fingerprint("a", b"y")}) == 3
    assert len(first.fingerprint) == 32


def test_private_key_has_one_fingerprint_however_its_lines_are_broken():
    sample = next(s for s in make_samples(200, part="tune") if s.template == "keys" and s.name == "id_rsa")
    plain = SCANNER.scan(sample.data, "id_rsa")
    escaped = SCANNER.scan(json.dumps({"k": sample.data.decode()}).encode(), "a.json")
    assert [finding.fingerprint for finding in plain] == [finding.fingerprint for finding in escaped]
