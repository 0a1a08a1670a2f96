"""IDs that people and programs might give: any text, what git and file systems dislike, long text."""

from __future__ import annotations

from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
NASTY_PIECES = st.sampled_from(
    [
        *[".", "..", "-", "/", "//", "@", "@{", "~", "^", ":", "?", "*", "[", "\\", " ", "\0", "\n", "\x7f"],
        *["%", "%2E", "%-", "lock", ".lock", ".LOCK", "con", "CON", "nul", "com1", "LPT9", "aux"],
        *["HEAD", "git", ".git", "git~1", "refs", "a", "A", "z9", "_"],
        *["\xe9", "e\u0301", "\xdf", "\u200c", "\ufeff", "\U0001d538", "\u0130", "\u212a"],
    ]
)
NASTY_TEXT = st.lists(NASTY_PIECES, min_size=1, max_size=8).map("".join)
LONG_TEXT = st.builds(lambda piece, count: (piece * count)[:400], NASTY_TEXT, st.integers(30, 200))
IDS = st.one_of(ANY_TEXT, NASTY_TEXT, LONG_TEXT)
