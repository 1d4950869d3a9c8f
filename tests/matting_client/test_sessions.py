"""The client's sessions and live connections."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from matting_client import AccessDenied, Gone, InvalidOption, ProblemError, UnusableMedia
from tests.sessions import PICTURES, cut_photo, read_number
from tests.tcp_proxy import Cut, open_proxy
from tests.videos import Clip

FRAMES = {"output": "cutout", "packaging": "frames", "fps": 10}
CHUNKS = [PICTURES[:3], PICTURES[3:4], PICTURES[4:9]]


@pytest.mark.parametrize("smoothing", ["ofd", "off"])
def test_every_frame_comes_back_in_order(connect, fake_service, smoothing: str) -> None:
    session = connect(fake_service, "a").open_session(**FRAMES, smoothing=smoothing)
    frames = list(session.frames(CHUNKS))
    assert [frame.number for frame in frames] == list(range(9))
    assert [read_number(frame.array) for frame in frames] == list(range(9))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(9)])
    assert {frame.content_type for frame in frames} == {"image/png"}


def test_pieces_are_one_clip(connect, fake_service, clip, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip)
    session = connect(fake_service, "a").open_session(background="teal")
    assert "avc1" in session.mime
    whole = Clip(b"".join(session.pieces([path, clip])))
    length = Clip(clip).duration
    assert whole.times == [*Clip(clip).times, *(time + length for time in Clip(clip).times)]


def test_answers_of_the_wrong_kind_are_not_waited_for(connect, fake_service) -> None:
    client = connect(fake_service, "a")
    with pytest.raises(ValueError, match='packaging="frames"'):
        list(client.open_session().frames([]))
    with pytest.raises(ValueError, match='packaging="fmp4"'):
        list(client.open_session(**FRAMES).pieces([]))


def test_chunk_is_applied_once_when_its_answer_is_lost(connect, fake_service) -> None:
    port = int(fake_service.rsplit(":", 1)[1])
    with open_proxy(port, Cut(), Cut(answered=50)) as proxy:
        client = connect(proxy.url, "a")
        session = client.open_session(**FRAMES)
        first = session.send(PICTURES[:2])
        assert [first.frames_in, first.frames_out, first.frames_pending] == [2, 1, 1]
        assert [frame.number for frame in session.send(PICTURES[2:4]).frames] == [1, 2]
        assert [frame.number for frame in session.finish().frames] == [3]
        session.close()  # what has ended is no error
        client.close()


def test_chunk_that_cannot_be_used_leaves_the_session_as_it_was(connect, fake_service) -> None:
    session = connect(fake_service, "a").open_session(**FRAMES)
    with pytest.raises(UnusableMedia):
        session.send([PICTURES[0][:50]])
    assert session.send(PICTURES[:2]).frames_out == 1
    session.close()
    with pytest.raises(Gone):
        session.send(PICTURES[2:3])
    with pytest.raises(InvalidOption, match="did you mean"):
        connect(fake_service, "a").open_session(outptu="alpha")


@pytest.mark.parametrize("smoothing", ["ofd", "off"])
def test_live_frames_come_back_and_none_is_dropped(connect, fake_service, smoothing) -> None:
    live = connect(fake_service, "a").open_live(output="cutout", smoothing=smoothing)
    mattes = list(live.mattes(iter(PICTURES[:12])))
    assert [matte.frame for matte in mattes] == list(range(12))
    assert [read_number(matte.array) for matte in mattes] == list(range(12))
    assert mattes[5].dropped == 0 and mattes[5].latency_ms > 0


def test_live_frame_that_was_mended_is_told(connect, fake_service) -> None:
    """The one that `finish` answers too."""
    whole, cut = cut_photo()
    live = connect(fake_service, "a").open_live()
    notes = [" ".join(matte.notes) for matte in live.mattes(iter([whole, cut, cut]))]
    assert not notes[0] and all("the file ends early" in note for note in notes[1:])


def test_live_frames_are_arrays_too(connect, fake_service, portrait) -> None:
    live = connect(fake_service, "a").open_live(smoothing="off", output="alpha", format="jpeg")
    live.send(portrait)
    matte = live.receive()
    assert matte.content_type == "image/jpeg" and matte.array.shape == portrait.shape[:2]
    assert np.all(matte.array > 250) and live.finish() is None


def test_live_frame_that_is_no_picture_is_told_and_the_stream_goes_on(
    connect, fake_service
) -> None:
    live = connect(fake_service, "a").open_live(output="cutout", smoothing="off")
    live.send(b"no picture")
    with pytest.raises(ProblemError, match="JPEG, PNG, WebP"):
        live.receive()
    live.send(PICTURES[7])
    assert read_number(live.receive().array) == 7
    live.close()
    live.close()


def test_end_by_the_service_is_an_error_with_its_reason(connect, fake_service) -> None:
    live = connect(fake_service, "a").open_live(output="cutout", smoothing="off")
    live.send(PICTURES[0])
    live.receive()
    httpx.delete(f"{fake_service}/v1/sessions/{live.id}", headers={"X-API-Key": "a"})
    with pytest.raises(Gone, match="deleted|gone"):
        live.receive()
    live.close()


def test_client_without_a_key_gets_no_live_connection(connect, fake_service) -> None:
    with pytest.raises(AccessDenied):
        connect(fake_service).open_live()
