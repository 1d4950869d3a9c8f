"""Every example of the documents is carried out."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.docs_pages import PAGES, read_blocks, read_examples
from tests.helpers import ROOT, find_free_port, wait_until
from tests.job_requests import wait_for_end
from tests.videos import Clip, read_cutouts

SERVER = "localhost:8000"
PROGRAM = ".venv/bin/matte "
VIDEO_STARTS = {".mp4": (4, b"ftyp"), ".mov": (4, b"ftypqt"), ".webm": (0, b"\x1a\x45\xdf\xa3")}
IMAGES = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}
SIZE = (340, 340)  # of examples/portrait.jpg
CROPPED = ("person", "blue")
# `make serve` has a test of its own below; `make test` runs `make lint` and this.
ELSEWHERE = ["make serve", "make setup", "make lint", "make test"]
EXAMPLES = [(page, line) for page in sorted(PAGES) for line in read_examples(page)]
CURL = [example for example in EXAMPLES if "curl " in example[1]]
MATTE = {
    page: [line for line in read_examples(page) if line.startswith(PROGRAM)]
    for page in sorted(PAGES)
}


def test_every_example_is_run_by_a_test() -> None:
    run = [*(line for _, line in CURL), *(line for lines in MATTE.values() for line in lines)]
    assert len(CURL) > 40 and len(run) > len(CURL) + 6
    assert {page for page, lines in MATTE.items() if lines} == {
        "cli.md",
        "sessions.md",
        "train.md",
        "troubleshooting.md",
        "video.md",
    }
    # Those of a network of others have a test beside its file (tests/cli/test_models_add.py).
    here = {line for page, line in EXAMPLES if page != "models.md"}
    assert sorted(here) == sorted({*run, *ELSEWHERE})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader stands: the root of a clone, with its environment."""
    path = tmp_path_factory.mktemp("clone")
    for name in ("docs", "examples", "service", "training"):
        (path / name).symlink_to(ROOT / name)
    (path / ".venv").symlink_to(sys.prefix)
    return path


def run_example(command: str, folder: Path, live_server) -> tuple[str, Path | None]:
    """Carry out a command of a reader; return what it printed and the file it wrote, if any."""
    here = (
        command.replace(SERVER, f"127.0.0.1:{live_server().port}") if SERVER in command else command
    )
    # On busy cores two threads that wait for each other take many times as long as one.
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(here, shell=True, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    written = re.search(r" -o (\S+)", command)
    return done.stdout, folder / written[1] if written else None


@pytest.mark.parametrize("page, command", CURL)
def test_curl_example_works(page: str, command: str, folder: Path, live_server) -> None:
    output, result = run_example(command, folder, live_server)
    if result is None:
        assert output.strip()
    elif result.suffix in VIDEO_STARTS:
        start, mark = VIDEO_STARTS[result.suffix]
        assert result.read_bytes()[start:].startswith(mark)
    elif result.stem == "animation":
        with Image.open(result) as animation:
            assert animation.n_frames == 4 and f".{animation.format}".lower() == result.suffix
    elif result.name == "frames.zip":
        assert len(read_cutouts(result.read_bytes())) == 3, "0.133 s, 0.2667 s, 0.3667 s"
    elif result.suffix == ".zip":
        with zipfile.ZipFile(result) as archive:
            assert archive.testzip() is None and len(archive.namelist()) in (2, 3)
    elif result.suffix == ".json":
        answer = json.loads(result.read_bytes())
        assert (answer.get("image_b64") or answer["data"]["result_b64"]).startswith("iVBORw0KGgo")
    else:
        check_image(result)


def check_image(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == IMAGES[path.suffix]
        if path.stem in CROPPED:
            assert 200 < image.width < SIZE[0] and 200 < image.height <= SIZE[1]
            return
        assert image.size == SIZE
        if path.name == "cutout.png":
            assert image.mode == "RGBA"
        if path.name == "alpha.png":
            assert image.mode == "L"
            alpha = np.asarray(image) / 255
            assert alpha[80:170, 120:200].mean() > 0.9, "the face is the person's"
            assert alpha[0:60, 20:90].mean() < 0.1, "the wall is not"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [
        "cli.md",
        "sessions.md",
        "troubleshooting.md",
        "video.md",
        pytest.param("train.md", marks=pytest.mark.slow),  # minutes; its commands have tests
    ],
)
def test_matte_examples_work_in_their_order(page: str, folder: Path, live_server) -> None:
    for example in MATTE[page]:
        run_example(example, folder, live_server)
        for name in shlex.split(example):
            if re.fullmatch(r"(runs/)?[a-z-]+\.(mp4|pt|onnx)", name):
                assert (folder / name).stat().st_size > 10_000, example


def run_python(page: str, folder: Path, live_server) -> str:
    """Carry out the first Python of a page; return what it printed."""
    code = read_blocks(page, "python")[0]
    here = code.replace(SERVER, f"127.0.0.1:{live_server().port}")
    done = subprocess.run([sys.executable, "-c", here], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_example_uploads_a_clip_that_becomes_a_job(folder: Path, live_server) -> None:
    job_id = run_python("jobs.md", folder, live_server).strip()
    with httpx.Client(base_url=live_server().url, timeout=60) as client:
        job = wait_for_end(client, f"/v1/jobs/{job_id}")
    assert job["state"] == "succeeded" and job["results"][0]["name"] == "cutout.webm"


def test_python_example_writes_the_clip_twice_over(folder: Path, live_server) -> None:
    run_python("sessions.md", folder, live_server)
    files = ("chunks.mp4", "examples/clip.mp4")
    result, clip = (Clip((folder / name).read_bytes()) for name in files)
    assert result.times == [*clip.times, *(time + clip.duration for time in clip.times)]


@pytest.mark.parametrize(
    "page, word, changes",
    [("errors.md", "outptu", {"instance": "…"}), ("compat.md", "scale=5%", {})],
)
def test_error_that_a_page_shows_is_the_real_one(
    page: str, word: str, changes: dict, folder: Path, live_server
) -> None:
    (shown,) = read_blocks(page, "json")
    command = next(line for line in read_examples(page) if word in line)
    output, _ = run_example(command, folder, live_server)
    assert json.loads(output) | changes == json.loads(shown)


def test_make_serve_serves_on_the_port(tmp_path: Path) -> None:
    """With the environment of the tests; a fresh one is made by the tests of the Dockerfile."""
    venv = Path(sys.prefix)
    port = find_free_port()
    command = ["make", "serve", f"PORT={port}", f"VENV={venv}"]
    if not (venv / ".serve").exists():
        pytest.skip("these tests do not run in the environment that `make setup` makes")
    with (tmp_path / "log").open("wb") as log:
        env = {**os.environ, "MATTING_DATA_DIR": str(tmp_path)}
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=log, process_group=0
        )
    try:
        ask = ["curl", "--fail", "--silent", f"127.0.0.1:{port}/readyz"]
        wait_until(lambda: subprocess.run(ask, capture_output=True).returncode == 0, 60)
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def test_live_script_shows_all_frames_but_the_one_that_waits(folder: Path, live_server) -> None:
    address = f"http://127.0.0.1:{live_server().port}"
    script = [sys.executable, "examples/live.py", "examples/clip.mp4", address]
    done = subprocess.run(script, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    with av.open(io.BytesIO(done.stdout), format="mjpeg") as movie:
        sizes = [(frame.width, frame.height) for frame in movie.decode(video=0)]
    assert sizes == [(320, 320)] * 29, "30 frames, and the last waits for its follower"
