"""What stands behind the person in a composite: a colour, blur, a picture, another clip."""

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from service.clips.plan import HEAD_BYTES
from service.matting.composite import cover
from tests.clip_kinds import flat, tag, write_pictures
from tests.clips import make_clip, truncate
from tests.compat_helpers import see_nobody
from tests.conftest import open_client
from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import Exchange, assert_problem, encode
from tests.videos import Clip, list_leftovers, post

WALL, FACE = np.s_[:40, :40], np.s_[60:100, 100:140]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "portrait.mp4"
    return make_clip(path, seconds=0.25, fps=12, size=(320, 256)).read_bytes()


def test_picture_stands_behind_the_person(client, clip: bytes) -> None:
    picture = encode(np.full((30, 90, 3), (30, 60, 220), np.uint8), "PNG")
    response = post(client, clip, {"background_file": picture})
    assert response.status_code == 200, response.text
    before, after = Clip(clip).images[1].astype(int), Clip(response.content).images[1].astype(int)
    assert np.abs(after[WALL] - (30, 60, 220)).mean() < 6
    assert np.abs(after[FACE] - before[FACE]).mean() < 12


def test_blur_softens_the_wall_and_not_the_face(client, clip: bytes) -> None:
    before = Clip(clip).images[1]
    after = Clip(post(client, clip, background="blur", blur_radius=12, crf=4).content).images[1]
    detail = {}
    for name, part in (("right", np.s_[60:200, 280:]), ("face", FACE)):
        steps = [
            np.abs(np.diff(image[part].astype(int), axis=0)).mean() for image in (before, after)
        ]
        detail[name] = steps[1] / steps[0]
    assert detail["right"] < 0.6 and detail["face"] > 0.85, detail


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"outputs": "alpha"}, "needs composite among outputs"),
        ({"background": "red"}, "both"),
    ],
)
def test_picture_that_nobody_would_see_is_refused(client, clip, options: dict, word: str) -> None:
    picture = encode(np.zeros((8, 8, 3), np.uint8), "PNG")
    response = post(client, clip, {"background_file": picture}, **options)
    assert word in assert_problem(response, 422, "invalid-option")["detail"]


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda clip: b"\x89PNG\r\n\x1a\nrubbish", 422, "undecodable-media"),
        (lambda clip: encode(np.zeros((9, 70, 3), np.uint8), "PNG"), 422, "media-limit-exceeded"),
        (lambda clip: b"\xff\xd8\xff" + bytes(60_001), 413, "payload-too-large"),
        (lambda clip: bytes(5000), 422, "undecodable-media"),
        (lambda clip: clip[: len(clip) // 2], 422, "undecodable-media"),
        (lambda clip: b"", 422, "undecodable-media"),
    ],
    ids=["rubbish", "too-wide", "too-many-bytes", "zeros", "half-a-clip", "nothing"],
)
def test_bad_background_is_refused_by_its_name_and_frees_the_place(
    make_client, clip: bytes, tmp_path: Path, make, status: int, code: str
) -> None:
    limits = {"max_videos": 1, "image_max_side": 64, "image_max_bytes": 60_000}
    client = make_client(FakeEngine(), data_dir=tmp_path, **limits)
    problem = assert_problem(post(client, clip, {"background_file": make(clip)}), status, code)
    assert "background_file" in problem["detail"]
    assert post(client, clip).status_code == 200
    assert list_leftovers(tmp_path) == []


def make_steps(path: Path, levels: list[int], milliseconds: list[int], rate: int = 10) -> bytes:
    """Return a lossless clip of grey pictures that begin at these times."""
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        for level, time in zip(levels, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64), level, np.uint8), "gray")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


def read_levels(content: bytes) -> list[int]:
    return [round(float(image[2:20, 2:20].mean())) for image in Clip(content).images]


@pytest.fixture(scope="module")
def nobody() -> Iterator:
    """A client whose network sees nobody, so that the background is all there is."""
    with open_client(FakeEngine(see_nobody), max_videos=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twelve frames, one each 100 ms."""
    path = tmp_path_factory.mktemp("front") / "front.mp4"
    return make_clip(path, seconds=1.2, fps=10, size=(96, 64), tone=False).read_bytes()


def test_clip_behind_is_looped_and_matched_by_time(nobody, front: bytes, tmp_path: Path) -> None:
    """Its own frames come at other times: 0, 150, 200 and 350 ms, and all is over after 500 ms."""
    behind = make_steps(tmp_path / "b.mkv", [40, 90, 150, 210], [0, 150, 200, 350])
    response = post(nobody, front, {"background_file": ("b.mp4", behind)}, crf=1)
    assert response.status_code == 200, response.text
    levels = read_levels(response.content)
    length_ms = 350 + 100  # the last picture lasts as long as the rate says
    expected = []
    for front_ms in range(0, 1200, 100):
        time_ms = front_ms % length_ms
        expected.append([40, 90, 150, 210][sum(time_ms >= start for start in (150, 200, 350))])
    assert np.abs(np.array(levels) - expected).max() <= 3, (levels, expected)


def test_gif_behind_moves(nobody, front: bytes, tmp_path: Path) -> None:
    images = [Image.new("L", (64, 48), level) for level in (60, 180)]
    path = tmp_path / "two.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=300, loop=0)
    levels = read_levels(post(nobody, front, {"background_file": path.read_bytes()}).content)
    low, high = [level < 90 for level in levels], [level > 150 for level in levels]
    assert [*low[:3], *high[3:6], *low[6:9], *high[9:]] == [True] * 12, levels


def test_clip_of_one_picture_behind_stays(nobody, front: bytes, tmp_path: Path) -> None:
    behind = make_steps(tmp_path / "b.mkv", [120], [0])
    levels = read_levels(post(nobody, front, {"background_file": behind}).content)
    assert max(abs(level - 120) for level in levels) <= 3


def test_loops_that_nobody_sees_are_skipped(make_client, front: bytes, tmp_path: Path) -> None:
    """A clip of 2 ms: with every loop decoded, 600 would be."""
    client = make_client(FakeEngine(see_nobody), video_max_frames=60)
    behind = make_steps(tmp_path / "b.mkv", [40, 90], [0, 1], rate=1000)
    response = post(client, front, {"background_file": behind})
    assert response.status_code == 200, response.text
    assert len(Clip(response.content).images) == 12


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP"])
def test_picture_of_every_kind_is_told_from_a_clip(
    nobody, front: bytes, portrait: np.ndarray, format: str
) -> None:
    picture = encode(portrait, format)
    assert len(picture) > 2 * HEAD_BYTES, "more than what is looked at to tell"
    content = post(nobody, front, {"background_file": picture}, end=0.1).content
    image = Clip(content).images[0].astype(int)
    assert np.abs(image - cover(portrait, 64, 96)).mean() < 12


def test_client_that_leaves_frees_the_place_and_both_children(
    make_client, front: bytes, tmp_path: Path
) -> None:
    engine = BlockedEngine()
    client = make_client(engine, max_videos=1, data_dir=tmp_path)
    request = httpx.Request(
        "POST", "http://test/", files={"file": front, "background_file": ("b.mp4", front)}
    )
    kind = request.headers["content-type"].encode()
    exchange = Exchange(client, "/v1/video", request.read(), content_type=kind)
    assert engine.entered.wait(30)
    services = client.app.state.services
    assert services.slots.taken == 1
    exchange.disconnect()
    engine.release.set()
    exchange.wait()
    assert services.slots.taken == 0 and list_leftovers(tmp_path) == []
    assert post(client, front, {"background_file": front}).status_code == 200


def test_background_begins_with_the_part_that_is_wanted(nobody, front, tmp_path: Path) -> None:
    behind = make_steps(tmp_path / "b.mkv", [40, 210], [0, 200])
    files = {"background_file": behind}
    levels = read_levels(post(nobody, front, files, start=0.4, end=0.8).content)
    assert [level < 100 for level in levels] == [True, True, False, True], "it lasts 300 ms"


def test_person_stands_before_the_clip(client, clip: bytes, tmp_path: Path) -> None:
    behind = make_clip(tmp_path / "b.mp4", seconds=0.5, color=(30, 60, 220)).read_bytes()
    before, response = Clip(clip), post(client, clip, {"background_file": behind})
    after = Clip(response.content)
    assert after.sound == before.sound, "the background's own sound is not heard"
    image = after.images[1].astype(int)
    assert np.abs(image[WALL] - (30, 60, 220)).mean() < 8
    assert np.abs(image[FACE] - before.images[1][FACE]).mean() < 12


def test_frames_of_all_loops_are_bounded(make_client, front: bytes, tmp_path: Path) -> None:
    client = make_client(FakeEngine(), video_max_frames=20)
    behind = make_steps(tmp_path / "b.mkv", [10] * 15, list(range(0, 15 * 10, 10)))
    problem = assert_problem(
        post(client, front, {"background_file": behind}), 422, "media-limit-exceeded"
    )
    assert problem["detail"].startswith("background_file: its loops have")
    assert problem["limit"] == 20


def test_two_clips_of_the_full_size_fit_into_a_body(make_client, front: bytes) -> None:
    limit_bytes = len(front) + 1
    client = make_client(FakeEngine(), video_max_bytes=limit_bytes)
    assert post(client, front, {"background_file": front}).status_code == 200
    for files in ({"background_file": front + bytes(2)}, {}):
        clip = front if files else front + bytes(2)
        assert_problem(post(client, clip, files), 413, "payload-too-large")


def test_all_places_may_have_a_clip_behind_at_once(make_client, front: bytes) -> None:
    """Each holds two children; none waits for one that another holds."""
    client = make_client(FakeEngine(), max_videos=2)
    answers: list[int] = []

    def send() -> None:
        answers.append(post(client, front, {"background_file": front}).status_code)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]


def test_what_became_of_a_background_is_told(client, clip: bytes, tmp_path: Path) -> None:
    sound = make_clip(tmp_path / "sound.mp4", seconds=0.25, fps=8, size=(64, 64), tone=False)
    response = post(client, clip, {"background_file": sound.read_bytes()})
    assert response.status_code == 200 and "x-background-changes" not in response.headers
    options = {"movflags": "faststart"}
    whole = make_clip(tmp_path / "a.mp4", seconds=0.3, fps=60, options=options, tone=False)
    short = truncate(tmp_path / "b.mp4", whole, 0.8).read_bytes()
    response = post(client, clip, {"background_file": short})
    assert response.status_code == 200, response.text
    told = dict(one.split("=") for one in response.headers["x-background-changes"].split(", "))
    assert told.keys() == {"frames_lost", "ends_early_s", "cut_short"} and told["cut_short"] == "1"


def test_colours_of_a_background_are_told(client, clip, tmp_path) -> None:
    path = tmp_path / "a.mkv"
    write_pictures(
        path,
        [flat((148, 148, 148))] * 4,
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "log-level=none"},
        prepare=tag(9, 16, 9),
    )
    told = post(client, clip, {"background_file": path.read_bytes()}).headers
    changes = "converted_from_bits=10, tone_mapped_from=BT.2020 PQ"
    assert told["x-background-changes"] == changes


def test_picture_behind_that_ends_early_is_told(client, clip: bytes, portrait) -> None:
    photo = encode(portrait, "JPEG")
    response = post(client, clip, {"background_file": photo[: int(len(photo) * 0.7)]})
    assert response.status_code == 200, response.text
    told = response.headers["x-background-changes"]
    assert told.startswith("notes=the file ends early, ")
    assert "x-background-changes" not in post(client, clip, {"background_file": photo}).headers
