"""Jobs and the ends of real processes: kill -9 at any moment, SIGTERM, and starts that fail."""

import hashlib
import http.client
import json
import random
import re
import shutil
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.jobs.rows.store import DATABASE, FOLDER
from tests.clips import make_clip
from tests.gate.figures import choose, follow, report
from tests.helpers import (
    LiveServer,
    launch_server,
    read_metric,
    start_live_server,
    wait_until,
)
from tests.onnx_files import write_model

KEY = "key-of-the-crashes"
NO_ANSWER = (OSError, http.client.HTTPException)
GATE_SEED = 2
JOBS_A_LIFE, MOST_AT_ONCE = 3, 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return make_clip(path, seconds=5, fps=30, size=(160, 120), tone=False).read_bytes()


def call(server: LiveServer, method: str, path: str, body: bytes | None = None, **headers: str):
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(
            method, path, body, {"Content-Type": "video/mp4", "X-API-Key": KEY} | given
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def bring(server: LiveServer, clip: bytes, key: str) -> str:
    """Return the id of a job that was acknowledged."""
    headers = {"Prefer": "respond-async", "Idempotency_Key": key}
    status, content = call(server, "POST", "/v1/video", clip, **headers)
    assert status == 202, content
    return json.loads(content)["id"]


@dataclass
class Client:
    """Brings jobs and looks at them through all crashes, and remembers what it was promised."""

    clip: bytes
    acknowledged: dict[str, str] = field(default_factory=dict)
    keys: int = 0
    succeeded: set[str] = field(default_factory=set)
    wrong: list[object] = field(default_factory=list)

    def live(self, server: LiveServer) -> None:
        """Use a server until it is gone; what went wrong otherwise is in `wrong`."""
        try:
            if self.keys - len(self.succeeded) < MOST_AT_ONCE:
                self.keys += JOBS_A_LIFE
            while call(server, "GET", "/v1/models")[0] == 200:
                for number in range(self.keys):
                    self.bring(server, f"key-{number}")
                for job_id in set(self.acknowledged.values()) - self.succeeded:
                    self.look(server, job_id)
        except NO_ANSWER:
            return
        except BaseException as error:
            self.wrong.append(error)

    def bring(self, server: LiveServer, key: str) -> None:
        """Bring a job unless it was acknowledged, under the same key as the last time."""
        if key not in self.acknowledged:
            self.acknowledged[key] = bring(server, self.clip, key)

    def look(self, server: LiveServer, job_id: str) -> str:
        """Return the state of a job; its result must be there, and right, only with success."""
        path = f"/v1/jobs/{job_id}/results/composite.mp4"
        early, _ = call(server, "GET", path)
        status, content = call(server, "GET", f"/v1/jobs/{job_id}")
        assert status == 200, content
        job = json.loads(content)
        if job["state"] != "succeeded":
            assert job["state"] in ("queued", "running") and job["results"] == [], job
            assert early == 409
            return job["state"]
        status, content = call(server, "GET", path)
        assert status == 200
        assert hashlib.sha256(content).hexdigest() == job["results"][0]["sha256"]
        self.succeeded.add(job_id)
        return "succeeded"


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        (4, 1),
        pytest.param(
            choose(50, 1000), GATE_SEED, marks=[pytest.mark.slow, pytest.mark.timeout(14_000)]
        ),
    ],
)
def test_acknowledged_jobs_survive_kill_9_at_any_moment(
    tmp_path, model: Path, clip: bytes, kills: int, seed: int
) -> None:
    random_moment = random.Random(seed)
    data = tmp_path / "data"
    data.mkdir()
    # Without a limit on attempts: a job that is running at two kills is no poison.
    settings = {"model_path": model, "data_dir": data, "job_max_attempts": 1000}
    settings["api_keys"] = KEY  # without one nobody may list jobs
    client = Client(clip)
    for life in follow(range(kills), kills, "kills"):
        log = tmp_path / f"log-{life}"
        if life % 5 == 4:  # while it starts, and brings in line what the last one left
            server = launch_server(log, **settings)
            wait_until(lambda: (data / FOLDER / DATABASE).exists())
            user = None
        else:
            server = start_live_server(log, **settings)
            user = threading.Thread(target=client.live, args=(server,))
            user.start()
        time.sleep(random_moment.uniform(0, 0.6))
        server.process.kill()
        server.process.wait()
        if user is not None:
            user.join()
        assert client.wrong == [] and "Traceback" not in log.read_text(), log.read_text()
    server = start_live_server(tmp_path / "log", **settings)
    try:
        for number in range(client.keys):
            client.bring(server, f"key-{number}")
        for job_id in client.acknowledged.values():
            wait_until(lambda job_id=job_id: client.look(server, job_id) == "succeeded", 60)
        _, content = call(server, "GET", "/v1/jobs?limit=100")
        jobs = json.loads(content)["jobs"]
        assert len(jobs) == min(100, client.keys), "one job for each key, whatever was repeated"
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()
    assert client.keys >= min(MOST_AT_ONCE, kills)
    assert len(set(client.acknowledged.values())) == client.keys
    check_disk(data, client.keys)
    if seed == GATE_SEED:
        figures = {"kills": kills, "jobs acknowledged": client.keys, "jobs lost": 0}
        report("kill -9 at random moments", figures)


def check_disk(data: Path, jobs: int) -> None:
    """Assert that rows and files agree once all jobs have succeeded."""
    connection = sqlite3.connect(data / FOLDER / DATABASE)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = connection.execute("SELECT id, state FROM jobs").fetchall()
    connection.close()
    assert len(rows) == jobs and {state for _, state in rows} == {"succeeded"}
    files = {path for path in (data / FOLDER / "files").rglob("*") if path.is_file()}
    results = {data / FOLDER / "files" / job / "results" / "composite.mp4" for job, _ in rows}
    assert files == results, "nothing is left but the results"


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_everything_is_on_the_disk_before_it_is_told(tmp_path, model: Path, clip: bytes) -> None:
    trace, data = tmp_path / "trace", tmp_path / "data"
    data.mkdir()
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,write"
    prefix = ("strace", "-D", "-f", "-y", "-s", "60", "-e", calls, "-o", str(trace))
    server = start_live_server(tmp_path / "log", *prefix, model_path=model, data_dir=data)
    try:
        job_id = bring(server, clip, "k")
        client = Client(clip)
        wait_until(lambda: client.look(server, job_id) == "succeeded", 60)
    finally:
        server.stop()
    lines = trace.read_text().splitlines()

    def find(pattern: str, after: int = -1) -> int:
        """Return the number of the first line after another that matches."""
        for number, line in enumerate(lines[after + 1 :], after + 1):
            if re.search(pattern, line):
                return number
        raise AssertionError(f"no {pattern} after line {after} of\n" + "\n".join(lines[-200:]))

    sync = r"f(data)?sync\(\d+<[^>]*"
    written = find(rf"{sync}/{job_id}/input\.part>")
    named = find(rf'rename\w*\(.*/{job_id}/input\.part".*/{job_id}/input"', written)
    in_folder = find(rf"{sync}/{job_id}>", named)
    committed = find(rf"{sync}{DATABASE}-wal>", in_folder)
    find(r"HTTP/1\.1 202 ", committed)
    assert find(r"HTTP/1\.1 202 ") > committed
    written = find(rf"{sync}/results\.part/composite\.mp4>", committed)
    named = find(r'rename\w*\(.*/results\.part".*/results"', written)
    in_folder = find(rf"{sync}/{job_id}>", named)
    committed = find(rf"{sync}{DATABASE}-wal>", in_folder)
    find(r"HTTP/1\.1 200 ", committed)


def test_sigterm_ends_streams_at_once_and_the_job_goes_on_later(
    tmp_path, model: Path, clip: bytes, long_clip: bytes
) -> None:
    settings = {"model_path": model, "data_dir": tmp_path, "max_videos": 1}
    server = start_live_server(tmp_path / "log", **settings)
    running, waiting = bring(server, long_clip, "a"), bring(server, clip, "b")
    events = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    events.request("GET", f"/v1/jobs/{running}/events")
    stream = events.getresponse()
    assert stream.readline().startswith(b"id: ")
    wait_until(lambda: json.loads(call(server, "GET", f"/v1/jobs/{running}")[1])["frames_done"])
    assert server.stop() == 0
    rest = stream.read()
    events.close()
    assert b"event: end" not in rest, "the job has not ended"
    log = server.log.read_text()
    assert "Traceback" not in log and "timeout graceful" not in log, log
    again = start_live_server(tmp_path / "log-2", **settings)
    try:
        client = Client(long_clip)
        for job_id in (running, waiting):
            wait_until(lambda job_id=job_id: client.look(again, job_id) == "succeeded", 120)
    finally:
        assert again.stop() == 0


def test_watcher_who_leaves_costs_nothing_more(live_server, model: Path, long_clip) -> None:
    server = live_server(model_path=model)
    job_id = bring(server, long_clip, "watched")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/v1/jobs/{job_id}/events")
    response = connection.getresponse()
    assert response.readline().startswith(b"id: ")

    def count_requests() -> float:
        return read_metric(Metrics(server), "matting_requests_in_progress")

    assert count_requests() == 2, "the stream, and the one that asks"
    response.close()
    connection.close()
    wait_until(lambda: count_requests() == 1)
    assert call(server, "DELETE", f"/v1/jobs/{job_id}")[0] == 204


class Metrics:
    """What `read_metric` needs of a client."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def get(self, path: str):
        self.text = call(self.server, "GET", path)[1].decode()
        return self
