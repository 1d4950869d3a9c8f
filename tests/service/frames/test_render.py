"""Pictures of the outputs, on frames whose truth is known."""

import cv2
import numpy as np
import pytest

from service.frames.render import Renderer, RenderOptions, make_render_options
from service.frames.segment import MattedFrame
from service.matting.cleanup import settle_ends
from service.matting.composite import Blur
from service.matting.placement import Placement
from service.matting.resize import resize_alpha
from service.media.video.types import Box, VideoFrame
from service.sessions.options import SessionOptions

SIDE = 256
RED, GREEN = (200, 40, 30), (20, 180, 60)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """A disc with a soft rim, (SIDE, SIDE) float32."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - SIDE / 2, y - SIDE / 2)
    return np.clip((80 - distance) / 6 + 0.5, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def matted(truth: np.ndarray) -> MattedFrame:
    """A red disc before green, its matte at a quarter of the size as the network gives it."""
    share = truth[:, :, np.newaxis]
    image = np.rint(share * RED + (1 - share) * GREEN).astype(np.uint8)
    return MattedFrame(VideoFrame(0, 1, image), shrink(image), shrink(truth))


def shrink(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)


def render(matted: MattedFrame, picture: str, **options) -> np.ndarray:
    return Renderer(RenderOptions(**options), SIDE, SIDE).render(matted).get(picture)


def test_refined_matte_is_nearer_to_the_truth(matted: MattedFrame, truth: np.ndarray) -> None:
    errors = {}
    for refines in (True, False):
        grey = render(matted, "grey", refines=refines)
        errors[refines] = np.abs(grey / 255 - truth).mean()
    assert errors[True] < 0.6 * errors[False]


def test_matte_without_refining_is_the_resized_one(matted: MattedFrame) -> None:
    grey = render(matted, "grey", refines=False)
    resized = settle_ends(resize_alpha(matted.alpha, SIDE, SIDE))
    assert np.abs(grey / 255 - resized).max() <= 0.502 / 255


@pytest.mark.parametrize("refines", [True, False])
def test_faint_remains_are_gone_as_from_stills(matted: MattedFrame, refines: bool) -> None:
    faint = np.clip(matted.alpha, 0.006, 0.994)
    frame = MattedFrame(matted.frame, matted.network_image, faint)
    options = {"refines": refines, "background": (255, 255, 255)}
    grey, over = (render(frame, name, **options) for name in ("grey", "composite"))
    assert (grey[:20] == 0).all() and (grey[120:136, 120:136] == 255).all()
    assert (over[:20] == 255).all()


def test_estimated_foreground_takes_the_old_background_out(matted, truth) -> None:
    share = truth[:, :, np.newaxis]
    wanted = share * RED + (1 - share) * (0, 0, 255)
    rim = (truth > 0.2) & (truth < 0.8)
    errors = {}
    for estimates in (True, False):
        options = {"background": (0, 0, 255), "estimates_foreground": estimates}
        errors[estimates] = np.abs(render(matted, "composite", **options) - wanted)[rim].mean()
    assert errors[True] < 0.4 * errors[False]


def test_cutout_is_straight_and_has_no_rim_of_the_old_background(matted, truth) -> None:
    """A red disc: at the rim and around it, where alpha is 0, the colour is red, not mixed."""
    cutout = render(matted, "cutout").astype(int)
    assert np.abs(cutout[..., 3] / 255 - truth).mean() < 0.01
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - SIDE / 2, y - SIDE / 2)
    around = (distance > 76) & (distance < 92)
    assert (truth[around] == 0).mean() > 0.4
    assert np.abs(cutout[around][:, :3] - RED).max() < 30


def test_green_is_the_chroma_key_colour(matted: MattedFrame) -> None:
    green = render(matted, "green").astype(int)
    assert np.array_equal(green[4, 4], (0, 177, 64))
    assert np.abs(green[SIDE // 2, SIDE // 2] - RED).max() <= 2


def test_pieces_are_made_once_and_only_when_asked_for(matted, calls) -> None:
    frame = Renderer(RenderOptions(), SIDE, SIDE).render(matted)
    assert calls == []
    frame.get("grey")
    assert calls == ["refine_alpha"]
    cutout = frame.get("cutout")
    frame.get("composite"), frame.get("green")
    assert calls == ["refine_alpha", "estimate_foreground"]
    assert frame.get("cutout") is cutout


def test_picture_behind_covers_the_frame(matted: MattedFrame) -> None:
    """Left half blue, right half grey, twice as wide as the frame: what sticks out is cut off."""
    picture = np.full((40, 160, 3), 90, np.uint8)
    picture[:, :80] = (0, 0, 255)
    image = render(matted, "composite", background=picture).astype(int)
    assert np.abs(image[10, 10] - (0, 0, 255)).max() <= 1
    assert np.abs(image[10, SIDE - 10] - 90).max() <= 1
    assert np.abs(image[SIDE // 2, SIDE // 2] - RED).max() <= 2


def test_blurred_background_has_no_halo_of_the_person(matted: MattedFrame) -> None:
    image = render(matted, "composite", background=Blur(radius=20)).astype(int)
    beside = image[SIDE // 2, SIDE // 2 + 88]  # 8 pixels from the rim of a blur of 20
    assert np.abs(beside - GREEN).max() <= 6
    assert np.abs(image[SIDE // 2, SIDE // 2] - RED).max() <= 2


def test_wider_blur_is_smoother(matted: MattedFrame, truth: np.ndarray) -> None:
    frame = matted.frame.image.copy()
    frame[:20] = np.where(np.arange(SIDE)[:, None] // 8 % 2, 255, 0)  # stripes at the top
    striped = MattedFrame(VideoFrame(0, 1, frame), shrink(frame), matted.alpha)
    spread = [
        np.ptp(render(striped, "composite", background=Blur(radius))[10, 60:-60, 0].astype(int))
        for radius in (1, 12, None)
    ]
    assert spread[0] > 200 > spread[1] and spread[0] > spread[2]


def give_alpha(matted: MattedFrame, **more) -> MattedFrame:
    """The clip says itself that its left half is transparent."""
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:, : SIDE // 2] = 0
    frame = VideoFrame(0, 1, matted.frame.image, alpha, **more)
    return MattedFrame(frame, matted.network_image, matted.alpha)


def test_alpha_of_the_clip_multiplies_the_matte(matted: MattedFrame) -> None:
    grey = render(give_alpha(matted), "grey")
    assert grey[:, : SIDE // 2].max() == 0
    assert np.array_equal(grey[:, SIDE // 2 :], render(matted, "grey")[:, SIDE // 2 :])


def test_alpha_of_the_clip_is_ignored_or_is_the_matte(matted: MattedFrame) -> None:
    own = give_alpha(matted)
    assert render(own, "grey", existing_alpha="ignore")[SIDE // 2, SIDE // 2 - 20] == 255
    returned = render(own, "grey", existing_alpha="return")
    assert np.array_equal(returned, own.frame.alpha)
    cutout = render(own, "cutout", existing_alpha="return")
    assert np.array_equal(cutout[..., :3], matted.frame.image), "colours are straight already"
    opaque = render(matted, "grey", existing_alpha="return")
    assert np.array_equal(opaque, render(matted, "grey")), "the network's where there is none"


@pytest.mark.parametrize("existing_alpha", ["multiply", "ignore"])
def test_bars_beside_a_picture_are_transparent(matted: MattedFrame, existing_alpha: str) -> None:
    box = Box(100, 90, 60, 70)
    frame = MattedFrame(
        VideoFrame(0, 1, matted.frame.image, box=box), matted.network_image, matted.alpha
    )
    grey = render(frame, "grey", existing_alpha=existing_alpha)
    assert grey[90:160, 100:160].min() > 250
    outside = grey.copy()
    outside[90:160, 100:160] = 0
    assert outside.max() == 0


def test_matte_is_cleaned_as_that_of_a_still(matted: MattedFrame) -> None:
    plain = render(matted, "grey")
    cleaned = render(matted, "grey", cleanup={"threshold": 0.5, "erode": 4})
    assert set(np.unique(cleaned)) == {0, 255}
    assert 0 < (cleaned > 0).sum() < (plain > 127).sum()
    options = SessionOptions(threshold=0.5, erode=4)
    assert np.array_equal(
        Renderer(make_render_options(options, (0, 0, 0)), SIDE, SIDE).render(matted).get("grey"),
        cleaned,
    )


def test_scaled_frame_lies_where_the_position_says(matted, truth) -> None:
    """Half the size in the lower right corner, of the composite, green and cut out; the matte by
    itself stays, and what was behind the person stays where it was."""
    placement = Placement(0.5, (1.0, 1.0))
    options = {"placement": placement, "background": (0, 0, 255)}
    wanted = np.zeros_like(truth)
    wanted[SIDE // 2 :, SIDE // 2 :] = cv2.resize(truth, None, fx=0.5, fy=0.5)
    cutout = render(matted, "cutout", **options)
    assert np.abs(cutout[..., 3] / 255 - wanted).mean() < 0.005
    assert (cutout[: SIDE // 2, ..., 3] == 0).all() and (cutout[:, : SIDE // 2, 3] == 0).all()
    for name, behind in (("composite", (0, 0, 255)), ("green", (0, 177, 64))):
        image = render(matted, name, **options).astype(int)
        assert np.abs(image[SIDE // 4 * 3, SIDE // 4 * 3] - RED).max() <= 2
        assert (image[SIDE // 2 - 10, SIDE // 2 - 10] == behind).all(), "where the person was"
    assert (render(matted, "grey", **options) == render(matted, "grey")).all()
    blurred = render(matted, "composite", placement=placement, background=Blur(radius=4))
    assert np.abs(blurred[10, 10].astype(int) - GREEN).max() <= 2


@pytest.mark.parametrize("placement", [None, Placement(0.5, (0.0, 0.0))])
def test_cutout_with_its_shadow_is_the_composite(matted, placement) -> None:
    options = {"shadow": "drop", "placement": placement, "background": (0, 0, 255)}
    cutout = render(matted, "cutout", **options).astype(float)
    composite = render(matted, "composite", **options)
    share = cutout[..., 3:] / 255
    over = share * cutout[..., :3] + (1 - share) * (0, 0, 255)
    assert np.abs(over - composite).max() <= 2
    plain = render(matted, "composite", **options | {"shadow": "none"})
    assert (composite < plain.astype(int) - 20).any(), "there is a shadow"
    unshaded = [render(matted, name, **options) for name in ("green", "grey")]
    without = [render(matted, name, placement=placement) for name in ("green", "grey")]
    assert all((one == other).all() for one, other in zip(unshaded, without, strict=True))
