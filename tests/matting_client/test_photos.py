"""The client's photos: every kind of input, what comes back, and every kind of error."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import service.errors
from matting_client import (
    AccessDenied,
    Busy,
    Client,
    InvalidOption,
    ProblemError,
    Retry,
    TooLarge,
    Unreachable,
    UnusableMedia,
)
from matting_client.errors import make_error
from matting_client.retry import read_retry_after
from service.errors import MattingError
from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import find_free_port
from tests.sockets import serve
from tests.tcp_proxy import Cut, open_proxy


def test_every_kind_of_photo_has_the_same_matte(
    connect, service, portrait, portrait_jpeg, tmp_path: Path
) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(portrait_jpeg)))
    path = tmp_path / "photo.jpg"
    path.write_bytes(portrait_jpeg)
    client = connect(service)
    photos = [portrait_jpeg, path, str(path), io.BytesIO(portrait_jpeg), pixels]
    alphas = [client.matte(photo).array for photo in [*photos, Image.open(path)]]
    assert alphas[0].shape == portrait.shape[:2] and alphas[0].std() > 50
    for alpha in alphas[1:]:
        assert np.array_equal(alpha, alphas[0])


def test_matte_tells_what_the_service_told(connect, service, portrait_jpeg, tmp_path) -> None:
    client = connect(service)
    matte = client.matte(portrait_jpeg, output="cutout", format="webp", keep_s=60)
    assert matte.content_type == "image/webp" and matte.image.mode == "RGBA"
    assert (matte.width, matte.height) == matte.image.size == (512, 512)
    assert matte.shows_person is True and 0.5 < matte.confidence <= 1
    assert matte.person.width > 100 and matte.model == "modnet-fast"
    assert {"decode", "inference"} <= set(matte.timings_ms) and matte.request_id
    assert "person=Box(" in repr(matte) and len(repr(matte)) < 1000, "without its bytes"
    assert matte.save(tmp_path / "cutout.webp").read_bytes() == matte.content
    again = client.rerender(matte.result_id, output="composite", background="teal", crop=True)
    assert again.image.mode == "RGB" and again.width < 512


def test_files_beside_the_photo_are_sent(connect, service, portrait) -> None:
    blue = np.full((8, 8, 3), (0, 0, 255), np.uint8)
    matte = connect(service).matte(portrait, output="composite", background_file=blue)
    assert matte.array[:100, -60:].mean(axis=(0, 1)) == pytest.approx((0, 0, 255), abs=12)


def test_pixels_of_a_pillow_image_are_taken_as_they_are(connect, fake_service) -> None:
    image = Image.new("CMYK", (40, 24))
    image.getexif()[0x112] = 6  # on its side
    assert connect(fake_service, "a").matte(image).image.size == (40, 24)


def test_array_of_another_type_is_refused_with_a_reason(connect, fake_service) -> None:
    with pytest.raises(TypeError, match=r"uint8, not \(4, 4, 3\), float64"):
        connect(fake_service, "a").matte(np.zeros((4, 4, 3)))
    with pytest.raises(TypeError, match="not int"):
        connect(fake_service, "a").matte(7)


def test_problem_documents_become_errors(connect, fake_service, portrait_jpeg) -> None:
    client = connect(fake_service, "a")
    with pytest.raises(InvalidOption, match="did you mean `output`") as refused:
        client.matte(portrait_jpeg, outptu="cutout")
    assert refused.value.code == "invalid-option" and refused.value.status == 422
    assert refused.value.errors[0]["loc"] == "outptu" and refused.value.request_id
    with pytest.raises(UnusableMedia, match="damaged"):
        client.matte(portrait_jpeg[:40])
    with pytest.raises(AccessDenied):
        connect(fake_service, "c").matte(portrait_jpeg)


def test_limit_and_actual_value_are_numbers(connect, portrait_jpeg) -> None:
    with serve(FakeEngine(), image_max_bytes=1000) as http:
        with pytest.raises(TooLarge) as refused:
            connect(str(http.base_url)).matte(portrait_jpeg)
    assert refused.value.limit == 1000 and refused.value.actual > 1000


def matte_once(url: str, photo: bytes) -> None:
    with Client(url) as client:
        client.matte(photo)


def test_photo_is_sent_again_when_the_gate_is_full(connect, portrait_jpeg) -> None:
    engine = BlockedEngine()
    pauses: list[float] = []

    def on_pause() -> float:
        """The gate has refused: make room before the next try."""
        pauses.append(0)
        engine.release.set()
        return 0.0

    with serve(engine, max_requests=1) as http:
        url = str(http.base_url)
        first = threading.Thread(target=matte_once, args=(url, portrait_jpeg))
        first.start()
        assert engine.entered.wait(30)
        # No other call lets the first one go, so this one has met the gate.
        matte = connect(url, retry=Retry(random=on_pause)).matte(portrait_jpeg)
        first.join(30)
    assert matte.width == 512 and pauses


def test_gate_that_stays_full_is_an_error_at_last(connect, portrait_jpeg) -> None:
    engine = BlockedEngine()
    with serve(engine, max_requests=1) as http:
        url = str(http.base_url)
        first = threading.Thread(target=matte_once, args=(url, portrait_jpeg))
        first.start()
        assert engine.entered.wait(30)
        with pytest.raises(Busy) as refused:
            connect(url, retry=Retry(tries=1)).matte(portrait_jpeg)
        engine.release.set()
        first.join(30)
    assert refused.value.code == "overloaded" and refused.value.retry_after_s >= 1


@pytest.mark.parametrize("cut", [Cut(sent=3000), Cut(answered=200)], ids=["request", "answer"])
def test_photo_is_sent_again_when_the_connection_breaks(
    connect, fake_service, portrait_jpeg, cut: Cut
) -> None:
    port = int(fake_service.rsplit(":", 1)[1])
    with open_proxy(port, cut) as proxy:
        client = connect(proxy.url, "a")
        assert client.matte(portrait_jpeg).width == 512
        client.close()
    assert len(proxy.requests) == 2


def test_nobody_there_is_said_with_the_address(connect, portrait_jpeg) -> None:
    url = f"127.0.0.1:{find_free_port()}"
    with pytest.raises(Unreachable, match=url):
        connect(url, retry=Retry(tries=2, pause_s=0.01)).matte(portrait_jpeg)


def test_pause_grows_and_keeps_to_what_is_asked() -> None:
    retry = Retry(tries=5, pause_s=1, max_pause_s=6, jitter=0.5, random=lambda: 1.0)
    assert [retry.choose_pause(n, None) for n in (1, 2, 3, 4, 5)] == [1.5, 3, 6, 9, None]
    assert retry.choose_pause(1, 4) == 6 and retry.choose_pause(1, 7) is None


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert read_retry_after("7") == 7 and read_retry_after(None) is None
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert read_retry_after(date, lambda: 1445412450.0) == 30
    assert read_retry_after(date, lambda: 1445412490.0) == 0
    assert read_retry_after("soon") is None


def test_every_error_of_the_service_has_a_class() -> None:
    kinds = [kind for kind in vars(service.errors).values() if isinstance(kind, type)]
    for kind in (kind for kind in kinds if issubclass(kind, MattingError)):
        error = make_error(kind.status, kind("what was wrong", limit=3, actual=4).describe())
        assert type(error) is not ProblemError and error.code == kind.slug
        assert str(error) == "what was wrong" and (error.limit, error.actual) == (3, 4)
    assert str(make_error(502, {})) == "the service answered 502"
