"""`scale` and `position` of `POST /v1/image`."""

import numpy as np
import pytest

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image

BLUE = (0, 0, 255)
RED = (200, 40, 30)


@pytest.fixture
def post(make_client):
    client = make_client(FakeEngine())
    pixels = np.zeros((200, 300, 4), np.uint8)
    pixels[50:110, 40:80] = (*RED, 255)
    picture = encode(pixels, "PNG")

    def send(**options: str):
        return post_image(client, picture, existing_alpha="return", **options)

    return send


def read_box(answer) -> tuple[int, ...]:
    names = ("left", "top", "width", "height")
    return tuple(int(answer.headers[f"x-foreground-{name}"]) for name in names)


@pytest.mark.parametrize(
    "options, box",
    [
        ({"position": "0%"}, (0, 0, 40, 60)),
        ({"position": "center"}, (130, 70, 40, 60)),
        ({"position": "50% 100%"}, (130, 140, 40, 60)),
        ({"scale": "60%"}, (110, 40, 80, 120)),
        ({"scale": "60%", "position": "100% 0%"}, (220, 0, 80, 120)),
        ({"scale": "60%", "position": "original"}, (20, 20, 80, 120)),
    ],
)
def test_person_is_where_the_options_say(post, options, box) -> None:
    answer = post(output="composite", background="blue", **options)
    assert read_box(answer) == pytest.approx(box, abs=1)
    shown = decode(answer.content).copy()
    assert shown.shape == (200, 300, 3)
    left, top, width, height = box
    assert np.abs(shown[top + 2 : top + height - 2, left + 2 : left + width - 2] - RED).max() <= 1
    shown[max(0, top - 2) : top + height + 2, max(0, left - 2) : left + width + 2] = BLUE
    assert (shown == BLUE).all(), "nothing of the person is left where it was"


def test_shadow_goes_with_the_person(post) -> None:
    alpha = decode(post(output="cutout", shadow="drop", position="0%").content)[..., 3]
    assert (alpha[:58, :38] == 255).all() and alpha[62, 20] > 80
    assert not alpha[80:, 60:].any()


def test_blurred_background_keeps_no_person(client, portrait_jpeg) -> None:
    """Where the real network's person was is what lies around, as with the person in place."""
    options = {"output": "composite", "background": "blur"}
    there = decode(post_image(client, portrait_jpeg, **options).content).astype(int)
    small = post_image(client, portrait_jpeg, scale="20%", position="0% 0%", **options)
    left, top, width, height = read_box(small)
    assert top + height <= 110 and left < 20
    moved = decode(small.content).astype(int)
    alpha = decode(post_image(client, portrait_jpeg).content)
    background = (alpha == 0).copy()
    background[: top + height + 40, : left + width + 40] = False  # faint matte lies beside the box
    assert background.mean() > 0.1
    assert np.abs(moved[background] - there[background]).max() <= 1


def test_nobody_is_not_moved(make_client) -> None:
    empty = encode(np.zeros((60, 60, 4), np.uint8), "PNG")
    options = {"existing_alpha": "return", "output": "cutout", "scale": "50%"}
    answer = post_image(make_client(FakeEngine()), empty, **options)
    assert answer.status_code == 200 and not decode(answer.content)[..., 3].any()


@pytest.mark.parametrize("options", [{"scale": "50%"}, {"position": "center"}])
def test_placement_without_effect_is_refused(post, options) -> None:
    document = assert_problem(post(output="alpha", **options), 422, "invalid-option")
    assert "output=cutout or composite" in str(document)


@pytest.mark.parametrize("options", [{"scale": "5%"}, {"scale": "2x"}, {"position": "left"}])
def test_placement_that_is_none_is_refused(post, options) -> None:
    document = assert_problem(post(output="cutout", **options), 422, "invalid-option")
    assert document["errors"][0]["loc"] == next(iter(options))
