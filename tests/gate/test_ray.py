"""A Ray cluster of two nodes: jobs in segments, a worker killed, sessions, a folder of photos.

Needs the extra `ray` (`make gate PART=ray` installs it beside the others).
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

ray = pytest.importorskip("ray")

from ray import serve  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from deploy.ray_app import Args, app, read_settings  # noqa: E402
from deploy.ray_photos import BATCH, matte_folder  # noqa: E402
from deploy.ray_segments import Networks, RaySegments  # noqa: E402
from service.clips.join import matte_in_segments  # noqa: E402
from service.clips.matte import MattedClip, ProgressCallbacks, matte_clip  # noqa: E402
from service.clips.plan import ClipPlan  # noqa: E402
from service.clips.segments import DistributedClip  # noqa: E402
from service.errors import InvalidOption  # noqa: E402
from service.frames.render import RenderOptions  # noqa: E402
from service.media.decoder.client import Decoder  # noqa: E402
from service.settings import Settings, SettingsError  # noqa: E402
from tests.clips import make_clip, picture  # noqa: E402
from tests.gate.figures import choose, report  # noqa: E402
from tests.gate.ray_cluster import add_node, find_workers, run_cluster  # noqa: E402
from tests.helpers import ROOT, assert_problem, encode, find_free_port, wait_until  # noqa: E402
from tests.job_requests import bring  # noqa: E402
from tests.segments import REF_SIZE  # noqa: E402
from tests.service.api.routes.test_resumable import begin, read_offset  # noqa: E402
from tests.videos import Clip  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the library's own
FRAMES = choose(48, 240)
SEGMENT = 8
CPUS = 2  # of a segment: the last bits depend on the threads of the network
MODEL = "modnet-fast"
OPTIONS = {"outputs": "alpha,frames", "ref_size": REF_SIZE, "model": MODEL, "crf": 12}
WAIT_S = 240.0
KEY, MAX_REQUESTS = "key1", 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    environ = {
        "PYTHONPATH": str(ROOT),
        "MATTING_DATA_DIR": str(folder),
        "MATTING_API_KEYS": KEY,
        "MATTING_MAX_REQUESTS": str(MAX_REQUESTS),
    }
    with run_cluster() as cluster:
        ray.init(address=cluster.address, runtime_env={"env_vars": environ}, log_to_driver=False)
        yield cluster
        ray.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    return make_clip(path, seconds=FRAMES / 24, fps=24, size=(192, 128))


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> MattedClip:
    """Return the clip matted on one machine, in one piece."""
    network = Networks(Settings(threads=CPUS)).make(MODEL, make_plan())
    return run(source, tmp_path_factory.mktemp("whole"), network=network)


def make_plan() -> ClipPlan:
    return ClipPlan(
        outputs=("alpha", "frames"),
        render_options=RenderOptions(),
        ref_size=REF_SIZE,
        ofd_threshold=0.1,
        keep_audio=True,
        crf=12,
        preset="veryfast",
    )


def run(source: Path, folder: Path, runner: RaySegments | None = None, network=None) -> MattedClip:
    plan = make_plan()
    settings, rest = Settings(), (folder, ProgressCallbacks(), threading.Event())
    with source.open("rb") as file, closing(Decoder(settings)) as decoder:
        if runner is None:
            return matte_clip(settings, network, decoder, file, plan, *rest, max_s=600)
        clip = DistributedClip(settings, MODEL, plan, file)
        return matte_in_segments(runner, clip, decoder, *rest, max_s=600)


def check_same(clip: MattedClip, whole: MattedClip) -> None:
    alpha, frames = (result.path.read_bytes() for result in clip.results)
    assert frames == whole.results[1].path.read_bytes()
    assert clip.report.describe(clip.info) == whole.report.describe(whole.info)
    check_same_clip(alpha, whole)


def check_same_clip(alpha: bytes, whole: MattedClip) -> None:
    ours, theirs = Clip(whole.results[0].path.read_bytes()), Clip(alpha)
    assert (theirs.times, theirs.sound) == (ours.times, ours.sound)


def test_a_clip_is_bit_identical_though_a_worker_is_killed(
    cluster, source, whole, tmp_path
) -> None:
    runner = RaySegments(frames=SEGMENT, ahead=4, cpus=CPUS)
    killed = []

    def kill() -> None:
        wait_until(lambda: len(find_workers("ray::matte")) == 2, WAIT_S)
        victim = find_workers("ray::matte")[0]
        victim.send_signal(signal.SIGKILL)
        killed.append(victim.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    clip = run(source, tmp_path, runner)
    killer.join()
    assert killed
    check_same(clip, whole)


def test_a_clip_is_whole_though_a_machine_goes(cluster, source, whole, tmp_path) -> None:
    node = add_node(cluster)
    (raylet,) = node.all_processes["raylet"]
    runner = RaySegments(frames=SEGMENT // 2, ahead=8, cpus=CPUS)
    with ThreadPoolExecutor(1) as pool:
        clip = pool.submit(run, source, tmp_path, runner)
        try:
            wait_until(
                lambda: any(p.ppid() == raylet.process.pid for p in find_workers("ray::matte")),
                WAIT_S,
            )
        finally:
            cluster.remove_node(node, allow_graceful=False)
        check_same(clip.result(), whole)


def test_two_nodes_are_faster_than_one(cluster, source, tmp_path) -> None:
    """Measures; both times have the workers and their networks warm."""
    times_s = {}
    for ahead in (1, 2):
        for turn in ("warm", "measured"):
            folder = tmp_path / f"{ahead}-{turn}"
            folder.mkdir()
            start_s = time.perf_counter()
            run(source, folder, RaySegments(frames=SEGMENT, ahead=ahead, cpus=1))
            times_s[ahead] = time.perf_counter() - start_s
    figures = {f"{FRAMES} frames, {n} segments at once, s": f"{s:.2f}" for n, s in times_s.items()}
    report(
        "a clip of 192 x 128 on Ray, one core a segment",
        figures | {"ratio": f"{times_s[1] / times_s[2]:.2f}"},
    )


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> Iterator[str]:
    port = find_free_port()
    serve.start(http_options={"port": port, "host": "127.0.0.1"})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def deploy(address: str, **args: float) -> httpx.Client:
    given = Args(replica_cpus=0.5, segment_frames=SEGMENT, **args)
    serve.run(app(given), name="matting", route_prefix="/")
    headers = {"X-API-Key": KEY, "Host": "matting.example.com"}
    return httpx.Client(base_url=address, headers=headers, timeout=120)


def count_replicas() -> int:
    states = serve.status().applications["matting"].deployments["matting"].replica_states
    return states.get("RUNNING", 0)


def test_a_replica_without_keys_serves_nobody(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MATTING_DATA_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="MATTING_API_KEYS"):
        read_settings("a1")
    monkeypatch.setenv("MATTING_API_KEYS", KEY)
    settings = read_settings("a1")
    assert (settings.data_dir, settings.name_id("x")) == (tmp_path / "a1", "a1.x")


def test_replicas_are_added_and_what_is_too_much_is_refused(address) -> None:
    photo = encode(picture(0, (960, 640)), "JPEG")
    client = deploy(address, min_replicas=1, max_replicas=2, target_requests=1)
    assert httpx.get(f"{address}/v1/models", timeout=60).status_code == 401
    assert count_replicas() == 1
    enough, answers = threading.Event(), []

    def ask() -> None:
        while not enough.is_set():
            answer = client.post("/v1/image", content=photo, headers={"Content-Type": "image/jpeg"})
            answers.append(answer)
            if answer.status_code == 429:
                enough.wait(float(answer.headers["Retry-After"]))

    with client, ThreadPoolExecutor(3 * MAX_REQUESTS) as pool:
        asked = [pool.submit(ask) for _ in range(3 * MAX_REQUESTS)]
        try:
            wait_until(lambda: count_replicas() == 2, WAIT_S, every_s=1)
        finally:
            enough.set()
        for one in asked:
            one.result()
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert_problem(refused, 429, "overloaded")


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with deploy(address, min_replicas=2, max_replicas=2) as client:
        yield client


def test_a_job_of_a_replica_is_done_by_tasks(client, source, whole) -> None:
    answer = bring(client, source.read_bytes(), **OPTIONS)
    assert answer.status_code == 202, answer.text
    path = f"/v1/jobs/{answer.json()['id']}"
    states = "succeeded", "failed"
    wait_until(lambda: client.get(path).json()["state"] in states, WAIT_S, every_s=0.5)
    job = client.get(path).json()
    assert job["state"] == "succeeded", job
    assert client.get(f"{path}/results/frames.zip").content == whole.results[1].path.read_bytes()
    check_same_clip(client.get(f"{path}/results/alpha.mp4").content, whole)


def test_sessions_stay_with_their_replica(client) -> None:
    photo = encode(picture(0, (96, 64)), "JPEG")
    sessions = [client.post("/v1/sessions", json={"ref_size": REF_SIZE}).json() for _ in range(8)]
    ids = [session["id"] for session in sessions]
    assert len({name.split(".")[0] for name in ids}) == 2
    for number in range(2):
        for name in ids:
            url = f"/v1/sessions/{name}/chunks/{number}"
            answer = client.put(url, files={"frame": ("a.jpg", photo)})
            assert answer.status_code == 200, answer.text
    assert {client.delete(f"/v1/sessions/{name}").status_code for name in ids} == {204}


def test_uploads_and_kept_results_stay_with_their_replica(client) -> None:
    photo = encode(picture(0, (96, 64)), "JPEG")
    paths = [begin(client, 1000).headers["location"] for _ in range(8)]
    assert len({path.rpartition("/")[2].split(".")[0] for path in paths}) == 2
    assert [read_offset(client, path) for path in paths] == [0] * 8
    options = {"keep_s": 60, "ref_size": REF_SIZE}
    for _ in range(4):
        kept = client.post("/v1/image", params=options, files={"file": ("a.jpg", photo)})
        again = client.post(f"/v1/image/{kept.headers['X-Result-ID']}")
        assert (again.status_code, again.content) == (200, kept.content), again.text


def test_a_folder_of_photos_goes_on_where_it_ended(cluster, tmp_path) -> None:
    photos, out = tmp_path / "in", tmp_path / "out"
    (photos / "more").mkdir(parents=True)
    for number in range(BATCH + 4):
        folder = photos / "more" if number % 2 else photos
        (folder / f"{number}.jpg").write_bytes(encode(picture(0, (96, 64)), "JPEG"))
    (photos / "broken.jpg").write_bytes(b"nothing")
    given = {"ref_size": str(REF_SIZE), "format": "webp"}
    assert matte_folder(photos, out, given, cpus=CPUS) == (0, BATCH + 4)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.webp")}
    assert not list(out.rglob("*.part"))
    shutil.rmtree(out / "more")
    assert matte_folder(photos, out, given, cpus=CPUS) == (BATCH // 2 + 2, BATCH + 4)
    assert all(path.exists() for path in written)
    kept = [path for path in written if path.parent == out]
    assert all(path.stat().st_mtime_ns == written[path] for path in kept)
    with pytest.raises(InvalidOption, match="begun with"):
        matte_folder(photos, out, given | {"output": "cutout"}, cpus=CPUS)
