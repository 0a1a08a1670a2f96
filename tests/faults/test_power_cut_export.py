"""Power cuts during an export: what has a receipt is in git, and the next export ends with the promised ids."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from gitexport import Exporter
from gitexport.repository import GitRepository
from tests.export.places import leftovers, refs_of
from tests.faults import exporting
from tests.faults.images import Disk
from tests.faults.recording import read_log, run_recorded
from tests.faults.replay import Outcome, report
from tests.faults.workload import ACKNOWLEDGED


@pytest.fixture
def recorded(shim, fast_folder):
    """Record a workload; return its records and the folder it ran in."""

    def record(variant=""):
        disk, log = fast_folder / "disk", fast_folder / "log"
        disk.mkdir()
        run_recorded(shim, disk, variant, log=log, script=exporting.__file__)
        records = read_log(log)
        log.unlink()
        shutil.rmtree(disk)
        return records, disk

    return record


def lines_of(disk):
    return [json.loads(line) for line in b"".join(disk.acknowledged).splitlines()]


def promised_refs(store):
    """Return the refs that the store's manifests give, name to oid; tags by the commit they lead to."""
    branches, tags = {}, {}
    for record in store.list_artifacts(limit=1000):
        # Newest first.
        branches.setdefault(f"refs/heads/{record['branch']}", record["commit_sha"])
        tags.update({f"refs/tags/{tag}": record["commit_sha"] for tag in record["tags"]})
    return branches, tags


def examine(image, receipts):
    """Open an image as the next start of the exporter would; return what is wrong, or None."""
    try:
        return difference(image, receipts)
    except Exception as error:  # noqa: BLE001  whatever it is, the image counts as broken
        return f"{type(error).__name__}: {error}"


def difference(image, receipts):
    """Export from an image, and compare what is in git with receipts and manifests."""
    repository = image / exporting.REPOSITORY
    found = refs_of(repository)
    lost = {
        name for name, oid in receipts.items() if name.startswith("refs/tags/") and found.get(name) != oid
    }
    if lost or not receipts.keys() <= found.keys():
        return f"refs with receipts are gone: {sorted(lost or receipts.keys() - found.keys())[:3]}"
    with exporting.open_store(image, create=False) as store:
        summary = Exporter(store).run(push=False)
        if summary.state != "done" or summary.failures or summary.warnings:
            return f"the next export: {summary}"
        branches, tags = promised_refs(store)
    git = GitRepository.open(repository)
    found = git.list_refs(peeled=True)
    wrong = [name for name, oid in branches.items() if found[name].oid != oid]
    wrong += [name for name, oid in tags.items() if found[name].peeled != oid]
    if wrong or found.keys() != branches.keys() | tags.keys():
        return f"other refs than promised: {wrong[:3] or sorted(found)}"
    complaints = git.fsck_strict()
    left = leftovers(repository)
    return f"fsck: {complaints[:3]}, left: {left[:3]}" if complaints or left else None


def cut_everywhere(records, root, folder, seed, images_per_point=1, *, until_found=False):
    """Cut the power before each flush, after each link and rename of the exports and after each export; examine it all.

    What a flush leaves is among what may be found before the next one, as nothing written since has to be there. With
    ``until_found`` no further than to the first image that is broken.
    """
    outcome, disk, rng = Outcome(), Disk(root, ACKNOWLEDGED), random.Random(seed)
    receipts, exporting_now = {}, False

    def cut(moment, place):
        image = folder / "image"
        moment.cut(rng, image)
        for lock in image.rglob("*.lock"):
            os.utime(lock, (0, 0))  # a machine that lost its power is not back within the minute
        wrong = examine(image, receipts)
        shutil.rmtree(image)
        outcome.image_count += 1
        if wrong:
            outcome.broken.append(f"seed {seed}, {place}: {wrong}")

    for index, entry in enumerate(records):
        if until_found and outcome.broken:
            break
        place = f"record {index} ({entry.op} {entry.path})"
        for _ in range(images_per_point if exporting_now and entry.op in "FD" else 0):
            cut(disk.before(entry), f"before {place}")
        disk.apply(entry, rng)
        is_promise = entry.path.endswith(ACKNOWLEDGED) and lines_of(disk)
        if is_promise:
            line = lines_of(disk)[-1]
            exporting_now = "begins" in line
            receipts = line.get("refs", receipts)
        for _ in range(images_per_point if is_promise or (exporting_now and entry.op in "RL") else 0):
            cut(disk, f"after {place}")
    outcome.acknowledged_count = len(receipts)
    return outcome


def test_power_cut_at_any_step_of_an_export_loses_nothing_in_git(recorded, fast_folder):
    records, disk = recorded()
    outcome = cut_everywhere(records, disk, fast_folder, 1)
    assert outcome.broken == []
    assert outcome.image_count > 50
    assert outcome.acknowledged_count == 3 + 2 * 9  # three branches, and two tags for each of nine runs


def test_power_cut_of_an_export_without_flushes_is_noticed(recorded, fast_folder):
    records, disk = recorded("no-sync")
    assert cut_everywhere(records, disk, fast_folder, 3, until_found=True).broken


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 106))
def test_power_cut_of_many_exports_loses_nothing_in_git(recorded, fast_folder, seed):
    records, disk = recorded()
    outcome = cut_everywhere(records, disk, fast_folder, seed, images_per_point=3)
    report(f"power cut, export, seed {seed}", outcome)
    assert outcome.broken == []
