"""The commands, one module per verb.

Each module holds ``app``, made by `cli.verbs.new_verb`. Invariant: module level imports nothing of the store, of git or
of rich; bodies do. A command opens what it needs through its `Session` and writes through its `Output` only.
"""
