"""Two processes behind nginx: each id finds its process, and so does each key's list of jobs."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tusclient.client import TusClient

from service.jobs.rows.store import JobStore
from service.settings import Settings, SettingsError
from service.workers.nginx import Worker, make_config
from service.workers.supervisor import check_leftovers, find_ports
from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import (
    LiveServer,
    assert_problem,
    encode,
    find_free_port,
    launch_server,
    run_service,
    wait_until,
)
from tests.job_requests import ASYNC, bring, wait_for_end
from tests.service.jobs.test_job_store import make_job
from tests.sockets import LiveSession

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
START_TIMEOUT_S = 120
KEYS = ("one", "two")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two processes and nginx; in the end nothing of them is left."""
    folder = tmp_path_factory.mktemp("fleet")
    settings = {"workers": 2, "data_dir": folder, "api_keys": ",".join(KEYS), "threads": 1}
    server = launch_server(folder / "log", **settings)
    try:
        wait_until(lambda: '"workers": 2' in read_log(server), START_TIMEOUT_S, 0.2)
        yield server
        family = psutil.Process(server.pid).children(recursive=True)
        code = server.stop()
        assert code == 0, server.log.read_text()
        assert not psutil.wait_procs(family, 10)[1]
        assert "Traceback" not in server.log.read_text()
    finally:
        server.process.kill()
        server.process.wait()


def read_log(server: LiveServer) -> str:
    assert server.is_alive(), server.log.read_text()
    return server.log.read_text()


@contextlib.contextmanager
def call(fleet: LiveServer, key: str = KEYS[0]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.url, headers={"X-API-Key": key}, timeout=60) as client:
        yield client


@needs_nginx
def test_sessions_reach_their_process_with_chunks_and_sockets(fleet, portrait, tmp_path):
    frames = [encode(portrait[:64, :64], "PNG")] * 2
    with call(fleet) as client:
        workers = set()
        for _ in range(4):
            session = LiveSession(client, ref_size=64, smoothing="off")
            workers.add(session.id.partition(".")[0])
            with session.connect() as socket:
                for frame in frames:
                    socket.send(frame)
                    assert b'"frame"' in socket.recv(30, decode=False)
                    assert socket.recv(30)[:4] == b"\x89PNG"
            files = [("frame", ("0.png", frames[0]))]
            answer = client.put(f"{session.path}/chunks/0", files=files)
            assert answer.status_code == 200, answer.text
        assert workers == {"w1", "w2"}


@needs_nginx
def test_kept_results_reach_their_process(fleet, portrait):
    image = encode(portrait[:64, :64], "PNG")
    with call(fleet) as client:
        for _ in range(3):
            options = {"keep_s": 60, "ref_size": 64}
            kept = client.post("/v1/image", files={"file": image}, data=options)
            result_id = kept.headers["x-result-id"]
            again = client.post(f"/v1/image/{result_id}", data={"output": "cutout"})
            assert again.status_code == 200, again.text
            assert_problem(
                client.post("/v1/image/w3.none", data={"output": "cutout"}), 404, "not-found"
            )


@needs_nginx
def test_jobs_survive_a_kill_and_are_found_listed_and_made_once(fleet, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=12, tone=False).read_bytes()
    for key in KEYS:
        with call(fleet, key) as client:
            jobs = []
            for number in (1, 1, 2):
                headers = ASYNC | {"Idempotency-Key": f"clip-{number}"}
                answer = bring(client, clip, headers, ref_size=64)
                assert answer.status_code == 202, answer.text
                jobs.append(answer.json()["id"])
            assert jobs[0] == jobs[1] != jobs[2]
            listed = client.get("/v1/jobs", headers={"Connection": "close"}).json()["jobs"]
            assert [job["id"] for job in listed] == [jobs[2], jobs[0]]
            assert len({job.partition(".")[0] for job in jobs}) == 1
    processes = [p for p in psutil.Process(fleet.pid).children() if "python" in p.name()]
    processes.sort(key=psutil.Process.create_time)
    owner = processes[int(jobs[2].partition(".")[0].removeprefix("w")) - 1]
    os.kill(owner.pid, signal.SIGKILL)
    with call(fleet, KEYS[-1]) as client:
        wait_until(lambda: client.get(f"/v1/jobs/{jobs[2]}").status_code == 200, START_TIMEOUT_S)

        def read_state() -> str:
            return client.get(f"/v1/jobs/{jobs[2]}").json()["state"]

        wait_until(lambda: read_state() not in ("queued", "running"), START_TIMEOUT_S, 0.2)
        assert read_state() == "succeeded"
        result = client.get(f"/v1/jobs/{jobs[2]}/results/composite.mp4")
        assert result.status_code == 200 and result.content[4:8] == b"ftyp"
        assert client.delete(f"/v1/jobs/{jobs[2]}").status_code == 204


@needs_nginx
def test_uploads_find_their_process_and_their_jobs_are_listed(fleet, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.2, fps=10, tone=False)
    client = TusClient(f"{fleet.url}/v1/uploads", headers={"X-API-Key": KEYS[0]})
    metadata = {"filename": clip.name, "ref_size": "64"}
    jobs = []
    for _ in range(4):
        with clip.open("rb") as file:
            uploader = client.uploader(file_stream=file, chunk_size=2000, metadata=metadata)
            uploader.upload()
        jobs.append(uploader.request.response_headers["x-job-id"])
    with call(fleet) as http:
        listed = [job["id"] for job in http.get("/v1/jobs").json()["jobs"]]
        assert listed[:4] == jobs[::-1], "one process has all jobs of a key"
        for job in jobs:
            assert wait_for_end(http, f"/v1/jobs/{job}")["state"] == "succeeded"
            assert http.delete(f"/v1/jobs/{job}").status_code == 204


@needs_nginx
def test_metrics_are_those_of_all_processes(fleet):
    with call(fleet) as client:
        wait_until(lambda: read_up(client) == {"w1": 1.0, "w2": 1.0}, START_TIMEOUT_S)
        families = read_families(client)
    for name in ("matting_ready", "process_resident_memory_bytes", "matting_build_info"):
        assert {sample.labels["worker"] for sample in families[name].samples} == {"w1", "w2"}
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    text = httpx.get(f"{fleet.url}/metrics", headers=openmetrics, timeout=60).text
    assert text.endswith("# EOF\n") and '# {request_id="' in text


def read_families(client: httpx.Client) -> dict:
    text = client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def read_up(client: httpx.Client) -> dict[str, float]:
    samples = read_families(client)["matting_worker_up"].samples
    return {sample.labels["worker"]: sample.value for sample in samples}


@needs_nginx
def test_process_that_is_away_is_told_as_a_problem(tmp_path: Path) -> None:
    """nginx alone, with nobody behind it."""
    settings = Settings(port=find_free_port(), data_dir=tmp_path, api_keys=KEYS, host="0.0.0.0")
    workers = [Worker("w1", find_free_port()), Worker("w2", find_free_port())]
    text = make_config(settings, workers, folder=str(tmp_path), metrics_port=1, has_quotas=True)
    (tmp_path / "nginx.conf").write_text(text)
    command = [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]
    process = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{settings.port}"

        def ask(path: str) -> httpx.Response | None:
            try:
                return httpx.get(url + path, timeout=60)
            except httpx.ConnectError:
                return None

        wait_until(lambda: ask("/readyz") is not None)
        for path in ("/readyz", "/v1/sessions/w1.abc", "/v1/jobs"):
            answer = ask(path)
            assert_problem(answer, 503, "not-ready")
            assert answer.headers["retry-after"] == "1"
    finally:
        process.terminate()
        process.wait()


def test_workers_without_nginx_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import service.workers.supervisor as supervisor

    monkeypatch.setattr(supervisor.shutil, "which", lambda *arguments, **more: None)
    with pytest.raises(SettingsError, match="needs nginx.*apt install nginx-light"):
        supervisor.Supervisor(Settings(workers=2, data_dir=tmp_path), is_watched=False)


def test_folder_with_jobs_of_another_number_of_workers_is_refused(tmp_path: Path) -> None:
    for worker, count in (("w3", 2), ("", 2)):
        files = tmp_path / worker / "matting-jobs" / "files" / "job"
        files.mkdir(parents=True)
        with pytest.raises(SettingsError, match="another number of workers"):
            check_leftovers(Settings(workers=count, data_dir=tmp_path))
        shutil.rmtree(tmp_path / worker / "matting-jobs")
    store = JobStore.open(tmp_path)  # whose files are in object storage
    job = make_job()
    store.insert(job, 0)
    with pytest.raises(SettingsError, match="another number of workers"):
        check_leftovers(Settings(workers=2, data_dir=tmp_path))
    store.update(job.id, state="expired")
    store.close()
    check_leftovers(Settings(workers=2, data_dir=tmp_path))


@needs_nginx
def test_port_that_the_system_chooses_is_refused() -> None:
    done = run_service("--workers", "2", "--port", "0")
    assert done.returncode == 3 and "workers need ports after it" in done.stderr


def test_ports_that_others_have_are_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = find_ports(port - 1, 2)
    assert port not in found and port < found[0] < found[1]
    with pytest.raises(SettingsError, match="workers need ports after it, 3 of them"):
        find_ports(65_533, 3)


def test_ids_of_a_single_process_have_no_name(make_client, portrait):
    client = make_client(FakeEngine())
    assert "." not in client.post("/v1/sessions", json={}).json()["id"]
    named = make_client(FakeEngine(), worker="w7")
    assert named.post("/v1/sessions", json={}).json()["id"].startswith("w7.")
