"""`--server`: photos, folders and clips sent to real uvicorn with the real network."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cli.__main__ import main as matte
from tests.clips import make_clip
from tests.helpers import find_free_port, post_image
from tests.sockets import serve
from tests.videos import Clip, post

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def service(engine) -> Iterator:
    """A client of the service, which asks for a key."""
    with serve(engine, api_keys=KEY, queue_s=0.01) as client:
        client.headers["X-API-Key"] = KEY
        yield client


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service, portrait_jpeg: bytes) -> Path:
    """Where the user stands, with the service and its key in the environment."""
    (tmp_path / "photo.jpg").write_bytes(portrait_jpeg)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATTING_SERVER", str(service.base_url))
    monkeypatch.setenv("MATTE_KEY", KEY)
    return tmp_path


def test_photo_is_the_one_of_the_service(service, folder, portrait_jpeg, capsys) -> None:
    Image.new("RGB", (20, 20), (0, 0, 200)).save("blue.png")
    arguments = ["image", "photo.jpg", "out.webp", "--crop", "--ref-size", "64", "--json"]
    assert matte([*arguments, "--background-file", "blue.png"]) == 0
    asked = {"output": "composite", "crop": "true", "format": "webp", "ref_size": 64}
    served = service.post(
        "/v1/image",
        data=asked,
        files={"file": portrait_jpeg, "background_file": Path("blue.png").read_bytes()},
    )
    assert Path("out.webp").read_bytes() == served.content
    told = json.loads(capsys.readouterr().out)
    assert str(told["width"]) == served.headers["x-width"]
    assert told["person"] is (served.headers["x-person"] == "yes")
    assert told["model"] == "modnet-fast" and told["content_type"] == "image/webp"


def test_folder_is_done_by_the_service_and_goes_on(service, folder, portrait, capsys) -> None:
    (folder / "in").mkdir()
    for number in range(5):
        part = Image.fromarray(portrait[number : number + 200, :200])
        part.save(folder / "in" / f"{number}.png")
    (folder / "in" / "5.png").write_text("broken")
    arguments = ["folder", "in", "out", "--jobs", "4", "--ref-size", "64", "--json"]
    assert matte(arguments) == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["done"], counts["failed"]) == (5, 1)
    content = (folder / "in" / "3.png").read_bytes()
    served = post_image(service, content, ref_size=64)
    assert (folder / "out" / "3.png").read_bytes() == served.content
    (failed,) = [
        record
        for line in (folder / "out" / "report.jsonl").read_text().splitlines()
        if (record := json.loads(line))["status"] == "failed"
    ]
    assert failed["problem"]["code"] == "unsupported-media"
    assert matte(arguments) == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["done"], counts["skipped"]) == (0, 5)


def test_clip_is_done_by_the_service(service, folder, capsys) -> None:
    content = make_clip(folder / "clip.mkv", seconds=0.5, fps=12, size=(160, 128)).read_bytes()
    arguments = ["video", "clip.mkv", "results", "--outputs", "composite,alpha"]
    arguments += ["--background", "teal", "--preset", "ultrafast", "--ref-size", "64", "--json"]
    assert matte(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    paths = [result["path"] for result in told["results"]]
    assert paths == ["results/composite.mp4", "results/alpha.mp4"]
    assert told["report"]["frames"] == 6 and told["report"]["model"] == "modnet-fast"
    served = post(service, content, background="teal", ref_size=64, preset="ultrafast")
    ours, theirs = Clip(Path("results/composite.mp4").read_bytes()), Clip(served.content)
    assert ours.times == theirs.times and (ours.images[3] == theirs.images[3]).all()
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mkv", "photo.jpg", "results"]
    assert service.get("/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("code", "command", "arguments", "text"),
    [
        (1, "image", ["--key", "wrong"], "--key or MATTE_KEY"),
        (1, "image", ["--server", "http://127.0.0.1:{free}", "--key", ""], "the address is right"),
        (2, "image", ["--device", "cpu"], "leave out --server"),
        (2, "image", ["--model", "mine.onnx"], "leave out --server"),
        (2, "image", ["--model", "nobody"], "there is no model `nobody`; this service has"),
        (2, "video", ["--model", "nobody"], "there is no model `nobody`"),
        (1, "video", [], "not a video; send it to `matte image`"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    folder, capsys, monkeypatch, code: int, command: str, arguments: list[str], text: str
) -> None:
    if "--server" in arguments:  # the tries of the client take seconds
        monkeypatch.setattr("matting_client.retry.Retry.choose_pause", lambda *_: None)
    rest = [part.format(free=find_free_port()) for part in arguments]
    out = "out.png" if command == "image" else "out.mp4"
    assert matte([command, "photo.jpg", out, *rest]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and text in line
    assert sorted(path.name for path in folder.iterdir()) == ["photo.jpg"]


def test_folder_stops_at_once_where_the_key_is_wrong(folder, capsys) -> None:
    (folder / "in").mkdir()
    (folder / "photo.jpg").rename(folder / "in" / "photo.jpg")
    assert matte(["folder", "in", "out", "--key", "wrong"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--key or MATTE_KEY" in line


def test_missing_client_is_said_in_one_line(folder, capsys, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "cli.remote", raising=False)
    monkeypatch.setitem(sys.modules, "matting_client", None)
    assert matte(["image", "photo.jpg", "out.png"]) == 1
    text = "--server needs matting_client: pip install 'matting-service[client]'"
    assert capsys.readouterr().err == f"error: {text}\n"
