"""Pictures that a process of its own encodes: the same bytes, and an end when nobody waits."""

import numpy as np
import psutil
import pytest
from PIL import Image

from service.errors import NotReady
from service.media.encoder.apart import APART_PIXELS, encode_apart
from service.media.image.layers import encode_layers
from service.media.image.writer import encode_image
from service.threads import TooLate, never
from tests.fakes import FakeEngine
from tests.helpers import post_image
from tests.profiles import make_profile

ICC, EXIF = make_profile("P3"), b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
OPTIONS = {"quality": 80, "compression": 1}


def list_children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def photo(portrait) -> np.ndarray:
    return np.asarray(Image.fromarray(portrait).resize((120, 90)))


@pytest.mark.parametrize("format", ["webp", "avif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_child_writes_the_same_file(photo, format: str, channels: int) -> None:
    grey = photo[:, :, 0]
    pixels = {1: grey, 3: photo[:, ::-1], 4: np.dstack([photo, grey])}[channels]
    more = {"icc": ICC, "exif": EXIF} if channels > 1 else {"icc": b"", "exif": b""}
    made = encode_apart({"picture": pixels}, is_late=never, format=format, **OPTIONS, **more)
    assert made == encode_image(np.ascontiguousarray(pixels), format, **OPTIONS, **more)


def test_child_writes_the_same_layers(photo) -> None:
    pytest.importorskip("psd_tools")
    layers = {"photo": photo, "person": np.dstack([photo, photo[:, :, 0]])}
    made = encode_apart(layers, ICC, b"", never, format="psd")
    assert made == encode_layers(layers, ICC)


def test_child_ends_when_nobody_waits_for_it(photo) -> None:
    before, files = list_children(), psutil.Process().num_fds()
    with pytest.raises(TooLate):
        encode_apart({"picture": photo}, b"", b"", lambda: list_children() != before, format="webp")
    # Those of other tests may end meanwhile.
    assert set(list_children()) <= set(before) and psutil.Process().num_fds() == files


def test_child_that_the_system_ends_is_503(photo) -> None:
    before = list_children()

    def kill() -> bool:
        for child in list_children():
            if child not in before:
                child.kill()
        return False

    with pytest.raises(NotReady):
        encode_apart({"picture": photo}, b"", b"", kill, format="avif", **OPTIONS)


def test_child_that_fails_is_an_error_of_ours(photo) -> None:
    with pytest.raises(RuntimeError, match="encoder.child ended with 1"):
        encode_apart({"picture": photo}, b"", b"", never, format="webp")  # no quality


@pytest.mark.parametrize("asked", [{"format": "webp"}, {"format": "avif"}, {"format": "psd"}])
def test_large_results_are_what_small_ones_are(make_client, photo, monkeypatch, asked) -> None:
    if asked["format"] == "psd":
        pytest.importorskip("psd_tools")
    asked = {"output": "bundle" if asked["format"] == "psd" else "cutout"} | asked
    client = make_client(FakeEngine())
    picture = encode_image(photo, "png", **OPTIONS)
    small = post_image(client, picture, **asked)
    monkeypatch.setitem(APART_PIXELS, asked["format"], 1)
    large = post_image(client, picture, **asked)
    assert large.status_code == 200 and large.content == small.content
