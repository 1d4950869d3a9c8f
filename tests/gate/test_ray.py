"""A Ray cluster of two nodes: jobs in segments, a worker killed, sessions, a folder of photos.

Needs the extra `ray` (`make gate PART=ray` installs it beside the others).
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

ray = pytest.importorskip("ray")

from ray import serve  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from deploy.ray_app import Args, app  # noqa: E402
from deploy.ray_photos import BATCH, matte_folder  # noqa: E402
from deploy.ray_segments import Networks, RaySegments  # noqa: E402
from service.clips.join import matte_in_segments  # noqa: E402
from service.clips.matte import MattedClip, ProgressCallbacks, matte_clip  # noqa: E402
from service.clips.plan import ClipPlan  # noqa: E402
from service.clips.segments import DistributedClip  # noqa: E402
from service.errors import InvalidOption  # noqa: E402
from service.frames.render import RenderOptions  # noqa: E402
from service.media.decoder.client import Decoder  # noqa: E402
from service.settings import Settings  # noqa: E402
from tests.clips import make_clip, picture  # noqa: E402
from tests.gate.figures import choose, report  # noqa: E402
from tests.helpers import ROOT, encode, find_free_port, wait_until  # noqa: E402
from tests.job_requests import bring  # noqa: E402
from tests.segments import REF_SIZE  # noqa: E402
from tests.videos import Clip  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the library's own
FRAMES = choose(48, 240)
SEGMENT = 8
CPUS = 2  # of a segment: the last bits depend on the threads of the network
MODEL = "modnet-fast"
OPTIONS = {"outputs": "alpha,frames", "ref_size": REF_SIZE, "model": MODEL, "crf": 12}
WAIT_S = 240.0


def make_node() -> dict[str, int]:
    """Return the arguments of a node; ports that are known are not waited for."""
    names = "metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent"
    ports = {f"{name}_port": find_free_port() for name in names}
    return {"num_cpus": 3, "object_store_memory": 200 << 20, **ports}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of this machine, with room for one segment at a time each."""
    folder = tmp_path_factory.mktemp("data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(
        initialize_head=True, head_node_args=make_node() | {"include_dashboard": False}
    )
    cluster.add_node(**make_node())
    environ = {"PYTHONPATH": str(ROOT), "MATTING_DATA_DIR": str(folder)}
    ray.init(address=cluster.address, runtime_env={"env_vars": environ}, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


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


def find_workers(name: str) -> list[psutil.Process]:
    """Return the processes that run tasks of this name now."""
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0] == name]


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
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    port = find_free_port()
    serve.start(http_options={"port": port, "host": "127.0.0.1"})
    args = Args(min_replicas=2, max_replicas=2, replica_cpus=0.5, segment_frames=SEGMENT)
    serve.run(app(args), name="matting", route_prefix="/")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
        yield client
    serve.shutdown()


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
