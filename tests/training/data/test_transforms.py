import cv2
import numpy as np
import pytest

from training.data.pairs import find_images, find_pairs
from training.data.photos import load_photo, read_image
from training.data.synthetic import draw_data_set
from training.data.transforms import (
    Box,
    choose_box,
    crop_person,
    degrade,
    find_person,
    jitter_colour,
    make_sample,
    make_trimap,
    paste,
    warp,
)

SIZE = (96, 64)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Return (two prepared photos, a background)."""
    folder = tmp_path_factory.mktemp("scene")
    data = draw_data_set(folder, 2)
    photos = [load_photo(pair, folder / "cache", 160) for pair in find_pairs(data)]
    return photos, read_image(find_images(data / "backgrounds")[0])


def make_picture(height: int = 40, width: int = 60, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, channels), np.uint8), (0, 0), 2)


@pytest.mark.parametrize(("people", "is_pasted"), [(0, True), (1, True), (2, True), (1, False)])
def test_sample_depends_on_the_generator_alone(scene, people, is_pasted):
    photos, background = scene
    before = [photo.copy() for photo in photos]
    ground = background if is_pasted else None
    make = [
        make_sample(photos[:people], ground, SIZE, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    for one, two in zip(make[0], make[1], strict=True):
        assert one.dtype == np.uint8 and (one == two).all()
    assert not (make[0].image == make[2].image).all()
    assert make[0].image.shape == (*SIZE, 3)
    assert make[0].alpha.shape == make[0].trimap.shape == SIZE
    assert all((photo == old).all() for photo, old in zip(photos, before, strict=True))


def test_picture_without_people_has_an_empty_target(scene):
    sample = make_sample([], scene[1], SIZE, np.random.default_rng(0))
    assert not sample.alpha.any() and not sample.trimap.any()


def test_every_crop_shows_the_person(scene):
    photos, background = scene
    for seed in range(40):
        for ground in (background, None):
            alpha = make_sample(photos[:1], ground, SIZE, np.random.default_rng(seed)).alpha
            assert 0.03 < (alpha > 128).mean() < 0.99


def test_crops_reach_from_the_shoulders_to_the_whole_body():
    alpha = np.zeros((400, 200), np.uint8)
    alpha[20:380, 60:140] = 255  # nobody touches the border
    boxes = [choose_box(alpha, 1.0, np.random.default_rng(s), is_pasted=True) for s in range(200)]
    visible = [(min(box.y + box.height, 380) - max(box.y, 20)) / 360 for box in boxes]
    assert min(visible) < 0.3 and max(visible) == 1.0


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.6])
def test_crop_of_a_photo_with_its_own_background_stays_inside(aspect):
    alpha = np.zeros((120, 90), np.uint8)
    alpha[30:, 10:70] = 255
    for seed in range(100):
        box = choose_box(alpha, aspect, np.random.default_rng(seed), is_pasted=False)
        assert box.x >= -1e-6 and box.y >= -1e-6
        assert box.x + box.width <= 90 + 1e-6 and box.y + box.height <= 120 + 1e-6
        assert box.width / box.height == pytest.approx(aspect)


def test_photos_are_seen_whole_too_with_all_of_the_person():
    alpha = np.zeros((400, 300), np.uint8)
    alpha[200:280, 40:80] = 255  # small in its photo
    boxes = [choose_box(alpha, 1.0, np.random.default_rng(s), is_pasted=False) for s in range(300)]
    wide = [box for box in boxes if box.height > 150]  # the others: 80 / 0.6 at most
    assert 0.15 < len(wide) / len(boxes) < 0.45
    assert max(box.height for box in wide) > 280
    for box in wide:
        assert box.x <= 40 and box.x + box.width >= 80
        assert box.y <= 200 and box.y + box.height >= 280


def test_pasted_person_is_not_cut_where_the_photo_ends():
    alpha = np.zeros((100, 100), np.uint8)
    alpha[20:, :60] = 255  # touches left and bottom
    for seed in range(100):
        box = choose_box(alpha, 1.0, np.random.default_rng(seed), is_pasted=True)
        assert box.x >= 0 and box.y + box.height <= 100 + 1e-6


def test_person_is_found_and_an_empty_alpha_gives_the_whole_photo():
    alpha = np.zeros((50, 40), np.uint8)
    assert find_person(alpha) == (0, 0, 40, 50)
    alpha[10:20, 5:9] = 200
    assert find_person(alpha) == (5, 10, 9, 20)


def test_warp_of_the_whole_picture_changes_nothing():
    picture = make_picture(channels=4)
    box = Box(0, 0, 60, 40)
    assert (warp(picture, box, (40, 60), 0, False, cv2.BORDER_REPLICATE) == picture).all()
    mirrored = warp(picture, box, (40, 60), 0, True, cv2.BORDER_REPLICATE)
    assert (mirrored == picture[:, ::-1]).all()


def test_warp_of_a_part_is_the_part():
    picture = make_picture()
    part = warp(picture, Box(10, 5, 32, 16), (16, 32), 0, False, cv2.BORDER_REPLICATE)
    assert (part == picture[5:21, 10:42]).all()


def test_warp_reduces_by_area_averages():
    picture = make_picture(64, 96)
    half = warp(picture, Box(0, 0, 96, 64), (32, 48), 0, False, cv2.BORDER_REPLICATE)
    expected = cv2.resize(picture, (48, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - expected).max() <= 1


def test_warp_turns_about_the_centre():
    picture = np.zeros((81, 81, 3), np.uint8)
    picture[38:43, 38:43] = 255
    picture[10:14, 38:43] = 255
    turned = warp(picture, Box(0, 0, 81, 81), (81, 81), 90, False, cv2.BORDER_REPLICATE)
    quarter = np.rot90(picture, 1)
    assert min(np.abs(turned.astype(int) - q).max() for q in (quarter, quarter[::-1, ::-1])) <= 2


def test_warp_beyond_the_photo_repeats_an_empty_border():
    layer = np.zeros((20, 20, 4), np.uint8)
    layer[5:15, 5:15] = 255
    wide = warp(layer, Box(-20, -20, 60, 60), (60, 60), 0, False, cv2.BORDER_REPLICATE)
    assert (wide[25:35, 25:35] == 255).all() and wide.sum() == 255 * 4 * 100


def test_crop_is_mirrored_half_of_the_time():
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[8:, 16:48, 3] = 255
    layer[8:, 16:32, 0] = 255  # red on the left
    left = 0
    for seed in range(100):
        crop = crop_person(layer, (64, 64), np.random.default_rng(seed), is_pasted=True)
        red = np.argwhere(crop[:, :, 0] > 128)[:, 1].mean()
        left += red < np.argwhere(crop[:, :, 3] > 128)[:, 1].mean()
    assert 30 < left < 70


def test_paste_composes_and_joins_the_alphas():
    foreground, background = np.full((1, 3, 3), 200, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    alpha, behind = np.array([[0, 51, 255]], np.uint8), np.array([[255, 51, 0]], np.uint8)
    image, union = paste(foreground, alpha, background, behind)
    assert image[0, :, 0].tolist() == [100, 120, 200]
    assert union.tolist() == [[255, 92, 255]]  # 255 (1 - 0.8 x 0.8) = 91.8


def test_colours_change_and_edges_stay():
    picture = make_picture()
    changed = [jitter_colour(picture, np.random.default_rng(s)).astype(int) for s in range(20)]
    assert 5 < np.mean([np.abs(one - picture).mean() for one in changed]) < 60
    for one in changed:
        grey = one.mean(axis=2), picture.mean(axis=2)
        assert np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] > 0.8


def test_degraded_pictures_resemble_the_original():
    picture = make_picture(64, 64)
    errors = [
        np.abs(degrade(picture, np.random.default_rng(s)).astype(int) - picture).mean()
        for s in range(40)
    ]
    assert 0 in errors and 0.5 < max(errors) < 20


class Windows:
    """A generator that chooses the sizes of the trimap's windows."""

    def __init__(self, *sides: int) -> None:
        self.sides = sides

    def integers(self, low: int, high: int, count: int) -> np.ndarray:
        assert (low, high, count) == (10, 21, 2)
        return np.array(self.sides)


def test_trimap_is_unknown_around_the_edge_only():
    alpha = np.zeros((256, 256), np.uint8)
    alpha[:, 100:] = 255
    alpha[:, 100] = 128
    trimap = make_trimap(alpha, Windows(11, 15))
    assert (trimap[0] == 0).sum() == 95 and (trimap[0, :95] == 0).all()  # 100 - 11 // 2
    assert (trimap[0, 95:108] == 1).all()  # 101 + 15 // 2
    assert (trimap[0, 108:] == 2).all() and (trimap == trimap[0]).all()


def test_trimap_grows_with_the_picture():
    alpha = np.zeros((512, 512), np.uint8)
    alpha[:, 256:] = 255
    small = make_trimap(alpha[::2, ::2], Windows(10, 10)) == 1
    large = make_trimap(alpha, Windows(10, 10)) == 1
    assert large[0].sum() == pytest.approx(2 * small[0].sum(), abs=2)


def test_trimap_covers_what_is_neither_person_nor_background():
    rng = np.random.default_rng(0)
    alpha = cv2.GaussianBlur(np.float32(rng.random((128, 128)) > 0.5), (0, 0), 12)
    alpha = np.clip((alpha - 0.45) * 2550, 0, 255).astype(np.uint8)
    for seed in range(10):
        trimap = make_trimap(alpha, np.random.default_rng(seed))
        assert set(np.unique(trimap)) <= {0, 1, 2}
        assert (trimap[(alpha > 0) & (alpha < 229)] == 1).all()
        assert (alpha[trimap == 0] == 0).all() and (alpha[trimap == 2] >= 230).all()
