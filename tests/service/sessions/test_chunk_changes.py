"""What becomes of the pictures of a chunk on the way is said in its headers."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from tests import clips
from tests.fakes import FakeEngine
from tests.helpers import wait_until
from tests.service.media.colour.test_colour_conversion import code_as
from tests.service.media.video.test_clip_gamuts import make_profiled, write_codes
from tests.sessions import SessionClient, cut_photo, read_parts
from tests.sockets import LiveSession, receive_answer, serve

SIZE = (96, 64)


@pytest.fixture(scope="module")
def client() -> Iterator:
    from tests.conftest import open_client

    engine = FakeEngine(lambda batch: np.ones_like(batch[:, 0]))
    with open_client(engine, max_sessions=100, max_sessions_per_key=100) as opened:
        yield opened


def send(client, content: bytes, **options):
    return SessionClient(client, packaging="frames", **options).send(content)


def test_hdr_of_a_chunk_is_tone_mapped_and_told(client, tmp_path) -> None:
    photo = clips.picture(0, SIZE)
    path = tmp_path / "a.mkv"
    write_codes(path, code_as(16, photo), "libx265", "yuv420p10le", (9, 16, 9))
    answer = send(client, path.read_bytes())
    assert answer.headers["x-tone-mapped-from"] == "BT.2020 PQ"
    assert answer.headers["x-converted-from-bits"] == "10"
    for part in read_parts(answer):
        assert np.abs(part.image[..., :3].astype(int) - photo).mean() < 5


def test_profile_of_a_chunk_is_told(client, tmp_path) -> None:
    answer = send(client, make_profiled(tmp_path, "JPEG", "P3").read_bytes())
    assert answer.headers["x-gamut-converted-from"] == "an ICC profile"


@pytest.mark.parametrize(("how", "told"), [("auto", "x-deinterlaced"), ("off", "x-interlaced")])
def test_fields_of_a_chunk_are_told(client, tmp_path, how: str, told: str) -> None:
    path = clips.make_clip(tmp_path / "a.ts", interlaced=True, seconds=0.4)
    answer = send(client, path.read_bytes(), deinterlace=how)
    assert answer.headers[told] == "yes"
    assert len({"x-deinterlaced", "x-interlaced"} & set(answer.headers)) == 1


def test_pictures_of_a_chunk_that_were_mended_are_told(client) -> None:
    whole, cut = cut_photo()
    session = SessionClient(client, packaging="frames")
    assert "x-notes" not in session.send([whole, whole]).headers
    told = session.send([whole, *[cut] * 6]).headers["x-notes"]
    assert told.startswith("frame 1: the file ends early, ") and told.count("frame ") == 4


def test_live_frame_that_was_mended_is_told() -> None:
    whole, cut = cut_photo()
    engine = FakeEngine(lambda batch: np.ones_like(batch[:, 0]))
    with serve(engine) as site, LiveSession(site).connect() as socket:
        told = []
        for content in (whole, cut, whole, whole):
            socket.send(content)
            if told or content is cut:
                told.append(receive_answer(socket).facts.get("notes"))
        assert told[0] is told[2] is None
        assert told[1] is not None and told[1][0].startswith("the file ends early, ")


def test_mended_live_frame_that_waits_is_told_with_its_answer() -> None:
    """By the next connection, by the next chunk, or by the end of the session."""
    whole, cut = cut_photo()
    with serve(FakeEngine(lambda batch: np.ones_like(batch[:, 0]))) as site:
        session = LiveSession(site)

        def leave_behind(content: bytes) -> None:
            count = session.get().json()["frames_in"]
            session.renew_ticket()
            with session.connect() as socket:
                socket.send(content)
                wait_until(lambda: session.get().json()["frames_in"] == count + 1)

        leave_behind(cut)
        session.renew_ticket()
        with session.connect() as socket:
            socket.send(whole)
            assert receive_answer(socket).facts["notes"][0].startswith("the file ends early, ")
        leave_behind(cut)
        told = session.send([whole, cut]).headers["x-notes"]
        assert told.startswith("the last live frame: the file ends early, ") and "frame 1: " in told
        assert "x-notes" not in session.send([whole]).headers
        leave_behind(cut)
        assert session.finish().headers["x-notes"].startswith("the last live frame: the file ends")


SOUND = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx", ".ts": "libx264", ".flv": "flv"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize(
    ("suffix", "options"), [*((suffix, {}) for suffix in SOUND), (".mp4", FRAGMENTS)]
)
def test_sound_chunk_is_told_nothing_of(client, tmp_path, suffix: str, options: dict) -> None:
    path = tmp_path / f"a{suffix}"
    more = {"sound_codec": "mp2"} if suffix == ".ts" else {}
    clips.make_clip(path, codec=SOUND[suffix], seconds=0.4, options=options, **more)
    answer = send(client, path.read_bytes())
    usual = {"frames-in", "frames-out", "frames-pending", "next-sequence", "scene-cuts"}
    usual |= {"model", "provider", "request-id", "content-type-options"}
    assert {name for name in answer.headers if name.startswith("x-")} == {f"x-{n}" for n in usual}


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_chunk_that_is_cut_says_so(client, tmp_path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    content = clips.make_clip(path, codec=SOUND[suffix], seconds=2).read_bytes()
    answer = send(client, content[: len(content) * 2 // 3])
    assert answer.headers["x-cut-short"] == "1"
    assert 10 < int(answer.headers["x-frames-in"]) < 50


@pytest.mark.parametrize("packaging", ["frames", "fmp4"])
def test_narrow_pixels_of_a_chunk_become_square(client, tmp_path, packaging: str) -> None:
    """A disc stays one."""
    rows, columns = np.indices((240, 176))
    disc = (rows - 120) ** 2 + ((columns - 88) * 20 / 11) ** 2 < 80**2
    image = np.where(disc[..., np.newaxis], np.uint8(230), np.uint8(20)).repeat(3, 2)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 176, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(20, 11)
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    session = SessionClient(client, packaging=packaging, output="composite")
    answer = session.send(path.read_bytes())
    assert answer.headers["x-square-pixels"] == "yes"
    if packaging == "frames":
        shown = read_parts(answer)[0].image
    else:
        with av.open(io.BytesIO(answer.content + session.finish().content)) as file:
            shown = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape[:2] == (240, 320)
    bright = shown[..., 1] > 125
    assert bright.any(0).sum() == pytest.approx(160, abs=4)
    assert bright.any(1).sum() == pytest.approx(160, abs=4)
