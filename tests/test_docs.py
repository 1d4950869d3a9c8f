"""Every example of the documents is carried out; every table that can be checked is."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from service.api.compat.rembg import RembgOptions
from service.api.compat.removebg import RemoveBgOptions
from service.settings import describe_settings
from tests.clips import make_clip
from tests.helpers import ROOT, find_free_port, wait_until
from tests.tiny_network import export_tiny
from tests.videos import Clip, read_cutouts

README = (ROOT / "README.md").read_text()
COMPAT_PAGE = (ROOT / "docs" / "compat.md").read_text()


def read_examples(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


EXAMPLES = read_examples(README)
COMPAT = read_examples(COMPAT_PAGE)
CURL = [line for line in EXAMPLES if "curl " in line]
LIVE = [line for line in EXAMPLES if line.startswith("matte live ")]
MATTE = [line for line in EXAMPLES if line.startswith("matte ") and line not in LIVE]
VIDEO_STARTS = {".mp4": (4, b"ftyp"), ".mov": (4, b"ftypqt"), ".webm": (0, b"\x1a\x45\xdf\xa3")}
# `make test` is what runs this; `make serve` has a test of its own below.
ELSEWHERE = ["make serve", "make test"]


def test_every_example_is_run_by_a_test() -> None:
    assert len(CURL) > 10 and len(MATTE) > 3
    assert sorted(EXAMPLES) == sorted([*CURL, *MATTE, *LIVE, *ELSEWHERE])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, portrait_jpeg: bytes) -> Path:
    """Where the reader of the README stands: a photo, a clip."""
    path = tmp_path_factory.mktemp("reader")
    (path / "portrait.jpg").write_bytes(portrait_jpeg)
    make_clip(path / "clip.mp4", seconds=0.5, fps=12, size=(320, 256))
    return path


def run_example(command: str, folder: Path, live_server) -> tuple[str, Path | None]:
    """Carry out a command of a reader; return what it printed and the file it wrote, if any."""
    here = command.replace("localhost:8000", f"127.0.0.1:{live_server().port}")
    done = subprocess.run(here, shell=True, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = re.search(r" -o (\S+)", command)
    return done.stdout, folder / written[1] if written else None


@pytest.mark.parametrize("command", CURL)
def test_curl_example_works(command: str, folder: Path, live_server) -> None:
    output, result = run_example(command, folder, live_server)
    if result is None:
        assert output.strip()
        return
    if result.suffix in VIDEO_STARTS:
        start, mark = VIDEO_STARTS[result.suffix]
        assert result.read_bytes()[start:].startswith(mark)
        return
    if result.name == "frames.zip":
        assert len(read_cutouts(result.read_bytes())) == 2
        return
    if result.suffix == ".zip":
        with zipfile.ZipFile(result) as archive:
            assert archive.testzip() is None and len(archive.namelist()) in (2, 3)
        return
    if result.suffix == ".json":
        assert json.loads(result.read_bytes())["image_b64"]
        return
    with Image.open(result) as image:
        if result.stem == "person":
            assert 200_000 < image.width * image.height <= 250_000
            return
        assert image.size == (512, 512)
        transparent = {"alpha": "L", "cutout": "RGBA"}.get(result.stem, "RGB")
        assert image.mode == ("RGB" if result.name == "alpha.webp" else transparent)
        if result.name == "alpha.png":
            alpha = np.asarray(image) / 255
            assert alpha[80:170, 180:260].mean() > 0.9, "the face is the person's"
            assert alpha[0:60, 80:150].mean() < 0.1, "the wall is not"


def test_python_example_writes_the_clip_twice_over(folder: Path, live_server) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    here = code.replace("localhost:8000", f"127.0.0.1:{live_server().port}")
    done = subprocess.run([sys.executable, "-c", here], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result, clip = (Clip((folder / name).read_bytes()) for name in ("chunks.mp4", "clip.mp4"))
    assert result.times == [*clip.times, *(time + clip.duration for time in clip.times)]


def test_error_of_the_readme_is_the_real_one(folder: Path, live_server) -> None:
    shown = json.loads(re.search(r"^```json\n(.*?)^```$", README, re.M | re.S)[1])
    command = next(line for line in CURL if "outptu" in line)
    output, _ = run_example(command, folder, live_server)
    assert json.loads(output) | {"instance": "…"} == shown


@pytest.mark.parametrize("command", COMPAT)
def test_example_of_the_compat_page_works(command: str, folder: Path, live_server) -> None:
    output, result = run_example(command, folder, live_server)
    if result is None:
        shown = re.search(r"^```json\n(.*?)^```$", COMPAT_PAGE, re.M | re.S)[1]
        assert json.loads(output) == json.loads(shown)
        return
    if result.suffix == ".json":
        assert json.loads(result.read_text())["data"]["result_b64"].startswith("iVBORw0KGgo")
    elif result.suffix == ".zip":
        assert zipfile.ZipFile(result).namelist() == ["color.jpg", "alpha.png"]
    else:
        with Image.open(result) as image:
            assert image.format == {".png": "PNG", ".jpg": "JPEG"}[result.suffix]
            assert min(image.size) > 200


def test_compat_page_names_every_parameter() -> None:
    assert len(COMPAT) > 8
    for options in (RemoveBgOptions, RembgOptions):
        for name in options.model_fields:
            assert f"`{name}`" in COMPAT_PAGE


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


@pytest.mark.parametrize("command", LIVE)
def test_live_example_works(command: str, folder: Path, live_server) -> None:
    program = Path(sys.executable).parent / "matte"
    here = command.replace("matte ", f"{program} ", 1)
    run_example(here, folder, live_server)
    assert (folder / "live.mp4").read_bytes()[4:8] == b"ftyp"


def test_live_script_shows_all_frames_but_the_one_that_waits(folder: Path, live_server) -> None:
    address = f"http://127.0.0.1:{live_server().port}"
    script = [sys.executable, ROOT / "examples" / "live.py", "clip.mp4", address]
    done = subprocess.run(script, cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    with av.open(io.BytesIO(done.stdout), format="mjpeg") as movie:
        sizes = [(frame.width, frame.height) for frame in movie.decode(video=0)]
    assert sizes == [(320, 256)] * 5, "six frames, and the last waits for its follower"


@pytest.mark.timeout(600)
def test_matte_examples_work_in_their_order(folder: Path) -> None:
    """Each in the folder of the reader: a checkpoint, a clip, and the checkout's files."""
    export_tiny(folder / "exported.onnx")
    (folder / "exported.pt").rename(folder / "modnet.ckpt")
    for name in ("service", "training"):
        (folder / name).symlink_to(ROOT / name)
    bin_folder = Path(sys.executable).parent
    for example in MATTE:
        program, *arguments = example.split()
        command = [bin_folder / program, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{example}\n{done.stderr}"
    report = json.loads((folder / "modnet.json").read_text())
    assert report["max_abs"] <= report["tolerance"]
    for name in ("modnet.onnx", "runs/tiny/best.pt", "runs/tiny/curves.png", "runs/adapted.pt"):
        assert (folder / name).stat().st_size > 10_000


def test_settings_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page.endswith(describe_settings() + "\n")


def test_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_every_test_that_the_page_on_media_names_is_there() -> None:
    page = (ROOT / "docs" / "media.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named and sorted(name for name in named if f"def {name}(" not in sources) == []
