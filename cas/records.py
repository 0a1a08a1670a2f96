"""Records: manifests as the plain dictionaries that the public calls return.

Invariant: keys are only ever added; a key's meaning never changes. Nothing here reads a file or the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cas import blobs, catalog, manifest, outbox
from cas.errors import IntegrityError
from cas.manifest import FIRST_CLASS_KEYS, RunManifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cas.errors import ArtifactStoreError
    from cas.lmdbenv import ReadTransaction
    from cas.manifest import Manifest, ManifestRow, RollbackManifest
    from cas.outbox import ExportState

Record = dict[str, object]


def load(transaction: ReadTransaction, sequence: int) -> tuple[Manifest, ManifestRow]:
    """Return the manifest of a sequence number that some catalog row names.

    Raises:
        IntegrityError: It is missing or damaged.
    """
    row = catalog.get_row(transaction, sequence)
    if row is None:
        raise IntegrityError(f"manifest {sequence} is missing", hint="Run `cas verify --full`.")
    return manifest.decode(row.manifest), row


def find_commit(transaction: ReadTransaction, commit_oid: bytes) -> int | None:
    """Return the sequence of the manifest whose commit has that id, or None."""
    for sequence in catalog.find_by_oid_prefix(transaction, commit_oid.hex()):
        row = catalog.get_row(transaction, sequence)
        if row is not None and row.commit_oid == commit_oid:
            return sequence
    return None


def load_run(transaction: ReadTransaction, sequence: int) -> tuple[RunManifest, ManifestRow]:
    """Return the run of a sequence number that a run's catalog row names.

    Raises:
        IntegrityError: It is missing, damaged, or not a run.
    """
    loaded, row = load(transaction, sequence)
    if not isinstance(loaded, RunManifest):
        raise IntegrityError(f"manifest {sequence} is not a run", hint="Run `cas verify --full`.")
    return loaded, row


def stored_bytes(transaction: ReadTransaction, loaded: Manifest) -> int:
    """Return how many compressed bytes a manifest's own blobs take, whoever else shares them; damaged ones none."""
    if not isinstance(loaded, RunManifest):
        return 0
    found = (blobs.find_sound(transaction, entry.digest) for entry in loaded.files)
    return sum(blob.stored_bytes for blob in found if blob is not None)


def commit_result(transaction: ReadTransaction, sequence: int) -> Record:
    """Return what ``commit_artifacts`` returns for a stored run."""
    run, row = load_run(transaction, sequence)
    return _result(run, row, outbox.States(transaction)[sequence])


def fresh_result(run: RunManifest, row: ManifestRow) -> Record:
    """Return what ``commit_artifacts`` returns for a run that was stored a moment ago, without reading it back."""
    return _result(run, row, "queued")


def _result(run: RunManifest, row: ManifestRow, state: ExportState) -> Record:
    return {
        "success": True,
        "branch": run.branch,
        "commit_sha": row.commit_oid.hex(),
        "tags": [tag for tag, _ in row.tags],
        "pushed": state == "pushed",
        "error": None,
        "files": [entry.name for entry in run.files],
        "workflow_id": run.workflow_id,
        "task_id": run.task_id,
        "correlation_id": run.correlation_id,
        "prompt_hash": run.prompt_hash,
        "revision": run.revision,
        "manifest_id": manifest.manifest_id(row.manifest).hex(),
        "export_state": state,
    }


def failed_commit(error: ArtifactStoreError, correlation_id: object) -> Record:
    """Return the graceful form of a refused commit, with the fields of the error."""
    result: Record = {
        "success": False,
        "branch": None,
        "commit_sha": None,
        "tags": [],
        "pushed": False,
        "error": error.message,
        "files": [],
        "correlation_id": correlation_id if isinstance(correlation_id, str) else None,
        "revision": None,
        "manifest_id": None,
        "export_state": None,
    }
    return result | error.as_dict()


def run_record(transaction: ReadTransaction, sequence: int) -> Record:
    """Return a run as ``list_artifacts`` and ``get_artifact_by_correlation_id`` give it.

    The caller's own metadata stands under ``metadata``, and each of its keys on the top level as well where no key of
    the store has that name.
    """
    run, row = load_run(transaction, sequence)
    return _run_record(run, row, outbox.States(transaction)[sequence])


def iter_run_records(transaction: ReadTransaction, sequences: Iterable[int]) -> Iterator[Record]:
    """Yield what `run_record` returns of those manifests that are runs; rollbacks are stepped over.

    Raises:
        IntegrityError: A manifest is missing or damaged.
    """
    states = outbox.States(transaction)
    for sequence in sequences:
        loaded, row = load(transaction, sequence)
        if isinstance(loaded, RunManifest):
            yield _run_record(loaded, row, states[sequence])


def _run_record(run: RunManifest, row: ManifestRow, state: ExportState) -> Record:
    metadata = manifest.scan_metadata(run.metadata)
    record: Record = {
        "workflow_id": run.workflow_id,
        "task_id": run.task_id,
        "correlation_id": run.correlation_id,
        "prompt_hash": run.prompt_hash,
        "commit_timestamp": manifest.timestamp_text(run.created_at_us),
        **{key: metadata.get(key) for key in FIRST_CLASS_KEYS},
        "files": [entry.name for entry in run.files],
        "branch": run.branch,
        "commit_sha": row.commit_oid.hex(),
        "tags": [tag for tag, _ in row.tags],
        "revision": run.revision,
        "manifest_id": manifest.manifest_id(row.manifest).hex(),
        "export_state": state,
        "pushed": state == "pushed",
        "created_at_us": run.created_at_us,
        "size_bytes": sum([entry.size_bytes for entry in run.files]),
        "metadata": metadata,
    }
    others = {key: value for key, value in metadata.items() if key not in record}
    return {**others, **record} if others else record


def history_record(transaction: ReadTransaction, sequence: int) -> Record:
    """Return one step of a branch's history: a commit or a rollback, with who, when and why."""
    loaded, row = load(transaction, sequence)
    common: Record = {
        "kind": "commit" if isinstance(loaded, RunManifest) else "rollback",
        "branch": loaded.branch,
        "commit_sha": row.commit_oid.hex(),
        "parent": None if loaded.parent is None else loaded.parent.hex(),
        "author": f"{loaded.author_name} <{loaded.author_email}>",
        "commit_timestamp": manifest.timestamp_text(loaded.created_at_us),
        "manifest_id": manifest.manifest_id(row.manifest).hex(),
        "tags": [tag for tag, _ in row.tags],
        "export_state": outbox.States(transaction)[sequence],
    }
    return common | (_run_step(loaded) if isinstance(loaded, RunManifest) else _rollback_step(loaded))


def _run_step(run: RunManifest) -> Record:
    return {
        "workflow_id": run.workflow_id,
        "task_id": run.task_id,
        "correlation_id": run.correlation_id,
        "revision": run.revision,
        "files": [entry.name for entry in run.files],
    }


def _rollback_step(rollback: RollbackManifest) -> Record:
    return {"reverted_to": rollback.tag, "source_commit": rollback.source.hex(), "reason": rollback.reason}


def status_record(status: outbox.Status) -> Record:
    """Return the export state of a manifest as ``export_status`` gives it."""
    return {
        "export_state": status.state,
        "pushed": status.state == "pushed",
        "exported_at": None
        if status.exported_at_us is None
        else manifest.timestamp_text(status.exported_at_us),
        "pushed_at": None if status.pushed_at_us is None else manifest.timestamp_text(status.pushed_at_us),
        "attempts": status.attempt_count,
        "reason": status.reason,
    }
