"""The value of a credential stays where it was found."""

import gc
import json
import logging
import pickle
import traceback

import pytest

from cas import ArtifactStore, ArtifactStoreConfig
from cas.codec import deflate
from cas.errors import SecretDetectedError
from cas.lmdbenv import Table
from cas.secretscan import SecretScanner, fingerprint, write_baseline
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


SAID = list(everything_said())


@pytest.mark.parametrize("said", SAID, ids=range(len(SAID)))  # their text differs from process to process
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


class Recorder(logging.Handler):
    def __init__(self):
        super().__init__(level=0)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage() + repr(record.args))


@pytest.fixture
def recorder():
    handler, root = Recorder(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(0)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def opened(directory, **settings):
    return ArtifactStore(ArtifactStoreConfig(repo_path=directory, **settings))


RUNS = {
    "file": {"files": {"a.py": TEXT}},
    "file behind a clean one": {"files": {"b.csv": b"1,2\n" * 5000, "a.py": TEXT}},
    "metadata": {"files": {"a.py": b"A = 1\n"}, "metadata": {"note": TEXT.decode()}},
    "file name": {"files": {f"api_key={VALUE}.txt": b"A = 1\n"}},
}


@pytest.mark.parametrize("case", RUNS)
def test_refused_run_leaves_no_value_in_errors_logs_or_store_files(tmp_path, recorder, case):
    stream = deflate(TEXT)
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"ok.py": b"A = 0\n"}, correlation_id="c0")
        with pytest.raises(SecretDetectedError) as refused:
            store.commit_artifacts("w", "t", correlation_id="c1", **RUNS[case])
        batch = store.commit_many(
            [{"workflow_id": "w", "task_id": "t", "correlation_id": "c1", **RUNS[case]}]
        )
        told = [
            repr(refused.value),
            str(refused.value.args),
            json.dumps(refused.value.as_dict()),
            repr(batch),
        ]
        told += [
            "".join(traceback.format_exception(refused.value)),
            repr(store),
            json.dumps(store.stats(), default=str),
        ]
        told += [repr(store.list_artifacts()), *recorder.said]
        assert not [text for text in told if VALUE in text]
        files = [path for path in (tmp_path / ".cas").rglob("*") if path.is_file()]
        assert files
        for path in files:
            data = path.read_bytes()
            assert VALUE.encode() not in data, path
            assert stream not in data, path


def test_refused_large_file_is_never_staged(tmp_path, monkeypatch):
    monkeypatch.setattr("cas.intake.LARGE_FILE_BYTES", 1024)
    noise = Maker("large").random.randbytes(8192)
    (tmp_path / "big.bin").write_bytes(noise + b"\n" + TEXT)
    with opened(tmp_path) as store:
        store.commit_artifacts("w", "t", {"ok.py": b"A = 0\n"}, correlation_id="c0")
        with pytest.raises(SecretDetectedError):
            store.commit_artifacts("w", "t", [tmp_path / "big.bin"], correlation_id="c1")
    data = (tmp_path / ".cas" / "data.mdb").read_bytes()
    assert VALUE.encode() not in data
    assert noise[:64] not in data


def test_waived_run_holds_the_value_in_its_file_and_nowhere_else(tmp_path, recorder):
    waived = TEXT.replace(b"\n", b"  # cas: allow-secret\n")
    with opened(tmp_path) as store:
        result = store.commit_artifacts("w", "t", {"a.py": waived}, correlation_id="c1")
        with store.environment.read() as transaction:
            rows = [value for table in set(Table) - {Table.SEGMENTS} for _, value in transaction.scan(table)]
        told = [repr(result), repr(store.show("c1")), json.dumps(store.scan_all().as_dict()), *recorder.said]
        assert not [text for text in told if VALUE in text]
        assert not [row for row in rows if VALUE.encode() in row]
        assert store.scan_all().waived_count == 1


def test_rescan_and_purge_say_nothing_of_the_value(tmp_path, recorder):
    with opened(tmp_path, scan_for_secrets=False) as store:
        store.commit_artifacts("w", "t", {"a.py": TEXT}, correlation_id="c1")
        report = store.scan_all()
        result = store.purge(report.located[0].finding.fingerprint)
        with pytest.raises(SecretDetectedError) as refused:
            store.commit_artifacts("w", "t", {"a.py": TEXT}, correlation_id="c2")
        with store.environment.read() as transaction:
            rows = [value for table in Table for _, value in transaction.scan(table)]
        told = [
            repr(report),
            json.dumps(report.as_dict()),
            json.dumps(result),
            repr(refused.value),
            *recorder.said,
        ]
        assert not [text for text in told if VALUE in text]
        assert not [row for row in rows if VALUE.encode() in row or deflate(TEXT) in row]


def test_baseline_holds_no_value(tmp_path):
    write_baseline(tmp_path / "base.json", SCANNER.scan(TEXT, "a.py"))
    assert VALUE not in (tmp_path / "base.json").read_text()
