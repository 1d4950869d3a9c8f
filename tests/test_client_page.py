"""The examples of docs/client.md are carried out: Python, Node, Chromium; curl by test_docs.py."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.browser.conftest import launch
from tests.helpers import ROOT, decode
from tests.videos import Clip

PAGE = (ROOT / "docs" / "client.md").read_text()
SERVER = "http://localhost:8000"


def read_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


RECIPE, IN_BROWSER, IN_NODE = read_blocks("js")
PYTHON = read_blocks("python")
PHOTO, JOBS, SESSIONS, LIVE, ERRORS = range(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run_python(number: int, folder: Path, url: str) -> str:
    code = PYTHON[number].replace(SERVER, url).replace("Client()", f'Client("{url}")')
    program = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_photo_and_clip_in_python(folder: Path, live_server) -> None:
    printed = run_python(PHOTO, folder, live_server().url)
    assert printed.startswith("340 340 0.") and "RGBA" in printed
    assert "Progress(stage='download'" in printed
    assert decode((folder / "cutout.webp").read_bytes()).shape == (340, 340, 4)
    assert Clip((folder / "teal.mp4").read_bytes()).times


def test_job_in_python(folder: Path, live_server) -> None:
    printed = run_python(JOBS, folder, live_server().url)
    assert "succeeded 30 30" in printed
    assert (folder / "alpha.mp4").stat().st_size > 5000 < (folder / "cutout.webm").stat().st_size


def test_sessions_in_python(folder: Path, live_server) -> None:
    printed = run_python(SESSIONS, folder, live_server().url)
    assert len(Clip((folder / "pieces.mp4").read_bytes()).times) == 60
    assert len(printed.splitlines()) == 30 and "(320, 320, 4)" in printed


def test_live_frames_in_python(folder: Path, live_server) -> None:
    printed = run_python(LIVE, folder, live_server().url).splitlines()
    assert [line.split()[0] for line in printed] == ["0", "1", "2", "3", "4"]


def test_errors_in_python(folder: Path, live_server) -> None:
    assert run_python(ERRORS, folder, live_server().url).startswith("invalid-option size: ")


def test_recipe_runs_in_node(folder: Path, live_server) -> None:
    (folder / "matting.js").write_text(RECIPE.replace(SERVER, live_server().url))
    (folder / "use.mjs").write_text(IN_NODE)
    (folder / "package.json").write_text(json.dumps({"type": "module"}))
    done = subprocess.run(["node", "use.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert decode((folder / "cutout.png").read_bytes()).shape == (340, 340, 4)
    assert len(Clip((folder / "teal.mp4").read_bytes()).times) == 30


def test_recipe_runs_in_a_page(live_server) -> None:
    server = live_server()
    body = '<input type="file" id="picker"><img id="picture"><script type="module" src="use.js">'
    files = {
        "index.html": ("text/html", f"<!doctype html>{body}</script>"),
        "matting.js": ("text/javascript", RECIPE.replace(SERVER, server.url)),
        "use.js": ("text/javascript", IN_BROWSER),
    }

    def answer(route) -> None:
        kind, text = files[route.request.url.rpartition("/")[2]]
        route.fulfill(content_type=kind, body=text)

    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.route("**/recipe/*", answer)
        page.goto(f"{server.url}/recipe/index.html")
        page.set_input_files("#picker", ROOT / "examples" / "portrait.jpg")
        page.wait_for_function("picture.naturalWidth > 0", timeout=200_000)
        assert page.evaluate("[picture.naturalWidth, picture.naturalHeight]") == [340, 340]
        told = page.evaluate(
            """async () => {
                const { matte, matteVideo } = await import("./matting.js");
                const file = picker.files[0], seen = (error) => error;
                const failed = await matteVideo(file).catch(seen);
                const refused = await matte(file, { outptu: "x" }).catch(seen);
                return [failed.code, refused.code, refused.hint, refused.status];
            }"""
        )
        browser.close()
    assert told[1:] == ["invalid-option", "did you mean `output`?", 422]
    assert told[0] in ("undecodable-media", "unsupported-media") and not errors
