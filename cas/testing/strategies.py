"""Hypothesis strategies: what a backtest hands to a store, and what an adversary would.

Invariant: everything drawn is accepted by a store without the secret gate, unless a docstring says otherwise. Examples
shrink towards one small file under a plain name.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import strategies as st

from cas import names
from cas.errors import InvalidNameError


@dataclasses.dataclass(frozen=True)
class Run:
    """The arguments of one commit."""

    workflow_id: str
    task_id: str
    correlation_id: str
    files: dict[str, bytes]
    metadata: dict[str, Any]
    prompt_hash: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `ArtifactStore.commit_artifacts`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def plain_ids() -> st.SearchStrategy[str]:
    """IDs that stay as they are in branch and tag names."""
    return st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)


def hostile_ids() -> st.SearchStrategy[str]:
    """IDs that git, a file system or a shell would stumble over; all of them are accepted."""
    corners = [
        "a/b", "../up", ".", "..", "a..b", "a.lock", "-rf", "HEAD", "@", "@{u}", "a~1", "a^", "a:b", "a?b*[c]",
        "back\\slash", "con", "NUL.txt", " ", "tab\there", "new\nline", "x" * 300, "é", "e\u0301", "日本", "\u202ertl",
        "%", "%-", "$(reboot)", "corr_", "corr_corr_x", "refs/heads/main", "'quote\"", "🙂",
    ]  # fmt: skip
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
    return st.sampled_from(corners) | text


def ids() -> st.SearchStrategy[str]:
    """Ordinary and hostile IDs."""
    return plain_ids() | hostile_ids()


def artifact_names() -> st.SearchStrategy[str]:
    """Names under which a file may be stored."""
    usual = [
        "strategy.py",
        "trades.csv",
        "test_report.json",
        "equity_curve.csv",
        "events.log",
        "plots/equity.png",
    ]
    part = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ .-]{0,15}", fullmatch=True) | st.text(
        st.characters(categories=["L", "N"]), min_size=1, max_size=12
    )
    made = st.lists(part, min_size=1, max_size=3).map("/".join)
    return st.sampled_from(usual) | made.filter(_is_accepted)


def _is_accepted(name: str) -> bool:
    try:
        names.check_artifact_names([name])
    except InvalidNameError:
        return False
    return True


def refused_names() -> st.SearchStrategy[str]:
    """Names that a store refuses, each for a reason of its own."""
    return st.sampled_from(
        ["", "/abs", "a/../b", "./a", "a//b", "a/", ".git/config", "a/.GIT/x", "git~1", ".gitmodules", "a\\b", "c:x",
         "metadata.json", "nul", "a\0b", "a\nb", "x" * 256]
    )  # fmt: skip


def file_contents(max_bytes: int = 4096) -> st.SearchStrategy[bytes]:
    """Contents as backtests leave them: tables, reports, code, logs, binary data, nothing at all.

    Args:
        max_bytes: About the most bytes of one content.
    """
    rows = max(1, max_bytes // 24)
    number = st.integers(-10_000, 10_000)
    table = st.lists(st.tuples(number, number), max_size=min(rows, 60)).map(
        lambda pairs: b"time,pnl\n" + b"".join(b"%d,%d\n" % pair for pair in pairs)
    )
    report = st.dictionaries(plain_ids(), number, max_size=8).map(lambda values: json.dumps(values).encode())
    code = st.lists(number, min_size=1, max_size=8).map(
        lambda values: b"".join(b"PARAMETER_%d = %d\n" % pair for pair in enumerate(values))
    )
    log = st.integers(0, min(rows, 200)).map(
        lambda count: b"".join(b"%06d FILL ok\n" % line for line in range(count))
    )
    return st.one_of(table, report, code, log, st.just(b""), st.binary(max_size=min(max_bytes, 600)))


def files(max_files: int = 4) -> st.SearchStrategy[dict[str, bytes]]:
    """One run's files, by name; names never collide.

    Args:
        max_files: Most files of a run.
    """
    drawn = st.dictionaries(artifact_names(), file_contents(), min_size=1, max_size=max_files)
    return drawn.filter(_go_together)


def _go_together(chosen: dict[str, bytes]) -> bool:
    try:
        names.check_artifact_names(list(chosen))
    except InvalidNameError:
        return False
    return True


def metrics() -> st.SearchStrategy[dict[str, Any]]:
    """Test metrics; numbers are such that JSON gives them back unchanged."""
    number = st.integers(-(10**6), 10**6) | st.integers(-(10**6), 10**6).map(lambda value: value + 0.5)
    return st.dictionaries(
        st.sampled_from(["net_pnl", "win_rate", "sharpe", "total_trades"]), number, max_size=4
    )


def metadata() -> st.SearchStrategy[dict[str, Any]]:
    """Metadata of a run: the keys that can be queried, and a user's own."""
    word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
    return st.fixed_dictionaries(
        {},
        optional={
            "agent_version": word,
            "llm_version": word,
            "test_metrics": metrics(),
            "note": word,
            "seed": st.integers(0, 9),
        },
    )


def runs(
    correlation_ids: st.SearchStrategy[str] | None = None,
    workflow_ids: st.SearchStrategy[str] | None = None,
    task_ids: st.SearchStrategy[str] | None = None,
) -> st.SearchStrategy[Run]:
    """Whole runs.

    Args:
        correlation_ids: Where they come from; None means `ids`.
        workflow_ids: As above.
        task_ids: As above.
    """
    return st.builds(
        Run,
        workflow_id=ids() if workflow_ids is None else workflow_ids,
        task_id=ids() if task_ids is None else task_ids,
        correlation_id=ids() if correlation_ids is None else correlation_ids,
        files=files(),
        metadata=metadata(),
        prompt_hash=st.none() | st.from_regex(r"[0-9a-f]{12,64}", fullmatch=True),
    )


def histories(max_runs: int = 12) -> st.SearchStrategy[list[Run]]:
    """Runs in the order of their commits, few enough IDs among them that branches and revisions grow.

    Args:
        max_runs: Most runs of a history.
    """
    few = st.sampled_from(["a", "b", "c"])
    return st.lists(runs(few, few, few), min_size=1, max_size=max_runs)
