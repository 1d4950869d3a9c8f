"""The service dies at each named step of a job: nothing that it acknowledged is lost."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.files.bucket import open_bucket
from service.jobs.rows.store import DATABASE, FOLDER
from tests.clips import make_clip
from tests.gate.failpoints import POINTS, STORED_POINTS
from tests.gate.figures import choose, report
from tests.helpers import (
    START_TIMEOUT_S,
    LiveServer,
    launch_server,
    start_live_server,
    wait_until,
)
from tests.service.jobs.test_job_crashes import KEY, NO_ANSWER, Client, bring, call, check_disk
from tests.storage import needs_storage

DELETIONS = "deletion: the row is gone", "stored deletion: the row is gone"
# A start has something to bring in line only after a run that was cut off.
BEFORE = {name: ["run: written down"] for name in POINTS if name.startswith("start: ")}
WAIT_S = 120


def live_until_killed(server: LiveServer, clip: bytes, *, deletes: bool) -> str | None:
    """Bring a job, or delete it, until the service is gone; return its id if it was told."""
    job_id = None

    def has_ended() -> bool:
        return not server.is_alive()

    wait_until(lambda: has_ended() or server.is_ready(), START_TIMEOUT_S)
    try:
        job_id = bring(server, clip, "key-0")
        if deletes:
            call(server, "DELETE", f"/v1/jobs/{job_id}")
    except NO_ANSWER:
        pass
    wait_until(has_ended, WAIT_S)
    return job_id


def find_rows(data: Path) -> list[tuple[str]]:
    with sqlite3.connect(data / FOLDER / DATABASE) as connection:
        return connection.execute("SELECT id FROM jobs").fetchall()


def run_story(name: str, folder: Path, clip: bytes, storage_url: str | None = None) -> bool:
    """Kill the service at a point, start it again, and return whether the job was acknowledged."""
    data = folder / "data"
    data.mkdir(parents=True)
    settings = {"data_dir": data, "api_keys": KEY, "job_max_attempts": 9}
    settings |= {"storage_url": storage_url}
    told: set[str] = set()
    for life, point in enumerate([*BEFORE.get(name, []), name]):
        server = launch_server(
            folder / f"log-{life}", sys.executable, "-m", "tests.gate.failpoints", point, **settings
        )
        try:
            job_id = live_until_killed(server, clip, deletes=name in DELETIONS)
        finally:
            server.process.kill()
            assert server.process.wait() == -9, server.log.read_text()
        told |= {job_id} - {None}
    if name in DELETIONS:
        assert find_rows(data) == []
    server = start_live_server(folder / "log", **settings)
    try:
        if name in DELETIONS:
            assert json.loads(call(server, "GET", "/v1/jobs")[1])["jobs"] == []
            assert list_results(data, storage_url) == []
            return True
        job_id = bring(server, clip, "key-0")
        assert told <= {job_id}, "the key names the job that was acknowledged"
        client = Client(clip)
        wait_until(lambda: client.look(server, job_id) == "succeeded", WAIT_S)
    finally:
        assert server.stop() == 0
    if storage_url is None:
        check_disk(data, 1)
    assert list_results(data, storage_url) == ["composite.mp4"]
    return bool(told)


def list_results(data: Path, storage_url: str | None) -> list[str]:
    """Return the names of all files of jobs."""
    if storage_url is not None:
        return [one.key.rpartition("/")[2] for one in open_bucket(storage_url).list("")]
    return [path.name for path in (data / FOLDER / "files").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, list[bool]]]:
    """Collect, for each point, whether the jobs that were cut off there had been acknowledged."""
    found: dict[str, list[bool]] = {}
    yield found
    report(
        "named failpoints",
        {
            "points": f"{len(found)} of {len(POINTS)}",
            "kills": sum(len(one) * (1 + len(BEFORE.get(name, ()))) for name, one in found.items()),
            "jobs that were acknowledged before": sum(map(sum, found.values())),
            "jobs lost": 0,
        },
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", POINTS)
def test_nothing_acknowledged_is_lost(tmp_path: Path, told, name: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=8, size=(64, 64), tone=False)
    found = []
    for number in range(choose(1, 3)):
        found.append(run_story(name, tmp_path / str(number), clip.read_bytes()))
        print(name, flush=True)
    told[name] = found


@needs_storage
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", STORED_POINTS)
def test_nothing_acknowledged_is_lost_in_a_storage(tmp_path: Path, name: str, storage_url) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=8, size=(64, 64), tone=False)
    for number in range(choose(1, 3)):
        run_story(name, tmp_path / str(number), clip.read_bytes(), f"{storage_url}/{number}")
        print(name, flush=True)
