"""Thousands of damaged files and the named bombs, through a real server."""

import http.client
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import hostile
from tests.clips import make_concat_script, make_playlist
from tests.gate.figures import choose, find_percentile, follow, report
from tests.gate.mutants import damage, make_clips, make_images
from tests.helpers import LiveServer, encode

MAY = {200, 202, 400, 408, 413, 415, 422, 429}
LONGEST_S = 60.0  # on a machine that does other things, too; the figure says what it was
MOST_CPU_S = 1.0  # for a bomb, of the service and its decoders
PARENT_BYTES = 64 * 2**20


def post(server: LiveServer, path: str, content: bytes) -> tuple[int, float]:
    """Return the status of an answer and the seconds until it was read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    kind = "video/mp4" if "video" in path else "image/png"
    start_s = time.monotonic()
    try:
        connection.request("POST", path, content, {"Content-Type": kind})
        response = connection.getresponse()
        response.read()
        return response.status, time.monotonic() - start_s
    finally:
        connection.close()


@pytest.fixture(scope="module")
def server(live_server, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    return live_server(decoders=2, queue_s=60, max_videos=2, sync_video_max_s=20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_mutants_are_answers_or_refusals(server: LiveServer, tmp_path: Path) -> None:
    chance, count = random.Random(7), choose(300, 50_000)
    sources = [("/v1/image?ref_size=64", data) for data in make_images().values()]
    sources += [
        ("/v1/video?ref_size=64&preset=ultrafast", data) for data in make_clips(tmp_path).values()
    ]
    cases = [
        (path, damage(data, chance))
        for path, data in (chance.choice(sources) for _ in range(count))
    ]
    before = psutil.Process(server.pid).memory_info().rss
    start_s = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        posting = threads.map(lambda case: post(server, *case), cases)
        answers = list(follow(posting, count, "damaged files"))
    statuses = Counter(status for status, _ in answers)
    times_s = [seconds for _, seconds in answers]
    grown = psutil.Process(server.pid).memory_info().rss - before
    report(
        "damaged files",
        {
            "files": count,
            "answers by status": dict(sorted(statuses.items())),
            "longest answer": f"{max(times_s):.2f} s",
            "p99": f"{find_percentile(times_s, 0.99):.2f} s",
            "files a second": f"{count / (time.monotonic() - start_s):.1f}",
            "growth of the service": f"{grown / 2**20:.0f} MiB",
        },
    )
    assert set(statuses) <= MAY and statuses[422] > 0 and statuses[200] > 0
    assert max(times_s) < LONGEST_S and server.is_alive()
    assert "Traceback" not in server.log.read_text()


BOMBS = {
    "PNG of 20 000 x 20 000": lambda folder: hostile.make_flat_png(20_000, 20_000),
    "PNG that lies about its data": lambda folder: hostile.make_lying_png(),
    "PNG with text that inflates": lambda folder: hostile.make_text_bomb(),
    "malformed APNG": lambda folder: hostile.make_broken_apng(),
    "JPEG of 20 000 scans": lambda folder: hostile.make_slow_jpeg(20_000),
    "WebP of the largest size": lambda folder: hostile.make_large_webp(),
    "nested boxes": lambda folder: hostile.make_nested_boxes(100_000),
    "HEIF of many items": lambda folder: hostile.make_many_items(60_000),
    "TIFF of many directories": lambda folder: hostile.make_tiff_chain(100_000),
    "TIFF in a circle": lambda folder: hostile.make_tiff_chain(3, is_loop=True),
    "TIFF of many tags": lambda folder: hostile.make_tiff_with_tags(60_000),
    "TIFF of large tags": lambda folder: hostile.make_large_tags(900, 1 << 20),
    "EXIF of 65 000 tags": lambda folder: encode(
        Image.new("RGB", (96, 64)), "PNG", exif=hostile.make_exif_of_tags(65_000)
    ),
    **{
        f"{kind} of 2 million comments": lambda folder, kind=kind: hostile.make_comments(
            kind, 2_000_000
        )
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "HEIF", "AVIF")
    },
    "AVIF that claims 16 384 x 16 384": lambda folder: hostile.claim_size(
        make_images()["AVIF"], 16_384, 16_384
    ),
}  # fmt: skip
CLIPS = {
    "ffconcat script": lambda folder: make_concat_script(
        folder / "script", folder / "other"
    ).read_bytes(),
    "HLS playlist": lambda folder: make_playlist(
        folder / "list", folder / "other"
    ).read_bytes(),
    "MP4 of 67 million samples": lambda folder: claim_samples(make_clips(folder)["mp4"]),
}  # fmt: skip


def claim_samples(clip: bytes) -> bytes:
    """Let the table of sizes claim 2^26 samples of one size."""
    where = clip.index(b"stsz") + 8
    return clip[:where] + (1).to_bytes(4) + (1 << 26).to_bytes(4) + clip[where + 8 :]


def count_cpu_s(process: psutil.Process) -> float:
    """Return the seconds of a core that a process and its children, dead ones too, have used."""
    own = process.cpu_times()
    times = [one.cpu_times() for one in process.children(recursive=True)]
    used_s = sum(time.user + time.system for time in (own, *times))
    return used_s + own.children_user + own.children_system


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_named_bombs_cost_nothing(server: LiveServer, tmp_path: Path) -> None:
    make_clips(tmp_path)
    (tmp_path / "other").write_bytes(b"the file of somebody else")
    process = psutil.Process(server.pid)
    figures: dict[str, object] = {}
    for name, make in (BOMBS | CLIPS).items():
        path = "/v1/video?ref_size=64" if name in CLIPS else "/v1/image?ref_size=64"
        content = make(tmp_path)
        before = process.memory_info().rss
        used_s = -count_cpu_s(process)
        status, seconds = post(server, path, content)
        used_s += count_cpu_s(process)
        grown = process.memory_info().rss - before
        figures[f"{name}, {len(content)} bytes"] = (
            f"{status} in {seconds:.2f} s, {used_s:.2f} s of them of a core, "
            f"service {grown / 2**20:+.0f} MiB"
        )
        assert used_s <= MOST_CPU_S, name
        assert status in MAY, name
        assert grown <= PARENT_BYTES + len(content), name
    report("named bombs", figures)
    assert post(server, "/v1/image?ref_size=64", make_images()["PNG"])[0] == 200
