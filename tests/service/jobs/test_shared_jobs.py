"""Two real services on one database and one place for files: a kill of either loses nothing."""

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from service.jobs.files.bucket import open_bucket
from tests.clips import make_clip
from tests.gate.figures import choose, follow, report
from tests.helpers import LiveServer, start_live_server, wait_until
from tests.onnx_files import write_model
from tests.postgres import Postgres, needs_postgres
from tests.receiver import Reply, open_receiver
from tests.service.jobs.test_job_crashes import Client, bring, call
from tests.storage import needs_storage

pytestmark = needs_postgres
END_S = 120
LEASE_S = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A clip that is worked on for seconds, so that a test comes in time."""
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return make_clip(path, seconds=15, size=(160, 120), tone=False).read_bytes()


class Machines:
    """Services that share a database and files of jobs, each with a data folder of its own.

    The files are in a folder that they share, or in the storage at `storage_url`.
    """

    def __init__(self, url: str, folder: Path, model: Path, storage_url: str | None) -> None:
        self.url, self.folder = url, folder
        self.settings = {"model_path": model, "database_url": url, "job_lease_s": LEASE_S}
        self.settings |= {"max_videos": 1, "job_max_attempts": 1000, "storage_url": storage_url}
        if storage_url is None:
            self.settings["jobs_dir"] = folder / "shared"
            (folder / "shared").mkdir()
        self.running: list[LiveServer] = []
        self.started = 0

    def start(self) -> LiveServer:
        data = self.folder / f"data-{self.started}"
        data.mkdir()
        log = self.folder / f"log-{self.started}"
        self.started += 1
        server = start_live_server(log, data_dir=data, **self.settings)
        self.running.append(server)
        return server

    def kill(self, server: LiveServer) -> None:
        server.process.kill()
        server.process.wait()
        self.running.remove(server)

    def find_states(self) -> dict[str, str]:
        """Return the state of each job, as the database tells it."""
        with psycopg.connect(self.url) as connection:
            return dict(connection.execute("SELECT id, state FROM jobs").fetchall())

    def list_files(self) -> list[str]:
        """Return the names of all files of jobs."""
        if self.settings["storage_url"] is not None:
            objects = open_bucket(self.settings["storage_url"]).list("")
            return [one.key.rpartition("/")[2] for one in objects]
        return [path.name for path in (self.folder / "shared").rglob("*") if path.is_file()]

    def count_attempts(self, job_id: str) -> int:
        with psycopg.connect(self.url) as connection:
            query = "SELECT attempts FROM jobs WHERE id = %s"
            return connection.execute(query, [job_id]).fetchone()[0]


@pytest.fixture(params=["folder", pytest.param("storage", marks=needs_storage)])
def machines(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path, model: Path
) -> Iterator[Machines]:
    in_storage = request.param == "storage"
    storage_url = request.getfixturevalue("storage_url") if in_storage else None
    started = Machines(postgres.make_database(), tmp_path, model, storage_url)
    yield started
    for server in list(started.running):
        started.kill(server)


def wait_for_end(server: LiveServer, client: Client, job_id: str) -> None:
    wait_until(lambda: client.look(server, job_id) == "succeeded", END_S)


def test_job_of_a_killed_machine_ends_on_the_other(machines, long) -> None:
    one = machines.start()
    job_id = bring(one, long, "k")
    wait_until(lambda: machines.find_states() == {job_id: "running"}, END_S)
    machines.kill(one)  # whoever starts next finds a row that says "running", and a lease
    assert machines.find_states() == {job_id: "running"}
    other = machines.start()
    assert bring(other, long, "k") == job_id, "a key names its job on every machine"
    wait_for_end(other, Client(long), job_id)
    assert machines.count_attempts(job_id) == 2
    assert other.stop() == 0 and "Traceback" not in other.log.read_text()


def test_job_is_deleted_by_a_machine_that_does_not_run_it(machines, long, clip) -> None:
    one, other = machines.start(), machines.start()
    job_id = bring(one, long, "k")
    wait_until(lambda: machines.find_states() == {job_id: "running"}, END_S)
    assert call(other, "DELETE", f"/v1/jobs/{job_id}")[0] == 204
    again = bring(one, clip, "k")
    wait_for_end(other, Client(long), again)
    assert machines.find_states() == {again: "succeeded"}
    assert machines.list_files() == ["composite.mp4"]


def test_drained_machine_hands_its_job_over_without_an_attempt(machines, long) -> None:
    one = machines.start()
    job_id = bring(one, long, "k")
    wait_until(lambda: machines.find_states() == {job_id: "running"}, END_S)
    assert one.stop() == 0
    machines.running.remove(one)
    other = machines.start()
    wait_for_end(other, Client(long), job_id)
    assert machines.count_attempts(job_id) == 1


def test_webhook_of_a_killed_machine_is_sent_by_the_other(machines, clip) -> None:
    machines.settings |= {
        "webhook_secret": "whsec_" + base64.b64encode(bytes(32)).decode(),
        "outgoing_allow": "127.0.0.0/8",
        "delivery_retry_s": 0.5,
        "delivery_tries": 20,
    }
    with open_receiver() as receiver:
        receiver.answer = lambda request: Reply(503)
        one = machines.start()
        path = f"/v1/video?webhook={receiver.url}"
        status, content = call(one, "POST", path, clip, Prefer="respond-async")
        assert status == 202, content
        job_id = json.loads(content)["id"]
        wait_until(lambda: receiver.requests, END_S)
        machines.kill(one)
        receiver.answer = lambda request: Reply(200)
        other = machines.start()

        def find_state() -> str:
            job = json.loads(call(other, "GET", f"/v1/jobs/{job_id}")[1])
            return job["deliveries"][0]["state"] if job["deliveries"] else "none"

        wait_until(lambda: find_state() == "delivered", END_S)
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@pytest.mark.slow
@pytest.mark.timeout(14_000)
def test_shared_jobs_survive_kill_9_of_either_machine(machines, clip: bytes) -> None:
    kills, moment = choose(5, 100), random.Random(3)
    client, acknowledged = Client(clip), []
    machines.start()
    for number in follow(range(kills), kills, "kills"):
        server = machines.start()
        victim = moment.choice(machines.running)
        for part in range(3):
            acknowledged.append(bring(moment.choice(machines.running), clip, f"{number}-{part}"))
        machines.kill(victim)
        assert len(machines.running) == 1 and server.port
    (left,) = machines.running
    for job_id in acknowledged:
        wait_for_end(left, client, job_id)
    assert set(machines.find_states()) == set(acknowledged)
    figures = {"kills": kills, "jobs acknowledged": len(acknowledged), "jobs lost": 0}
    place = "a bucket" if machines.settings["storage_url"] else "a folder"
    report(f"kill -9 of one of two services on one PostgreSQL and {place}", figures)
