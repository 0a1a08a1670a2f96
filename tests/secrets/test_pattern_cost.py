"""What a user's pattern may cost: the bound that is shown beforehand, and the allowance while it runs."""

import re
import time

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cas import ArtifactStore, ArtifactStoreConfig
from cas.errors import ConfigError, InvalidFileError
from cas.secretscan import SecretScanner, allowance, steps, validate_patterns
from cas.secretscan.automaton import build
from cas.secretscan.engine import WINDOW_BYTES
from cas.secretscan.runaway import runaway_reason
from cas.secretscan.tree import Bytes, Choice, Look, Repeat, Sequence, can_be_empty, parse
from gitexport import import_repository
from tests.secrets.test_silence_everywhere import OldRepository, run_cas

# Each takes minutes or more in one kilobyte of some text.
RUNS_AWAY = {
    "optional bytes": "a?" * 22 + "b",
    "bounded repeats": r"\d{0,80}\d{0,80}\d{0,80}x",
    "bounded repeats behind fixed text": r"key=\w{0,90}\w{0,90}\w{0,90}\w{0,90}!",
    "loops before a back reference": r"(b)a*a*a*\1",
    "loop in a condition on a group": r"(x)?y(?(1)(a+)+$|z)",
    "look ahead in a loop": "(?:a(?=a*b))*c",
    "nested look ahead": r"\w+(?=\w*(?=\w*!))",
    "choices in a row": "(?:ab|a|b)?" * 20 + "c",
    "polynomial": "a*a*b",
}


@pytest.mark.parametrize("case", RUNS_AWAY)
def test_pattern_that_costs_too_much_in_one_window_is_refused_by_name_and_reason(case):
    with pytest.raises(ConfigError, match=r"can run away: .+") as caught:
        validate_patterns(["fine-[0-9]{4}", RUNS_AWAY[case]])
    assert f"secret_patterns[1] {RUNS_AWAY[case][:200]!r}" in caught.value.message


USUAL = [
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    r"(?i)(?:internal|desk)[-_ ]?(?:key|id)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{20,}={0,2}[\"']?",
    r"(?s)-----BEGIN.*?-----END",
    r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+=]{40}(?![A-Za-z0-9/+=])",
    r"(?i)acme[\w.-]{0,50}?(?:\s|=|:){1,5}(?:'|\")?([0-9a-z]{32})(?:['\"]|\s|$)",
    r"sk-[a-z0-9]{2,12}-[A-Za-z0-9_-]{40,140}(?![A-Za-z0-9_-])",
    r"foo.*bar.*",
    r"(?:[a-z]+\.)*[a-z]+@corp",
    "[A-Z0-9]{64}" * 10,
    r"key=\d+\d+x",
    r"(?:a|b)*c(\d)\1",
]


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_pattern_is_taken(pattern):
    validate_patterns([pattern])


WORDS = [f"{chr(97 + number % 26)}{number:03}zq" for number in range(150)]


def test_long_lists_of_words_are_judged_in_a_moment():
    started_ns = time.thread_time_ns()
    validate_patterns(
        ["|".join(WORDS), rf"(?i)(?:{'|'.join(WORDS)})\s*[=:]\s*\w+", f"(?:{'|'.join(WORDS[:30])})+!"]
    )
    with pytest.raises(ConfigError, match="exponential"):
        validate_patterns([f"(?:{'|'.join([*WORDS[:30], 'a000zqa000zq'])})+!"])
    assert time.thread_time_ns() - started_ns < 20_000_000_000


@st.composite
def trees(draw, depth=3):
    kind = draw(st.sampled_from(["bytes"] * 2 + ["sequence", "choice", "repeat", "look"] * (depth > 0)))
    inner = trees(depth=depth - 1)
    if kind == "bytes":
        return Bytes(sum(1 << byte for byte in draw(st.sets(st.sampled_from(b"ab"), min_size=1))))
    if kind == "sequence":
        return Sequence(tuple(draw(st.lists(inner, min_size=1, max_size=3))))
    if kind == "choice":
        return Choice(tuple(draw(st.lists(inner, min_size=1, max_size=3))))
    if kind == "look":
        return Look(draw(inner))
    least = draw(st.integers(0, 2))
    return Repeat(draw(inner), least, draw(st.sampled_from([None, least, least + 1, least + 5])))


class Matcher:
    """Matches trees as Python does, greedily and one way after the other, and counts the bytes compared."""

    def __init__(self, text):
        self.text = text
        self.steps = 0

    def ends(self, node, at):
        match node:
            case Bytes(mask):
                self.steps += 1
                return iter([at + 1] if at < len(self.text) and mask >> self.text[at] & 1 else [])
            case Sequence(parts):
                return self.ends_of_all(parts, at)
            case Choice(branches):
                return (end for branch in branches for end in self.ends(branch, at))
            case Look(inner):
                return iter([at] if next(self.ends(inner, at), None) is not None else [])
            case Repeat():
                return self.ends_of_rounds(node, at)

    def ends_of_all(self, parts, at):
        if not parts:
            yield at
        for end in self.ends(parts[0], at) if parts else ():
            yield from self.ends_of_all(parts[1:], end)

    def ends_of_rounds(self, node, at):
        least, most = node.least, node.most
        for end in () if most == 0 else self.ends(node.node, at):
            if end > at or least > 0:
                fewer = Repeat(node.node, max(0, least - 1), None if most is None else most - 1)
                yield from self.ends_of_rounds(fewer, end)
        if least == 0:
            yield at

    def search(self, node):
        at = 0
        while at < len(self.text):
            end = next(self.ends(node, at), None)
            at = max(at + 1, end or 0)
        return self.steps


@given(node=trees(), text=st.lists(st.sampled_from(b"ab"), min_size=1, max_size=16).map(bytes))
@example(node=Repeat(Bytes(1 << 97), 1, None), text=b"a" * 16)
@settings(max_examples=150)
def test_expression_that_is_called_cheap_takes_no_more_steps_than_the_bound(node, text):
    assume(not can_be_empty(node) and not build(node, "few")[0].is_ambiguous)
    taken = Matcher(text).search(node)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "WINDOW_BYTES", len(text))
        patch.setattr(steps, "MOST_STEPS", taken - 1)
        assert not steps.is_cheap(node)  # as the text takes one step more


def test_text_that_costs_most_is_told_by_its_length():
    node = parse(b"a?" * 22 + b"b")
    assert steps.worst_text_bytes(node) == 11
    assert not steps.is_cheap(node)
    assert steps.worst_text_bytes(parse(b"fine-[0-9]{4}")) is None


PARTS = [
    "a*",
    "a+",
    "[ab]*",
    "(?:a|b)*",
    "a?",
    "a{0,9}",
    "b",
    "c",
    "(?=a*c)",
    "(?<!a)",
    r"\b",
    "(a|ab)",
    r"\1",
    "key=",
]
TEXTS = [b"a" * 4096, b"ab" * 2048, b"key=" + b"a" * 4000, (b"a" * 90 + b"c") * 40]


@given(parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=7), text=st.sampled_from(TEXTS))
@example(parts=["a*", "a*", "b"], text=TEXTS[0])
@example(parts=["(?:a|b)*", "c", "(a|ab)", r"\1"], text=TEXTS[0])
@example(parts=["[ab]*", "(?=a*c)"], text=TEXTS[0])
@settings(max_examples=60, deadline=None)
def test_generated_pattern_is_refused_or_ends_within_its_allowance(parts, text):
    pattern = "".join(parts)
    scanner, refused = tried(lambda: SecretScanner(made_config(pattern), engine="python"))
    if refused is not None:
        assert isinstance(refused, ConfigError)
        assert repr(pattern) in refused.message
        assert refused.message.rpartition(": ")[2]
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allowance, "NS_PER_MEBIBYTE", 50_000_000)
        started_ns = time.thread_time_ns()
        findings, stopped = tried(lambda: scanner.scan(text, "x.csv"))
    # One window more than the allowance, at a rate that a slow machine reaches as well.
    assert time.thread_time_ns() - started_ns < 50_000_000 + steps.MOST_STEPS * 100
    if stopped is not None:
        assert stopped.kind == "pattern_too_slow"
        assert repr(pattern) in stopped.message
    else:
        assert findings or re.compile(pattern.encode(), re.MULTILINE).search(text[:WINDOW_BYTES]) is None


def made_config(pattern):
    return ArtifactStoreConfig(secret_patterns=[pattern])


def tried(call):
    try:
        return call(), None
    except (ConfigError, InvalidFileError) as error:
        return None, error


SLOW = r"[a-z]+(?=[=:]x)"


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(allowance, "NS_PER_MEBIBYTE", 20_000_000)


@pytest.mark.parametrize("engine", ["python", "hyperscan"])
@pytest.mark.parametrize("before", [b"", b"1.25,\n" * 20_000], ids=["small", "large"])
def test_pattern_that_takes_too_long_in_a_file_ends_in_an_error_that_names_both(hurried, engine, before):
    if engine == "hyperscan":
        pytest.importorskip("hyperscan", reason="no wheel for this machine")
    scanner = SecretScanner(ArtifactStoreConfig(secret_patterns=[SLOW]), engine=engine)
    with pytest.raises(InvalidFileError) as caught:
        scanner.scan(before + b"a" * 50_000 + b"=x", "a.csv")
    assert caught.value.kind == "pattern_too_slow"
    assert repr(SLOW) in caught.value.message
    assert caught.value.subject == "a.csv"


def test_allowance_is_one_for_all_that_is_wrapped_in_a_file(hurried):
    scanner = SecretScanner(ArtifactStoreConfig(secret_patterns=[SLOW]), engine="python")
    wide = b"".join((b"a" * 3000 + b"\n").decode().encode("utf-16-le") + b"\xff" for _ in range(20))
    with pytest.raises(InvalidFileError, match="takes too long"):
        scanner.scan(wide, "a.bin")


def test_run_whose_file_takes_too_long_is_not_stored(hurried, tmp_path):
    slow = b"a" * 50_000
    config = ArtifactStoreConfig(repo_path=tmp_path, secret_patterns=[SLOW])
    with ArtifactStore(config) as store:
        with pytest.raises(InvalidFileError) as caught:
            store.commit_artifacts("w", "t", {"a.csv": slow}, correlation_id="c1")
        (told,) = store.commit_many(
            [{"workflow_id": "w", "task_id": "t", "correlation_id": "c2", "files": {"a.csv": slow}}]
        )
        assert caught.value.kind == told["kind"] == "pattern_too_slow"
        assert store.list_artifacts() == []


def test_rescan_reports_what_takes_too_long_and_purge_says_so(hurried, tmp_path):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, scan_for_secrets=False)) as store:
        store.commit_artifacts("w", "t", {"a.csv": b"a" * 50_000}, {"n": "b" * 50_000}, correlation_id="c1")
        digest = store.list_files("c1")[0]["digest"]
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, secret_patterns=[SLOW])) as store:
        report = store.scan_all()
        assert not report.ok
        assert report.unreadable == ["metadata of manifest 1", digest]
        assert store.scan_all().known_count == 0
        with pytest.raises(InvalidFileError, match="takes too long"):
            store.purge("0" * 32)
        assert store.purge(digest)["blobs"][0]["digest"] == digest


@pytest.mark.parametrize("tree", [r"(?<=a|b)c", r"(?<!ab|cd)[a-z]+x"])
def test_look_behind_with_few_choices_is_harmless(tree):
    assert runaway_reason(parse(tree.encode())) is None


def test_refusal_whose_text_takes_too_long_is_told_without_it(hurried, tmp_path):
    with ArtifactStore(ArtifactStoreConfig(repo_path=tmp_path, secret_patterns=[SLOW])) as store:
        with pytest.raises(InvalidFileError) as caught:
            store.commit_artifacts("w", "t", {"../" + "a" * 50_000: b"1"}, correlation_id="c1")
        (told,) = store.commit_many(
            [{"workflow_id": "w", "task_id": "t", "correlation_id": "a" * 50_000, "files": {}}]
        )
    assert caught.value.kind == "pattern_too_slow"
    assert "a" * 100 not in str(caught.value)
    assert "a" * 100 not in repr(told)


def test_name_in_which_a_pattern_takes_too_long_is_withheld(hurried):
    scanner = SecretScanner(made_config(SLOW), engine="python")
    with pytest.raises(InvalidFileError) as caught:
        scanner.scan(b"a" * 50_000, "a" * 50_000)
    assert caught.value.kind == "pattern_too_slow"
    assert "a" * 100 not in str(caught.value)


def test_import_leaves_out_a_branch_whose_file_takes_too_long(hurried, tmp_path):
    old = OldRepository(tmp_path / "old")
    old.commit("task1", {"a.csv": "a" * 50_000})
    with ArtifactStore(ArtifactStoreConfig(repo_path=old.path, secret_patterns=[SLOW])) as store:
        summary = import_repository(store, on_secret="allow")
        assert summary.commits == 0
        assert [told["branch"] for told in summary.refused] == ["ai/generated/w/task1"]
        assert "takes too long" in summary.refused[0]["reason"]
        assert store.list_artifacts() == []


def test_scan_of_a_file_that_takes_too_long_is_an_error(hurried, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"a" * 50_000)
    (tmp_path / "cas.toml").write_text(f"secret_patterns = ['{SLOW}']\n")
    code, out, err = run_cas("scan", "a.csv")
    assert code not in {0, 5}
    assert out == ""
    assert "takes too long in it" in err
