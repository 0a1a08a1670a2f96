"""``cas gc``: remove the files of forgotten runs, and make the store file smaller.

Invariant: shows what the library did or would do; every run a policy looks at has a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.policies import By, KeepBest, KeepLast, KeepTag, KeepWithin, Lowest, Per, policy_of, show_decisions
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas.records import Record
    from cli.output import Output

app = new_verb("gc")


@app.command(
    cls=VerbCommand,
    epilog=examples(
        "cas gc --dry-run",
        "cas gc --keep-last 100 --keep-best 10 --by sharpe --dry-run",
        "cas gc --keep-within 90d",
        "cas gc --compact --lock-wait 60s",
    ),
)
def gc(
    ctx: typer.Context,
    keep_last: KeepLast = None,
    keep_within: KeepWithin = None,
    keep_best: KeepBest = None,
    by: By = None,
    lowest: Lowest = False,
    per: Per = "workflow",
    keep_tag: KeepTag = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="Make the store file smaller afterwards; nobody else may have the store open."
        ),
    ] = False,
) -> None:
    """Remove the files of forgotten runs, and whatever else nothing references.

    Runs are forgotten by `cas forget`, or here by a policy. Commits and exports may go on meanwhile, and a run that is
    not in git yet keeps its files. The room is reused inside the store file; the file itself only shrinks with
    --compact, which copies it and needs the store for itself.
    """
    session = ctx.ensure_object(Session)
    policy = policy_of(keep_last, keep_within, keep_best, by, lowest, per, keep_tag)
    with session.open_for_writing(scans=False) as store, session.output.progress() as progress:
        if policy is None or dry_run:
            result = session.when_free(lambda: store.gc(policy=policy, dry_run=dry_run, progress=progress))
        else:
            runs = store.forget(policy=policy)
            result = {**session.when_free(lambda: store.gc(progress=progress)), "runs": runs}
    if compact and not dry_run:
        from cas import compact_store

        result["compaction"] = session.when_free(lambda: compact_store(session.settings.config))
    if session.as_json:
        session.output.document(result)
    else:
        _show(session.output, result)


def _show(output: Output, result: Record) -> None:
    from cli.figures import count_text, list_of, mapping_of, size_text, whole_of

    dry_run = bool(result["dry_run"])
    if "runs" in result:
        show_decisions(output, [mapping_of(run) for run in list_of(result["runs"])], dry_run=dry_run)
    count = {name: whole_of(value) for name, value in result.items()}
    verb, freed = ("would remove", "would free") if dry_run else ("removed", "freed")
    output.line(
        f"{verb} {count_text(count['blobs'], 'stored file')} of "
        f"{count_text(count['collected_runs'], 'forgotten run')}, {freed} {size_text(count['freed_bytes'])}"
    )
    if count["uploads"]:
        output.line(f"{verb} {count_text(count['uploads'], 'upload')} of processes that are gone")
    if count["waiting_runs"]:
        output.note(f"{count_text(count['waiting_runs'], 'forgotten run')} not in git yet: cas export")
    compaction = mapping_of(result.get("compaction"))
    if compaction:
        before, after = (whole_of(compaction[name]) for name in ("before_bytes", "after_bytes"))
        output.line(f"the store file went from {size_text(before)} to {size_text(after)}")
