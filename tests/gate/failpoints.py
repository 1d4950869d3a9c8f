"""`python -m tests.gate.failpoints POINT`: the service, killed by itself at a named step of a job.

The steps are functions of the service that are wrapped here, so that the service itself knows
nothing of failpoints. A step that no longer exists is an error at the start.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service import __main__ as command
from service.jobs.files import folder as files
from service.jobs.files.bucket import Bucket
from service.jobs.files.folder import INPUT, RESULTS, JobFiles
from service.jobs.files.objects import ObjectFiles
from service.jobs.rows.store import JobStore

Condition = Callable[..., bool]


@dataclass(frozen=True)
class Point:
    """A call before or after which the process dies, where its arguments are as asked."""

    owner: Any
    name: str
    is_after: bool = False
    condition: Condition = lambda *_, **__: True


def is_renamed_to(name: str) -> Condition:
    return lambda source, target, **_: str(target).endswith(f"/{name}")


def is_key_with(name: str) -> Condition:
    return lambda bucket, key, *_: f"/{name}" in key


def is_set_to(state: str) -> Condition:
    return lambda *_, **columns: columns.get("state") == state


POINTS = {
    "upload: nothing is written": Point(files, "copy_hashed"),
    "upload: written, without its name": Point(os, "rename", condition=is_renamed_to(INPUT)),
    "upload: named, the folder not synced": Point(os, "rename", True, is_renamed_to(INPUT)),
    "upload: on the disk, without a row": Point(JobFiles, "receive", is_after=True),
    "row: about to be written": Point(JobStore, "insert"),
    "row: written, not acknowledged": Point(JobStore, "insert", is_after=True),
    "run: about to be written down": Point(JobStore, "update", condition=is_set_to("running")),
    "run: written down": Point(JobStore, "update", True, is_set_to("running")),
    "results: their folder is there": Point(JobFiles, "begin_results", is_after=True),
    "results: written, not synced": Point(JobFiles, "publish_results"),
    "results: synced, without their name": Point(os, "rename", condition=is_renamed_to(RESULTS)),
    "results: named, the folder not synced": Point(os, "rename", True, is_renamed_to(RESULTS)),
    "results: final, without a row": Point(JobFiles, "publish_results", is_after=True),
    "end: about to be written down": Point(JobStore, "update", condition=is_set_to("succeeded")),
    "end: written down, the upload still there": Point(JobFiles, "keep_results_only"),
    "end: the upload is gone": Point(JobFiles, "keep_results_only", is_after=True),
    "start: results of the dead run are dropped": Point(JobFiles, "drop_results", is_after=True),
    "start: the job waits again, not committed": Point(
        JobStore, "update", True, is_set_to("queued")
    ),
    "deletion: the row is gone": Point(JobStore, "delete", is_after=True),
}

# The same with files in object storage; an upload there is one call.
STORED_POINTS = {
    "stored upload: nothing is written": Point(Bucket, "put", condition=is_key_with(INPUT)),
    "stored upload: written, without a row": Point(ObjectFiles, "receive", is_after=True),
    "stored run: the clip is fetched": Point(ObjectFiles, "open_upload", is_after=True),
    "stored results: written, not read back": Point(Bucket, "put", True, is_key_with(RESULTS)),
    "stored results: final, without a row": Point(ObjectFiles, "publish_results", is_after=True),
    "stored end: written down, the upload still there": Point(ObjectFiles, "keep_results_only"),
    "stored end: the upload is gone": Point(ObjectFiles, "keep_results_only", is_after=True),
    "stored deletion: the row is gone": Point(JobStore, "delete", is_after=True),
}


def install(point: Point) -> None:
    """Have the process kill itself at a point, the first time that it comes there."""
    step = getattr(point.owner, point.name)

    def run(*args: Any, **kwargs: Any) -> Any:
        is_due = point.condition(*args, **kwargs)
        if is_due and not point.is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(*args, **kwargs)
        if is_due:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(point.owner, point.name, run)


if __name__ == "__main__":
    install((POINTS | STORED_POINTS)[sys.argv[1]])
    sys.exit(command.run({}))
