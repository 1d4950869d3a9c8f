"""Sessions over HTTP: opening, the frames of chunks, what is refused."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.clips import make_clip, make_sound_only
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode
from tests.sessions import SessionClient, number_picture, read_number, read_parts
from tests.videos import Clip

PICTURES = [number_picture(number) for number in range(40)]
NAMES = (
    "chunk_max_bytes chunk_max_frames max_at_once max_per_key max_chunks_at_once buffer_mb disk_mb "
    "idle_s max_s"
).split()
FRAMES = {"output": "cutout", "packaging": "frames"}


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    with open_client(FakeEngine(), max_sessions=500, max_sessions_per_key=500) as opened:
        yield opened


def read_numbers(response) -> list[int]:
    return [read_number(part.image) for part in read_parts(response)]


def test_opened_session_says_where_it_is_and_what_comes_next(client) -> None:
    response = client.post("/v1/sessions", json={})
    assert response.status_code == 201
    opened = response.json()
    assert response.headers["location"] == f"/v1/sessions/{opened['id']}"
    assert opened["next_sequence"] == 0 and opened["ticket"] and opened["expires_at"]
    assert opened["mime"] == 'video/mp4; codecs="avc1.640034"'
    state = client.get(response.headers["location"]).json()
    assert state == {name: opened[name] for name in opened if name != "ticket"} | {
        "expires_at": state["expires_at"]
    }


def test_level_of_the_codec_fits_the_size_that_is_told(client) -> None:
    opened = SessionClient(client, width=640, height=480, fps=25).opened
    assert opened["mime"] == 'video/mp4; codecs="avc1.64001e"'
    assert (opened["width"], opened["height"]) == (640, 480)
    assert SessionClient(client, packaging="frames").opened["mime"] is None


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"outputs": "alpha"}, "invalid-option", "`output`"),
        ({"output": "cutout"}, "impossible-output", "packaging=frames"),
        ({"packaging": "mp4"}, "invalid-option", "packaging"),
        ({"format": "webp"}, "invalid-option", "packaging=frames"),
        ({"background": "red", "output": "alpha"}, "invalid-option", "composite"),
        ({"ofd_threshold": 0.2, "smoothing": "off"}, "invalid-option", "smoothing=ofd"),
        ({"scale": "50%", "output": "alpha"}, "invalid-option", "another output than alpha"),
        ({"position": "center"}, "invalid-option", "position needs scale"),
        ({"fps": 0}, "invalid-option", "fps"),
        ({"width": 64}, "invalid-option", "height"),
        ({"width": 4097, "height": 64}, "media-limit-exceeded", "4096"),
        ({"width": 4000, "height": 4000}, "media-limit-exceeded", "megapixels"),
        ({"background_file": "x"}, "invalid-option", "background"),
    ],
)
def test_bad_option_is_refused_by_name(client, options: dict, code: str, words: str) -> None:
    problem = assert_problem(client.post("/v1/sessions", json=options), 422, code)
    assert words in problem["detail"] + problem.get("hint", "")


def test_body_that_is_no_object_is_refused_with_what_to_send(client) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"", b"[1]", b"{"):
        response = client.post("/v1/sessions", content=body, headers=headers)
        assert "options" in assert_problem(response, 400, "bad-request")["hint"]


def test_frames_come_one_late_and_finish_brings_the_last(client) -> None:
    session = SessionClient(client, fps=25, **FRAMES)
    found = []
    for count, out in ((1, 0), (3, 3), (2, 2)):
        start = session.get().json()["frames_in"]
        response = session.send(PICTURES[start : start + count])
        headers = response.headers
        assert (headers["x-frames-in"], headers["x-frames-out"]) == (str(count), str(out))
        assert headers["x-frames-pending"] == "1" and headers["x-scene-cuts"] == "0"
        found += read_parts(response)
        assert len(found) == start + count - 1
    response = session.finish()
    assert response.headers["x-frames-in"] == response.headers["x-frames-pending"] == "0"
    assert response.headers["x-frames-out"] == "1" and response.headers["x-next-sequence"] == "3"
    found += read_parts(response)
    assert [part.frame for part in found] == list(range(6))
    assert [read_number(part.image) for part in found] == list(range(6))
    assert [part.time_s for part in found] == [round(index / 25, 6) for index in range(6)]
    assert all(part.content_type == "image/png" and part.image.shape[2] == 4 for part in found)


def test_without_smoothing_nothing_is_late(client) -> None:
    session = SessionClient(client, smoothing="off", **FRAMES)
    response = session.send(PICTURES[:2])
    assert read_numbers(response) == [0, 1] and response.headers["x-frames-pending"] == "0"
    assert read_parts(session.finish()) == []


@pytest.mark.parametrize(
    ("output", "format", "shape"),
    [
        ("alpha", "png", (32, 32)),
        ("composite", "png", (32, 32, 3)),
        ("cutout", "png", (32, 32, 4)),
        ("composite", "webp", (32, 32, 3)),
    ],
)
def test_pictures_are_of_the_output_and_format_asked_for(client, output, format, shape) -> None:
    session = SessionClient(client, packaging="frames", output=output, format=format)
    (part,) = read_parts(session.send(PICTURES[:2]))
    assert part.content_type == f"image/{format}"
    assert part.image.shape == shape


def test_person_is_looked_for_in_the_roi(client, portrait) -> None:
    """As in photos: the network sees that part alone."""
    photo = encode(portrait[:256, :384], "PNG")
    options = {"output": "cutout", "roi": "90,20,200,230", "refine": "off"}
    session = SessionClient(client, packaging="frames", smoothing="off", **options)
    (part,) = read_parts(session.send([photo]))
    answer = client.post("/v1/image", files={"file": photo}, data=options).raise_for_status()
    alpha, wanted = part.image[..., 3].astype(int), decode(answer.content)[..., 3]
    assert np.abs(alpha - wanted).max() <= 1 and wanted.any()
    alpha[20:250, 90:290] = 0
    assert not alpha.any()
    session = SessionClient(client, packaging="frames", **options | {"roi": "300,0,100,10"})
    problem = assert_problem(session.put(0, [photo]), 422, "invalid-option")
    assert "ends at 400, 10, the picture at 384, 256" in problem["detail"]


def test_frames_are_placed_with_a_shadow(client) -> None:
    options = {"scale": "50%", "position": "100% 0%", "shadow": "soft"}
    session = SessionClient(client, smoothing="off", **FRAMES | options)
    (part,) = read_parts(session.send(PICTURES[:1]))
    assert part.image[:16, 16:, 3].max() > 0 and not part.image[24:, :8, 3].any()
    session = SessionClient(client, smoothing="off", **FRAMES)
    (whole,) = read_parts(session.send(PICTURES[:1]))
    assert part.image[..., 3].sum() < whole.image[..., 3].sum()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {}),
        ("fragmented.mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("clip.webm", {"codec": "libvpx"}),
        ("clip.mkv", {}),
        ("clip.ts", {}),
    ],
)
def test_every_container_is_a_chunk_and_its_sound_is_left_out(
    client, tmp_path: Path, name: str, options: dict
) -> None:
    clip = make_clip(tmp_path / name, seconds=0.25, fps=12, **options).read_bytes()
    session = SessionClient(client)
    raw = session.send(clip)
    path = f"{session.path}/chunks/1"
    as_part = client.put(path, files={"file": (name, clip)})
    assert as_part.status_code == 200, as_part.text
    result = Clip(raw.content + as_part.content + session.finish().content)
    assert len(result.times) == 6 and result.sound == []
    steps = np.diff([float(time) for time in result.times])
    assert steps == pytest.approx([1 / 12] * 5, abs=0.001)


def test_chunk_of_pictures_may_be_jpeg_png_and_webp(client) -> None:
    image = np.full((32, 32, 3), 90, np.uint8)
    session = SessionClient(client, packaging="frames")
    session.send([encode(image, "JPEG"), encode(image, "PNG"), encode(image, "WEBP")])
    problem = assert_problem(session.put(1, [encode(image, "BMP")]), 422, "undecodable-media")
    assert "frame 0" in problem["detail"] and "PNG" in problem["detail"]


def test_times_continue_whatever_the_clock_of_the_chunk_says(client, tmp_path: Path) -> None:
    times, base = [40, 80, 200], Fraction(1, 1000)
    odd = make_clip(tmp_path / "odd.mkv", times=times, time_base=base, fps=25).read_bytes()
    session = SessionClient(client, packaging="frames")
    parts = [*read_parts(session.send(odd)), *read_parts(session.send(odd))]
    parts += read_parts(session.finish())
    assert [part.time_s for part in parts] == [0, 0.04, 0.16, 0.2, 0.24, 0.36]


def test_absolute_times_are_those_of_the_chunk(client, tmp_path: Path) -> None:
    clips = [
        make_clip(tmp_path / f"{start}.mp4", seconds=0.2, fps=10, start_s=start, tone=False)
        for start in (0, 2)
    ]
    session = SessionClient(client, timestamps="absolute")
    answers = [session.send(clip.read_bytes()) for clip in clips]
    problem = assert_problem(session.put(2, clips[0].read_bytes()), 422, "impossible-output")
    assert "continue" in problem["hint"]
    result = Clip(b"".join(answer.content for answer in [*answers, session.finish()]))
    assert result.times == [0, Fraction(1, 10), 2, Fraction(21, 10)]


def test_scene_cuts_are_counted_where_they_are(client) -> None:
    dark, bright = (encode(np.full((32, 32, 3), level, np.uint8), "PNG") for level in (0, 255))
    session = SessionClient(client, packaging="frames")
    assert session.send([dark, bright, bright]).headers["x-scene-cuts"] == "1"
    assert session.send([bright]).headers["x-scene-cuts"] == "0"
    assert session.send([dark]).headers["x-scene-cuts"] == "1"
    assert session.get().json()["scene_cuts"] == [1, 4]


def test_chunk_without_frames_is_refused(client, tmp_path: Path) -> None:
    session = SessionClient(client)
    empty = client.put(f"{session.path}/chunks/0", files={"other": b""})
    assert_problem(empty, 422, "invalid-option")
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    nothing = client.put(f"{session.path}/chunks/0", content=b"--x--\r\n", headers=boundary)
    assert "no frames" in assert_problem(nothing, 422, "undecodable-media")["detail"]
    sound = make_sound_only(tmp_path / "sound.mp4").read_bytes()
    for chunk in (sound, b"", b"no video at all"):
        assert_problem(session.put(0, chunk), 422, "undecodable-media")
    assert session.get().json()["next_sequence"] == 0
    session.send(PICTURES[:1])


def test_size_of_the_frames_must_not_change(client, tmp_path: Path) -> None:
    session = SessionClient(client)
    session.send(PICTURES[:2])
    larger = number_picture(2, side=64)
    for chunk in ([larger], [PICTURES[2], larger]):
        problem = assert_problem(session.put(1, chunk), 422, "impossible-output")
        assert "64 x 64" in problem["detail"] and "32 x 32" in problem["detail"]
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.1).read_bytes()
    assert_problem(session.put(1, clip), 422, "impossible-output")
    assert_problem(
        SessionClient(client, width=9, height=9).put(0, [larger]), 422, "impossible-output"
    )
    session.send(PICTURES[2:4])


def test_parts_that_make_no_chunk_are_refused(client) -> None:
    session = SessionClient(client)
    path = f"{session.path}/chunks/0"
    mixed = [("frame", PICTURES[0]), ("file", PICTURES[1])]
    assert_problem(client.put(path, files=mixed), 400, "bad-request")
    problem = assert_problem(
        client.put(f"{path}?crf=3", files={"frame": PICTURES[0]}), 422, "invalid-option"
    )
    assert "crf" in problem["detail"]
    assert_problem(client.put(path, content=b"{}"), 415, "unsupported-media")
    for number in ("-1", "x", str(2**60)):
        wrong = client.put(f"{session.path}/chunks/{number}", files={"frame": PICTURES[0]})
        assert_problem(wrong, 422, "invalid-option")
