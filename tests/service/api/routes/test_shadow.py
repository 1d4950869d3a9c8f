"""`shadow` of `POST /v1/image`."""

import numpy as np
import pytest

from service.matting.shadow import SHADOWS
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image

PERSON = (slice(60, 180), slice(80, 160))


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A red person without a soft edge, cut out already: the network has no part in it."""
    pixels = np.zeros((300, 300, 4), np.uint8)
    pixels[PERSON] = (200, 40, 30, 255)
    return encode(pixels, "PNG")


@pytest.fixture
def post(make_client, picture):
    client = make_client(FakeEngine())

    def send(**options: str) -> np.ndarray:
        options = {"existing_alpha": "return", **options}
        return decode(post_image(client, picture, **options).content).astype(int)

    return send


@pytest.mark.parametrize("name", SHADOWS)
def test_shadow_lies_under_the_person_and_over_the_background(post, name) -> None:
    plain = post(output="composite", background="#80a0c0")
    shown = post(output="composite", background="#80a0c0", shadow=name)
    assert (shown[PERSON] == plain[PERSON]).all()
    # Just below the person's feet half or so of the light is gone, in the far corner none.
    darkest = shown[182, 120] / plain[182, 120]
    assert (darkest > 1 - SHADOWS[name].opacity - 0.01).all() and (darkest < 0.8).all()
    assert (shown[:10, :10] == plain[:10, :10]).all()
    assert (shown <= plain).all()


def test_drop_shadow_falls_to_the_lower_right(post) -> None:
    alpha = post(output="cutout", shadow="drop")[:, :, 3]
    assert alpha[183, 163] > 30 and alpha[120, 162] > 80 and alpha[182, 120] > 80
    assert alpha[120, 76] == 0 and alpha[56, 120] == 0


@pytest.mark.parametrize("name", SHADOWS)
def test_shadow_of_a_cutout_is_in_its_alpha(post, name) -> None:
    plain, shown = post(output="cutout"), post(output="cutout", shadow=name)
    assert (shown[PERSON] == plain[PERSON]).all()
    around = shown[185, 120]
    assert 40 < around[3] < 130 and (around[:3] == 0).all(), "black, and half transparent"
    # Over a colour it is what the service composes itself.
    wanted = post(output="composite", background="#80a0c0", shadow=name)
    share = shown[:, :, 3:] / 255
    pasted = share * shown[:, :, :3] + (1 - share) * (0x80, 0xA0, 0xC0)
    assert np.abs(pasted - wanted).max() <= 2


def test_shadow_changes_neither_the_box_nor_the_crop(make_client, picture) -> None:
    client = make_client(FakeEngine())
    options = {"existing_alpha": "return", "output": "cutout", "crop": "true", "crop_margin": "2px"}
    answers = [post_image(client, picture, **options, shadow=name) for name in ("none", "soft")]
    boxes = [
        {name: value for name, value in answer.headers.items() if "foreground" in name}
        for answer in answers
    ]
    assert boxes[0] == boxes[1] and boxes[0]["x-foreground-width"] == "80"
    plain, shown = (decode(answer.content) for answer in answers)
    assert plain.shape == shown.shape == (124, 84, 4)
    assert not plain[-1, :, 3].any() and shown[-1, 42, 3] > 40


def test_shadow_of_a_portrait(client, portrait_jpeg) -> None:
    """Through the real network, over the blurred background and for a kept result."""
    first = post_image(client, portrait_jpeg, output="cutout", keep_s="60")
    path = f"/v1/image/{first.headers['x-result-id']}"
    plain = decode(first.content).astype(int)
    again = client.post(path, json={"output": "cutout", "shadow": "soft"})
    shown = decode(again.content).astype(int)
    assert (shown[:, :, 3] >= plain[:, :, 3] - 1).all() and shown[:, :, 3].sum() > plain[
        :, :, 3
    ].sum()
    over = [
        decode(client.post(path, json={"output": "composite", "background": "blur"} | more).content)
        for more in ({}, {"shadow": "soft"})
    ]
    assert (over[1] <= over[0].astype(int) + 1).all() and over[1].mean() < over[0].mean() - 1


@pytest.mark.parametrize("output", ["alpha", "foreground", "bundle"])
def test_shadow_without_effect_is_refused(make_client, picture, output) -> None:
    response = post_image(make_client(FakeEngine()), picture, output=output, shadow="soft")
    document = assert_problem(response, 422, "invalid-option")
    assert "output=cutout or composite" in str(document)
