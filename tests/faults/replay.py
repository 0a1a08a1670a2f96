"""One recording, cut at its flushes and acknowledgements, and what was found in the images.

Invariant: everything is a function of the recording and the seed, which failures name.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import sys

from tests.faults.images import Disk
from tests.faults.recording import read_log, run_recorded
from tests.faults.workload import ACKNOWLEDGED


@dataclasses.dataclass
class Outcome:
    """What was found: images looked at, promises made, losses of the last ones, images that are damaged."""

    image_count: int = 0
    acknowledged_count: int = 0
    lost: list = dataclasses.field(default_factory=list)
    broken: list = dataclasses.field(default_factory=list)
    lost_too_many: int = 0  # images that lost more than the newest transaction


def record(shim, folder, durability, seed, count, variant="", work="commits"):
    """Record one workload; return its records and the folder it ran in."""
    disk, log = folder / "disk", folder / "log"
    disk.mkdir()
    run_recorded(shim, disk, work, durability, seed, count, variant, log=log)
    records = read_log(log)
    log.unlink()
    shutil.rmtree(disk)
    return records, disk


def replay(records, root, folder, seed, examiner, images_per_point=1, *, until_found=False):
    """Cut the power before and after each flush and at each acknowledgement, and examine every image.

    With ``until_found`` no further than to the first image that lost something or is damaged.
    """
    outcome, disk, rng = Outcome(), Disk(root, ACKNOWLEDGED), random.Random(seed)

    def cut(moment, place):
        image = folder / "image"
        moment.cut(rng, image)
        promises = promises_of(moment)
        lost_count, wrong = examiner.ask(image, promises)
        shutil.rmtree(image)
        outcome.image_count += 1
        if wrong:
            outcome.broken.append(f"seed {seed}, {place}: {wrong}")
        elif lost_count:
            outcome.lost.append(lost_count)
            outcome.lost_too_many += lost_count > last_transaction_count(promises)

    for index, entry in enumerate(records):
        if until_found and (outcome.broken or outcome.lost):
            break
        is_promise = entry.path.endswith(ACKNOWLEDGED)
        for _ in range(images_per_point if entry.op in "FDER" else 0):
            cut(disk.before(entry), f"before record {index}")
        disk.apply(entry, rng)
        if entry.op in "FDER" or is_promise:
            cut(disk, f"after record {index}")
    outcome.acknowledged_count = len(promises_of(disk))
    return outcome


def promises_of(disk):
    """Return what was acknowledged up to now, oldest first."""
    return [json.loads(line) for line in b"".join(disk.acknowledged).splitlines()]


def last_transaction_count(promises):
    """Return how many of the last promises came from one transaction: the parts of a batch, or one."""
    batch, dot, _ = promises[-1].get("correlation_id", "").partition(".")
    if not dot:
        return 1
    return sum(promise.get("correlation_id", "").startswith(batch + dot) for promise in promises)


def report(title, outcome):
    """Print one line of figures, for docs/reliability.md."""
    sys.stdout.write(
        f"{title}: {outcome.image_count} images, {outcome.acknowledged_count} acknowledged, "
        f"{len(outcome.lost)} images without the last transaction, {len(outcome.broken)} broken\n"
    )
