"""Both engines, every way of cutting, every thread: the same findings."""

import itertools
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cas.config import ArtifactStoreConfig
from cas.errors import StateError
from cas.secretscan import SecretScanner, scanner
from cas.secretscan.engine import CELL_BYTES
from tests.secrets.corpus import B62, HEX, Maker, telling
from tests.secrets.samples import make_samples

SAMPLES = make_samples(150, part="tune")
PYTHON = SecretScanner(engine="python")


@pytest.fixture(scope="module")
def hyperscan():
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    return SecretScanner(engine="hyperscan")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scanner, "BLOCK_BYTES", 32 * 1024)


# Pieces out of which near-credentials are put together.
PIECES = st.sampled_from(
    [
        "password",
        "token",
        "api_key",
        "apiKey",
        "secret",
        "aws_secret_access_key",
        "token_count",
        "pwd",
        "pw",
        "db_pw",
        "Client(",
        "('",
        "Bearer ",
        "://",
        "@",
        "-----BEGIN ",
        "=",
        " = ",
        ": ",
        '"',
        "'",
        "\\",
        "\\n",
        "\n",
        " ",
        ",",
        "{",
        "}",
        "(",
        ")",
        "--",
        "is ",
        "value",
        "str",
        "-u ",
        "u:",
        "0x",
        "é",
        "\0",
        "#",
    ]
)
VALUES = st.builds(lambda seed: Maker(seed).password(), st.text(min_size=1, max_size=3)) | st.builds(
    lambda seed: telling(Maker(seed)), st.text(min_size=1, max_size=3)
)
TEXTS = st.lists(
    PIECES | VALUES | st.text(alphabet=B62, max_size=20) | st.text(alphabet=HEX, max_size=40), max_size=25
)


@given(parts=TEXTS, name=st.sampled_from(["a.py", "a.env", "a.json", "a.log"]))
def test_engines_on_any_pieces_agree(hyperscan, parts, name):
    data = "".join(parts).encode()
    assert hyperscan.scan(data, name) == PYTHON.scan(data, name)


@given(
    sample=st.sampled_from(SAMPLES),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4), st.integers(0, 5)), max_size=6),
)
def test_engines_on_mutated_samples_agree(hyperscan, sample, edits):
    data = sample.data
    for place, inserted, removed in edits:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    assert hyperscan.scan(data, sample.name) == PYTHON.scan(data, sample.name)


@pytest.mark.usefixtures("small_blocks")
@given(
    picks=st.lists(st.integers(0, len(SAMPLES) - 1), min_size=1, max_size=8),
    filler=st.integers(0, 9000),
    sizes=st.lists(st.integers(1, 40_000), min_size=1),
)
def test_stream_of_any_chunks_finds_what_the_whole_holds(picks, filler, sizes):
    data = b"".join(SAMPLES[pick].data + b"\n" + b"0123456.789,\n" * (filler // 13) for pick in picks)
    whole = PYTHON.stream("x.txt")
    whole.feed(data)
    stream = PYTHON.stream("x.txt")
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        stream.feed(data[at : at + size])
        at += size
    assert stream.finish() == whole.finish() == PYTHON.scan(data, "x.txt")


@pytest.mark.parametrize("back", [0, 1, 7, 20, 40])
def test_first_look_credential_across_two_looks_is_seen(monkeypatch, back):
    monkeypatch.setattr(scanner, "_LOOK_BYTES", 32 * 1024)
    value = "gh" + "p_" + Maker("boundary").of(B62, 36)
    lead = b"1.25,\n" * 10_000
    data = lead[: 32 * 1024 - back] + b"\n" + value.encode() + b"\n" + lead
    assert not PYTHON.has_nothing(data)
    assert PYTHON.has_nothing(data.replace(value.encode(), b"1.25"))


@pytest.mark.parametrize("back", [0, 1, 7, 20, 40])
@pytest.mark.usefixtures("small_blocks")
def test_stream_credential_across_a_block_boundary_is_found(back):
    value = "gh" + "p_" + Maker("boundary").of(B62, 36)
    lead = b"1.25,\n" * 10_000
    data = lead[: 32 * 1024 - back] + b"\n" + value.encode() + b"\n" + lead
    (finding,) = PYTHON.scan(data, "x.csv")
    assert finding.line == data[: data.index(value.encode())].count(b"\n") + 1
    assert finding.column == 1


@pytest.mark.usefixtures("small_blocks")
def test_stream_memory_is_bounded_by_the_block():
    stream = PYTHON.stream("x.bin")
    for _ in range(40):
        stream.feed(bytes(8192))
    assert len(stream._buffer) < 32 * 1024 + 3 * 16 * 1024


def test_stream_finished_refuses_more():
    stream = PYTHON.stream("x")
    stream.finish()
    with pytest.raises(StateError):
        stream.feed(b"x")
    with pytest.raises(StateError):
        stream.finish()


def test_scanner_shared_by_threads_agrees_with_itself(hyperscan):
    expected = [hyperscan.scan(sample.data, sample.name) for sample in SAMPLES]
    found = {}

    def work(index):
        found[index] = [hyperscan.scan(sample.data, sample.name) for sample in SAMPLES]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == [expected] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_scanner_after_fork_still_works(hyperscan):
    sample = next(sample for sample in SAMPLES if sample.line)
    expected = hyperscan.scan(sample.data, sample.name)
    child = os.fork()
    if child == 0:
        os._exit(0 if hyperscan.scan(sample.data, sample.name) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_scanner_takes_any_buffer():
    sample = next(sample for sample in SAMPLES if sample.line)
    expected = PYTHON.scan(sample.data, sample.name)
    assert (
        PYTHON.scan(memoryview(sample.data), sample.name)
        == PYTHON.scan(bytearray(sample.data), sample.name)
        == expected
    )


def test_pattern_that_may_match_at_every_byte_has_one_candidate_in_each_cell():
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    config = ArtifactStoreConfig(secret_patterns=["[a-z]{9}(?=!)"])
    text = b"a" * 100_000
    compiled = SecretScanner(config, engine="hyperscan")
    assert len(compiled._engine(0).candidates(text)) == 100_000 // CELL_BYTES + 1
    assert compiled.scan(text, "x") == []
    assert [finding.column for finding in compiled.scan(text + b"!", "x")] == [99_992]


def test_auto_engine_small_job_does_not_compile(monkeypatch):
    monkeypatch.setattr(scanner, "_ENGINES", {})
    auto = SecretScanner()
    auto.scan(b"x" * 1000 + b"token", "x")
    assert {engine for engine, _ in scanner._ENGINES} <= {"python"}
    auto.warm()
    assert {engine for engine, _ in scanner._ENGINES} == {"python", auto._choice}


def test_auto_engine_compiles_for_what_looks_like_a_batch(monkeypatch):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    monkeypatch.setattr(scanner, "_ENGINES", {})
    clock = itertools.count(0, 20_000_000)
    monkeypatch.setattr(scanner, "now_ns", lambda: next(clock))
    auto = SecretScanner()
    for number in range(7):
        assert ("hyperscan" in {engine for engine, _ in scanner._ENGINES}) == (number > 5)
        auto.scan(b"1.25,\n", "a.csv")  # a fiftieth of a second by that clock


def test_auto_engine_compiles_for_a_block_that_may_take_the_slow_one_longer(monkeypatch):
    pytest.importorskip("hyperscan", reason="no wheel for this machine")
    monkeypatch.setattr(scanner, "_ENGINES", {})
    SecretScanner().scan(b"token = 1\n" * 30_000, "a.py")
    assert "hyperscan" in {engine for engine, _ in scanner._ENGINES}
