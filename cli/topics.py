"""Topics of ``cas help``: exit codes, settings, the words that name a run, and what else needs a page.

Invariant: tables are made from the code they describe, so that they cannot differ from it. Pure, except for reading the
documentation of the configuration class.
"""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Final

from cli import settings
from cli.failures import EXIT_CODES

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES: Final = """\
What a REF may be, looked up in this order:

  latest, latest~2      the newest run, and the second before it
  corr_abc123           a correlation tag: the run's first revision
  corr_abc123@2         its second revision
  prompt_7a8b9c0d1e2f   a prompt tag: the first run made from that prompt
  ai/generated/wf/t1    a branch: its newest commit
  abc123                a correlation ID, with or without corr_: the newest
                        revision
  3f9a12                the beginning (4 characters or more) of a commit or
                        manifest id
  corr_abc123~1         that many commits back on the branch; for branches too

Names in git:

  branch                <branch_prefix>/<workflow_id>/<task_id>
  correlation tag       corr_<correlation_id>; from the second revision on
                        corr_<correlation_id>@<revision>
  prompt tag            prompt_<first 12 characters of the prompt digest>
  files                 Backtest/codes/<task_id>/<file>

Any text may be an ID. Letters, digits, '_', '-' and '.' stay as they are;
whatever git or a file system could not take is written as %XX, reversibly.
"""

_WHERE: Final = """\
Comparisons of metrics and metadata, joined by and, or, not and brackets:

  net_pnl > 100 and (win_rate >= 0.5 or not note ~ "draft")

  < <= = != >= >        compare numbers with numbers, texts with texts
  ~                     the text holds this part, whatever the case
  name                  a test metric, or else a metadata key
  a.b                   the key b inside the value of a
  1.5  "text"  true  null
                        what may stand on the right

A run without that value, or with one of another kind, does not match. The
setting indexed_metrics makes questions about those metrics quick in a large
store.
"""

_JSON: Final = """\
With --json, stdout holds data and nothing else:

  queries               one JSON document
  long work             JSON Lines. Lines with "event": "progress" have phase,
                        done, total, rate_per_s and left_s (seconds), null
                        where it is not known; --quiet leaves them out. The
                        last line has "event": "result".
  services              JSON Lines, one for each thing that happened

Long work is checkout, export, export verify, export archive, import, verify,
scan, purge, gc, backup, restore, demo. Take its result with
`cas export --json | tail -n 1`.
Every other command, commit as well, writes one document.

An error is one JSON object on stderr: kind, error, hint, subject, retryable,
exit_code. Kinds and keys stay; new ones may be added. A key that ends with _us
holds a moment in microseconds since 1970, with _at a moment as text in UTC,
with _s seconds, with _bytes bytes.
"""

_COMPLETION: Final = """\
Completion of commands, options, IDs, tags, branches and file names:

  bash, for this user   cas --install-completion bash
  zsh                   cas --install-completion zsh
  fish                  cas --install-completion fish
  for everybody         cas --show-completion bash \\
                          > /etc/bash_completion.d/cas

Names that a shell would not take literally are not offered.
"""


def exit_codes_text(width: int) -> str:
    """Return the table of exit codes."""
    lines = ["The number that a command ends with:", ""]
    for code, name, meaning in EXIT_CODES:
        head = f"  {code:>3}  {name:<16} "
        lines += textwrap.wrap(
            meaning, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
    json_form = (
        "With --json an error is one JSON object on stderr: kind, error, hint, subject, retryable, exit_code."
    )
    lines += ["", *textwrap.wrap(json_form, width)]
    return "\n".join(lines) + "\n"


def config_text(width: int) -> str:
    """Return where settings come from, and every one of them."""
    intro = (
        "A flag goes before an environment variable, that before a file, and that before the default. Every setting "
        "is a key of cas.toml, or of [tool.cas] in pyproject.toml, in the nearest folder upward; a variable, CAS_ and "
        "the key in capitals; and a flag, -o KEY=VALUE. --repo and --store are short for repo_path and store_path. A "
        "relative path counts from the file it stands in, else from the current folder. Sizes may be written as "
        "256MiB. In a variable or flag, a list is a JSON array, or one item per line (indexed_metrics: by commas). "
        "`cas config show --origin` tells where each value comes from."
    )
    lines = [*textwrap.wrap(intro, width), ""]
    descriptions = settings.field_descriptions()
    for key, default in defaults().items():
        lines.append(f"  {key}  [{default}]")
        lines += textwrap.wrap(
            descriptions.get(key, ""), width, initial_indent="      ", subsequent_indent="      "
        )
    return "\n".join(lines) + "\n"


def settings_file_text() -> str:
    """Return a settings file with every key commented out."""
    lines = [
        "# Settings of cas; `cas help config` explains them, `cas config show --origin` tells what applies.",
        "",
    ]
    descriptions = settings.field_descriptions()
    for key, default in defaults().items():
        lines += textwrap.wrap(descriptions.get(key, ""), 100, initial_indent="# ", subsequent_indent="# ")
        lines += [f"#{key} = {default}" if default else f"#{key} =", ""]
    return "\n".join(lines)


def defaults() -> dict[str, str]:
    """Return every key with its default as TOML; empty where there is none."""
    from cas.config import ArtifactStoreConfig

    found: dict[str, str] = {}
    for field in dataclasses.fields(ArtifactStoreConfig):
        default: object = field.default
        if field.name == "repo_path":
            found[field.name] = '"."'
        elif default is None:
            found[field.name] = ""
        elif isinstance(default, bool):
            found[field.name] = "true" if default else "false"
        elif isinstance(default, tuple):
            found[field.name] = "[]"
        else:
            found[field.name] = f'"{default}"' if isinstance(default, str) else str(default)
    return found


TOPICS: Final[dict[str, tuple[str, Callable[[int], str]]]] = {
    "completion": ("How to have the shell complete IDs and tags.", lambda _: _COMPLETION),
    "config": ("Every setting, and where it can be set.", config_text),
    "exit-codes": ("What the number means that a command ends with.", exit_codes_text),
    "json": ("What --json writes, and where.", lambda _: _JSON),
    "names": ("What may stand for a run, and how things are called in git.", lambda _: _NAMES),
    "where": ("The language of --where.", lambda _: _WHERE),
}
