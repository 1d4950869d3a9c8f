"""`POST /v1/video` with real clips through the real network."""

import io
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from service.media.decoder.client import Decoder
from tests.clips import make_clip, make_concat_script, make_playlist, make_sound_only, truncate
from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine
from tests.helpers import assert_problem, decode, encode, wait_until
from tests.videos import Clip, list_leftovers, post, read_cutouts


@pytest.fixture(scope="module")
def portrait_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "portrait.mp4"
    return make_clip(path, seconds=1, fps=12, size=(320, 256)).read_bytes()


def test_composite_keeps_frames_times_and_sound(client, portrait_clip: bytes) -> None:
    response = post(client, portrait_clip, background="#00ff00")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "video/mp4"
    assert int(response.headers["content-length"]) == len(response.content)
    before, after = Clip(portrait_clip), Clip(response.content)
    assert after.codec == "h264"
    assert after.times == before.times and len(after.times) == 12
    assert int(response.headers["x-frames"]) == 12
    assert after.duration == before.duration
    assert after.sound == before.sound and len(after.sound) > 10
    image = after.images[6].astype(int)
    wall, face = image[:40, :40], image[60:100, 100:140]
    assert wall[..., 1].mean() > 200 and wall[..., 0].mean() < 60, "the wall is green now"
    change = np.abs(face - before.images[6][60:100, 100:140]).mean()
    assert change < 12, "the face is still there"


def test_matte_is_grey_with_the_person_white(client, portrait_clip: bytes) -> None:
    response = post(client, portrait_clip, outputs="alpha", smoothing="off", audio="drop")
    after = Clip(response.content)
    assert after.sound == []
    image = after.images[6].astype(int)
    assert np.ptp(image, axis=2).max() <= 4
    assert image[60:100, 100:140].mean() > 230 and image[:40, :40].mean() < 30


def test_frames_are_refined_as_stills_are(client, portrait_clip: bytes) -> None:
    picture = encode(Clip(portrait_clip).images[6], "PNG")
    mattes = {}
    for refine in ("auto", "off"):
        options = {"ref_size": 128, "refine": refine}
        still = client.post("/v1/image", params=options, files={"file": picture})
        clip = post(client, portrait_clip, outputs="frames", smoothing="off", **options)
        mattes[refine] = decode(still.content).astype(int), read_cutouts(clip.content)[6][..., 3]
    own = [np.abs(still - frame).mean() for still, frame in mattes.values()]
    other = np.abs(mattes["auto"][0] - mattes["off"][1]).mean()
    assert max(own) < 1 and other > 2 * max(own), (own, other)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied_to_the_pixels(client, tmp_path: Path, rotation: int) -> None:
    clip = make_clip(tmp_path / "turned.mp4", seconds=0.25, size=(96, 64), rotation=rotation)
    response = post(client, clip.read_bytes())
    height, width = Clip(response.content).images[0].shape[:2]
    assert (width, height) == ((96, 64) if rotation == 180 else (64, 96))
    assert response.headers["x-rotation-applied"] == str(rotation)
    assert (response.headers["x-width"], response.headers["x-height"]) == (str(width), str(height))


def test_variable_rate_and_raw_body_and_odd_size(client, tmp_path: Path) -> None:
    times = [0, 40, 50, 170, 171, 400]
    clip = make_clip(
        tmp_path / "odd.mkv",
        size=(97, 65),
        pix_fmt="yuv444p",
        times=times,
        time_base=Fraction(1, 1000),
    ).read_bytes()
    response = client.post("/v1/video", content=clip, headers={"Content-Type": "video/x-matroska"})
    after = Clip(response.content)
    assert after.times == Clip(clip).times
    assert (response.headers["x-width"], response.headers["x-height"]) == ("98", "66")
    assert after.images[0].shape == (66, 98, 3)


class Flicker(FakeEngine):
    """Says that everything is foreground, but in one frame nothing is."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        alphas = super().run(batch)
        return alphas * 0 if len(self.batches) == 5 else alphas


@pytest.mark.parametrize(("smoothing", "spikes"), [("ofd", 0), ("off", 1)])
def test_one_frame_delay_is_on_by_default(
    make_client, portrait_clip: bytes, smoothing: str, spikes: int
) -> None:
    client = make_client(Flicker())
    options = {} if smoothing == "ofd" else {"smoothing": smoothing}
    matte = Clip(post(client, portrait_clip, outputs="alpha", **options).content)
    assert len(matte.images) == 12
    assert sum(image.mean() < 128 for image in matte.images) == spikes


def test_scene_cut_resets_smoothing(make_client, tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{c}.mkv", seconds=0.2, color=(c, c, c)) for c in (0, 255)]
    joined = tmp_path / "joined.mkv"
    with av.open(str(joined), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height = 96, 64
        for part in parts:
            with av.open(str(part)) as source:
                for frame in source.decode(video=0):
                    frame.pts = None
                    out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    response = post(make_client(FakeEngine()), joined.read_bytes())
    assert response.headers["x-scene-cuts"] == "1"


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("empty.mp4", 422, "undecodable-media"),
        ("text.mp4", 422, "undecodable-media"),
        ("concat.mp4", 422, "undecodable-media"),
        ("playlist.m3u8", 422, "undecodable-media"),
        ("sound.mp4", 422, "undecodable-media"),
        ("cut.mp4", 422, "undecodable-media"),
        ("photo.mp4", 415, "unsupported-media"),
    ],
)
def test_hostile_clip_is_refused_and_the_next_one_works(
    client, portrait_clip: bytes, portrait_jpeg: bytes, tmp_path: Path, name, status, code
) -> None:
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(portrait_clip)
    path = tmp_path / name
    makers = {
        "empty.mp4": lambda: path.write_bytes(b""),
        "text.mp4": lambda: path.write_text("hello\n" * 1000),
        "concat.mp4": lambda: make_concat_script(path, whole),
        "playlist.m3u8": lambda: make_playlist(path, whole),
        "sound.mp4": lambda: make_sound_only(path),
        "cut.mp4": lambda: truncate(path, whole, 0.4),
        "photo.mp4": lambda: path.write_bytes(portrait_jpeg),
    }
    makers[name]()
    problem = assert_problem(post(client, path.read_bytes()), status, code)
    assert str(tmp_path) not in str(problem)
    next_one = post(client, portrait_clip, outputs="alpha", ref_size=64)
    assert next_one.status_code == 200


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"sync_video_max_s": 0.5}, "0.5"),
        ({"video_max_s": 0.5}, "0.5"),
        ({"video_max_frames": 5}, "5"),
        ({"video_max_side": 300}, "300"),
        ({"video_max_frame_megapixels": 0.01}, "0.01"),
    ],
)
def test_clip_over_a_limit_is_refused_with_the_limit(
    make_client, portrait_clip: bytes, tmp_path: Path, settings: dict, what: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    response = post(make_client(FakeEngine(), data_dir=data, **settings), portrait_clip)
    problem = assert_problem(response, 422, "media-limit-exceeded")
    assert problem["limit"] == float(what) and problem["actual"] > problem["limit"]
    assert list_leftovers(data) == [], "nothing is left on disk"
    if "sync_video_max_s" in settings:
        assert "MATTING_SYNC_VIDEO_MAX_S" in problem["hint"]
        assert "respond-async" in problem["hint"]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"output": "alpha"}, "outputs"),
        ({"outputs": "mp3"}, "outputs"),
        ({"crf": 99}, "crf"),
        ({"ofd_threshold": 0.2, "smoothing": "off"}, "smoothing"),
        ({"background": "red", "outputs": "alpha"}, "composite"),
    ],
)
def test_bad_option_is_refused_by_name(client, portrait_clip: bytes, options, hint: str) -> None:
    problem = assert_problem(post(client, portrait_clip, **options), 422, "invalid-option")
    assert hint in problem["detail"] + problem.get("hint", "")


def test_no_free_place_is_429_while_images_go_on(make_client, portrait_clip, portrait_jpeg) -> None:
    engine = BlockedEngine()
    client = make_client(engine, max_videos=1)
    first: list = []
    thread = threading.Thread(target=lambda: first.append(post(client, portrait_clip)))
    thread.start()
    try:
        assert engine.entered.wait(30)
        problem = assert_problem(post(client, portrait_clip), 429, "overloaded")
        assert problem["limit"] == 1
        body = {"content": b"never read", "headers": {"Content-Type": "video/mp4"}}
        assert_problem(client.post("/v1/video", **body), 429, "overloaded")
        files = {"file": portrait_clip}
        form = client.post("/v1/video", files=files, data={"outputs": "alpha"})
        assert_problem(form, 429, "overloaded")
        # Jobs need no free place: they wait for one.
        form = client.post("/v1/video", files=files, data={"outputs": "alpha,green"})
        assert form.status_code == 202
    finally:
        engine.release.set()
        thread.join()
    assert first[0].status_code == 200
    photo = client.post("/v1/image", files={"file": portrait_jpeg})
    assert photo.status_code == 200


def test_failing_network_is_an_internal_error_and_frees_everything(
    make_client, portrait_clip: bytes, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    engine = BrokenEngine()
    client = make_client(engine, max_videos=1, data_dir=data)
    assert_problem(post(client, portrait_clip), 500, "internal-error")
    engine.broken = False
    assert post(client, portrait_clip).status_code == 200
    assert list_leftovers(data) == []


def test_decoder_that_dies_half_way_is_422_and_is_replaced(
    make_client, portrait_clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(FakeEngine())
    pids: list[int] = []
    read = Decoder.read_video

    def read_three_and_kill(self, info):
        for count, item in enumerate(read(self, info)):
            yield item
            if count == 3:
                pids.append(self.pid)
                self._process.kill()

    monkeypatch.setattr(Decoder, "read_video", read_three_and_kill)
    # Big enough that the child cannot have sent everything before it dies.
    with_many_frames = post(client, make_long(portrait_clip))
    assert_problem(with_many_frames, 422, "undecodable-media")
    monkeypatch.undo()
    assert pids and post(client, portrait_clip).status_code == 200


def make_long(clip: bytes) -> bytes:
    """Return the clip with its frames five times over."""
    frames = Clip(clip).images * 5
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def test_client_that_leaves_frees_place_and_disk(live_server, portrait_clip, tmp_path) -> None:
    import http.client
    import json

    data = tmp_path / "data"
    data.mkdir()
    server = live_server(data_dir=data, max_videos=1)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/video", make_long(portrait_clip), {"Content-Type": "video/mp4"})

    def count_videos() -> int:
        probe = http.client.HTTPConnection("127.0.0.1", server.port)
        probe.request("GET", "/readyz?verbose")
        answer = json.loads(probe.getresponse().read())
        probe.close()
        return answer["videos"]

    wait_until(lambda: count_videos() == 1)
    wait_until(lambda: list(data.glob("matting-work-*/*/*.mp4")))
    connection.sock.close()
    wait_until(lambda: count_videos() == 0, timeout_s=5)
    wait_until(lambda: not list_leftovers(data), timeout_s=2)
