"""Published clients of remove.bg and rembg, against a server of ours."""

import base64
import io
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from PIL import Image
from removebg import RemoveBg
from removebg import removebg as client_module

from tests.helpers import encode
from tests.npm import install_npm_package

KEY = "a-key-of-the-tests"
NPM_PACKAGE = "remove.bg@1.3.0"
THEIR_ENDPOINT = "https://api.remove.bg/v1.0/removebg"


@pytest.fixture
def server(live_server):
    return live_server(api_keys=KEY)


@pytest.fixture
def folder(tmp_path: Path, portrait_jpeg: bytes) -> Path:
    (tmp_path / "photo.jpg").write_bytes(portrait_jpeg)
    (tmp_path / "photo.b64").write_text(base64.b64encode(portrait_jpeg).decode())
    return tmp_path


def read_mode_and_size(path: Path) -> tuple[str | None, str, tuple[int, int]]:
    with Image.open(path) as image:
        return image.format, image.mode, image.size


# PyPI: removebg 0.04.


@pytest.fixture
def pointed(server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of the client, with our address in the place of theirs."""
    assert client_module.API_ENDPOINT == THEIR_ENDPOINT
    monkeypatch.setattr(client_module, "API_ENDPOINT", f"{server.url}/v1.0/removebg")
    yield


def test_python_client_sends_a_file(pointed, folder):
    client = RemoveBg(KEY, str(folder / "error.log"))
    client.remove_background_from_img_file(str(folder / "photo.jpg"))
    result = folder / "photo.jpg_no_bg.png"
    assert read_mode_and_size(result) == ("PNG", "RGBA", (500, 500))
    with Image.open(result) as image:
        alpha = image.getchannel("A")
        assert alpha.getpixel((215, 120)) > 240 and alpha.getpixel((110, 30)) < 20


def test_python_client_sends_base64_and_a_colour(pointed, folder):
    client = RemoveBg(KEY, str(folder / "error.log"))
    text = (folder / "photo.b64").read_text()
    result = folder / "teal.png"
    client.remove_background_from_base64_img(text, "4k", str(result), bg_color="008080")
    assert read_mode_and_size(result) == ("JPEG", "RGB", (512, 512))
    with Image.open(result) as image:
        wall = image.getpixel((110, 30))
    assert max(abs(a - b) for a, b in zip(wall, (0, 128, 128), strict=True)) < 12


def test_python_client_raises_for_a_wrong_key_and_an_address(pointed, folder):
    text = (folder / "photo.b64").read_text()
    wrong = RemoveBg("wrong", str(folder / "error.log"))
    with pytest.raises(requests.HTTPError) as caught:
        wrong.remove_background_from_base64_img(text)
    assert caught.value.response.status_code == 403
    assert caught.value.response.json()["errors"][0]["code"] == "auth_failed"
    client = RemoveBg(KEY, str(folder / "error.log"))
    with pytest.raises(requests.HTTPError) as caught:
        client.remove_background_from_img_url("http://example.com/photo.jpg")
    assert caught.value.response.status_code == 400
    assert caught.value.response.json()["errors"][0]["code"] == "invalid_image_url"


# npm: remove.bg 1.3.0.

NODE_SCRIPT = """
const client = require("./client/dist/index.js");
const options = Object.assign({apiKey: process.argv[2]}, JSON.parse(process.argv[4]));
if (options.b64) { options.base64img = require("fs").readFileSync(options.b64, "utf8"); }
// It leaves the file open when it is refused before it has sent it all, so end by hand.
const end = answer => { console.log(JSON.stringify(answer)); process.exit(); };
client[process.argv[3]](options).then(
  result => { delete result.base64img; end({result}); }, errors => end({errors}));
"""


@pytest.fixture(scope="module")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client and its dependencies, as npm installs them."""
    return install_npm_package(tmp_path_factory.mktemp("npm"), NPM_PACKAGE)


@pytest.fixture
def run_node(npm_folder: Path, folder: Path, server):
    """Return `run_node(function, key=KEY, **options)`: what the client's promise ends with."""
    shutil.copytree(npm_folder / "node_modules" / "remove.bg", folder / "client")
    (folder / "node_modules").symlink_to(npm_folder / "node_modules")
    script = folder / "client" / "dist" / "index.js"
    text = script.read_text()
    assert text.count(THEIR_ENDPOINT) == 1
    script.write_text(text.replace(THEIR_ENDPOINT, f"{server.url}/v1.0/removebg"))
    (folder / "run.js").write_text(NODE_SCRIPT)

    def run(function: str, key: str = KEY, **options: object) -> dict:
        command = ["node", "--no-deprecation", "run.js", key, function, json.dumps(options)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_node_client_sends_a_file(run_node, folder):
    answer = run_node(
        "removeBackgroundFromImageFile",
        path="photo.jpg",
        outputFile="file.png",
        size="full",
        type="person",
        crop=True,
        crop_margin="10px",
    )
    result = answer["result"]
    size = (int(result["resultWidth"]), int(result["resultHeight"]))
    assert read_mode_and_size(folder / "file.png") == ("PNG", "RGBA", size)
    assert 200 < size[0] < 512, "cropped"
    assert (result["creditsCharged"], result["detectedType"]) == ("0", "person")


def test_node_client_sends_base64(run_node, folder):
    answer = run_node(
        "removeBackgroundFromImageBase64", b64="photo.b64", outputFile="text.jpg", bg_color="#fff"
    )
    assert (answer["result"]["resultWidth"], answer["result"]["resultHeight"]) == ("500", "500")
    assert read_mode_and_size(folder / "text.jpg") == ("JPEG", "RGB", (500, 500))


def test_node_client_hands_errors_on(run_node):
    send = "removeBackgroundFromImageFile"
    wrong = run_node(send, key="wrong", path="photo.jpg")
    assert [error["code"] for error in wrong["errors"]] == ["auth_failed"]
    part = run_node(send, path="photo.jpg", roi="10% 10% 90% 90%")
    assert [error["code"] for error in part["errors"]] == ["invalid_roi"]
    address = run_node("removeBackgroundFromImageUrl", url="http://example.com/photo.jpg")
    assert [error["code"] for error in address["errors"]] == ["invalid_image_url"]


# The lines of their documents, with another host and our folder's names.


def run_curl(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)


def test_curl_line_of_removebg_works(server, folder):
    line = """curl -H 'X-API-Key: INSERT_YOUR_API_KEY_HERE'           \\
       -F 'image_file=@/path/to/file.jpg'                 \\
       -F 'size=auto'                                     \\
       -f https://api.remove.bg/v1.0/removebg -o no-bg.png"""
    line = line.replace("https://api.remove.bg", server.url)
    line = line.replace("INSERT_YOUR_API_KEY_HERE", KEY).replace("/path/to/file.jpg", "photo.jpg")
    done = run_curl(line, folder)
    assert done.returncode == 0, done.stderr
    assert read_mode_and_size(folder / "no-bg.png") == ("PNG", "RGBA", (512, 512))


def test_curl_lines_of_rembg_work_where_they_may(live_server, folder):
    host = f"http://127.0.0.1:{live_server().port}"
    line = 'curl -s -F file=@/path/to/input.jpg "http://localhost:7000/api/remove" -o output.png'
    line = line.replace("http://localhost:7000", host).replace("/path/to/input.jpg", "photo.jpg")
    assert run_curl(line, folder).returncode == 0
    assert read_mode_and_size(folder / "output.png") == ("PNG", "RGBA", (512, 512))
    line = 'curl -s "http://localhost:7000/api/remove?url=http://input.png" -o output.png'
    assert run_curl(line.replace("http://localhost:7000", host), folder).returncode == 0
    assert re.search(r'"status":400.*url is not supported', (folder / "output.png").read_text())


def test_clients_that_follow_the_zip_recipe_get_the_picture(server, folder, portrait):
    """Apply alpha.png to color.jpg, as their documents say."""
    files = {"image_file": encode(portrait, "PNG")}
    answers = [
        requests.post(
            f"{server.url}/v1.0/removebg",
            files=files,
            data={"format": format, "size": "auto"},
            headers={"X-Api-Key": KEY},
            timeout=60,
        )
        for format in ("zip", "png")
    ]
    with zipfile.ZipFile(io.BytesIO(answers[0].content)) as archive:
        colour = Image.open(io.BytesIO(archive.read("color.jpg")))
        colour.putalpha(Image.open(io.BytesIO(archive.read("alpha.png"))))
    picture = Image.open(io.BytesIO(answers[1].content))
    assert colour.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    assert colour.size == picture.size == (512, 512)
