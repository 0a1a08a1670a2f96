"""``cas demo``: a small story in a folder of its own.

Invariant: touches nothing outside that folder, which must be new or empty, and needs no network; the folder stays, so
that a person can look around.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import failures
from cli.session import Session
from cli.verbs import VerbCommand, examples, new_verb

if TYPE_CHECKING:
    from cas import ArtifactStore

app = new_verb("demo")
_STORY_SECONDS: Final = 60  # between two made-up runs, so that their times differ
_NANOSECONDS: Final = 1_000_000_000


@app.command(cls=VerbCommand, epilog=examples("cas demo", "cas demo --dir /tmp/look --runs 50"))
def demo(
    ctx: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="New or empty folder.  [default: a temporary one]"),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=2, metavar="N", help="Runs to make up.")] = 12,
) -> None:
    """Run a small story in a folder of its own.

    Makes up some backtest runs, commits them, takes the branch main back to an earlier run, exports everything to a
    bare git repository, pushes that to another one, and checks that store, repository and remote agree. Then it tells
    where to look. Needs git, but no network, and leaves the folder for you.
    """
    from cas import ArtifactStore, ArtifactStoreConfig
    from gitexport import Exporter, verify_export

    session = ctx.ensure_object(Session)
    place = _new_folder(directory)
    _make_repositories(place)
    config = ArtifactStoreConfig(repo_path=place / "runs.git", store_path=place / ".cas")
    ticks = iter(range(runs + 2))
    start_ns = session.clock() - (runs + 2) * _STORY_SECONDS * _NANOSECONDS
    with ArtifactStore(config, clock=lambda: start_ns + next(ticks) * _STORY_SECONDS * _NANOSECONDS) as store:
        committed = _commit_runs(session, store, runs)
        reverted = store.revert_to_tag(committed[0], "main", reason="the demo goes back to its first run")
    with ArtifactStore(config, clock=session.clock) as store:
        with session.output.progress() as progress:
            summary = Exporter(store).run(progress=progress)
        report = store.verify()
        compared = verify_export(store, remote=config.remote_name)
        figures = store.stats()
    ok = report.ok and compared.ok and summary.state == "done"
    document: dict[str, object] = {
        "directory": str(place),
        "ok": ok,
        "runs": runs,
        "reverted_to": reverted["reverted_to"],
        "export": summary.as_dict(),
        "verify": report.as_dict(),
        "export_verify": compared.as_dict(),
        "stats": figures,
    }
    if session.as_json:
        session.output.document(document)
    else:
        _tell(session, place, document)
    if not ok:
        raise typer.Exit(failures.DAMAGED)


def _new_folder(directory: Path | None) -> Path:
    from cas.errors import InvalidFileError
    from cas.lmdbenv import mapped_errors

    if directory is None:
        return Path(tempfile.mkdtemp(prefix="cas-demo-"))
    place = directory.absolute()
    with mapped_errors(place):
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise InvalidFileError(
                f"{directory} exists and is not an empty folder",
                subject=str(directory),
                hint="Name a new folder, or leave out --dir.",
            )
        place.mkdir(parents=True, exist_ok=True)
    return place


def _make_repositories(place: Path) -> None:
    """Make the repository that exports go to, the remote it is pushed to, and a settings file that knows them."""
    from gitexport.repository import GitRepository

    GitRepository.create_bare(place / "remote.git")
    repository = GitRepository.create_bare(place / "runs.git")
    # A relative path, so that the folder can be moved; git reads it from the repository.
    with (repository.git_dir / "config").open("a", encoding="utf-8") as config:
        config.write('[remote "origin"]\n\turl = ../remote.git\n')
    (place / "cas.toml").write_text('repo_path = "runs.git"\nstore_path = ".cas"\n', encoding="utf-8")


def _commit_runs(session: Session, store: ArtifactStore, count: int) -> list[str]:
    """Commit made-up runs; return their correlation tags."""
    from cli.story import make_run

    tags: list[str] = []
    with session.output.progress() as progress:
        for number in range(count):
            run = make_run(number)
            result = store.commit_artifacts(
                workflow_id=run.workflow_id,
                task_id=run.task_id,
                files=run.files,
                metadata=run.metadata,
                correlation_id=run.correlation_id,
                prompt_hash=run.prompt_hash,
            )
            tags.append(f"corr_{result['correlation_id']}")
            if progress is not None:
                progress("commit", number + 1, count)
    return tags


def _tell(session: Session, place: Path, document: dict[str, object]) -> None:
    from cli.figures import count_text, duration_text, mapping_of, number_of, size_text, whole_of
    from cli.output import Cell

    output = session.output
    export, figures = mapping_of(document["export"]), mapping_of(document["stats"])
    runs = whole_of(document["runs"])
    seconds, stored = (
        duration_text(number_of(export["duration_s"])),
        size_text(number_of(figures["stored_bytes"])),
    )
    output.fields(
        [
            ("committed", f"{count_text(runs, 'run')} into {place / '.cas'}, {stored} stored"),
            ("took back", f"main to {document['reverted_to']}, by a new commit"),
            (
                "exported",
                f"{export['exported']} commits, {export['refs']} refs, to {place / 'runs.git'} in {seconds}",
            ),
            ("pushed", f"{export['pushed']} commits to {place / 'remote.git'}"),
            (
                "checked",
                Cell("store, repository and remote agree", "good")
                if document["ok"]
                else Cell("they differ", "bad"),
            ),
        ]
    )
    output.line()
    output.line("Look around:")
    for command in (
        f"cd {place}",
        'cas list --where "net_pnl > 0"',
        "cas show latest",
        "cas log main",
        "git -C remote.git log --oneline --graph --all | head",
    ):
        output.line("  ", Cell(command, "name"))
