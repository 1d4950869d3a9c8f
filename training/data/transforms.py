"""From photos, backgrounds and a random generator to training samples.

All pictures are uint8 RGB. Every function draws from the generator it is given and from nothing
else, so that a sample depends on its number and not on who computes it, or when.
"""

from typing import NamedTuple

import cv2
import numpy as np

KNOWN_BACKGROUND, UNKNOWN, KNOWN_FOREGROUND = 0, 1, 2  # twice the trimap's values
MAX_ANGLE_DEGREES = 10.0
WIDE_SHARE = 0.35  # of crops from a photo: more of the photo, as people send it whole


class Sample(NamedTuple):
    """image (H, W, 3), alpha (H, W) and trimap (H, W) in {0, 1, 2}, all uint8."""

    image: np.ndarray
    alpha: np.ndarray
    trimap: np.ndarray


class Box(NamedTuple):
    """A rectangle in pixels of a photo; it may reach beyond the photo."""

    x: float
    y: float
    width: float
    height: float


def make_sample(
    people: list[np.ndarray],
    background: np.ndarray | None,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Sample:
    """Return a sample of `size` (height, width): people before a background.

    Each of `people` is (2, H, W, 4) as data.load_photo returns it, the last one in front. Without
    `background` there is one person, before the background of the photo; without people the
    picture is empty and alpha 0.
    """
    if background is None:
        layer = crop_person(people[-1][0], size, rng, is_pasted=False)
        image, alpha = jitter_colour(layer[:, :, :3], rng), layer[:, :, 3]
    else:
        image = jitter_colour(crop_background(background, size, rng), rng)
        alpha = np.zeros(size, np.uint8)
        for person in people:
            layer = crop_person(person[1], size, rng, is_pasted=True)
            foreground = jitter_colour(layer[:, :, :3], rng)
            image, alpha = paste(foreground, layer[:, :, 3], image, alpha)
        image = jitter_colour(image, rng, strength=0.4)
    return Sample(degrade(image, rng), np.ascontiguousarray(alpha), make_trimap(alpha, rng))


def paste(
    foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray, alpha_behind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the composite and the alpha of both: 1 - (1 - alpha)(1 - alpha_behind)."""
    a = np.float32(alpha) / 255  # (H, W)
    composite = foreground * a[:, :, None] + background * (1 - a[:, :, None])
    union = 255 - (1 - a) * (255 - np.float32(alpha_behind))
    return np.rint(composite).astype(np.uint8), np.rint(union).astype(np.uint8)


def crop_person(
    layer: np.ndarray, size: tuple[int, int], rng: np.random.Generator, is_pasted: bool
) -> np.ndarray:
    """Return a crop (h, w, 4) around the subject, between head and shoulders and full body.

    Turned a little and mirrored now and then. `is_pasted`: what lies beyond the photo is empty,
    so the crop may be larger than the photo.
    """
    box = choose_box(layer[:, :, 3], size[1] / size[0], rng, is_pasted)
    angle = float(np.clip(rng.normal(0, 4), -MAX_ANGLE_DEGREES, MAX_ANGLE_DEGREES))
    angle *= rng.random() < 0.5
    # Repeating the border prolongs a body that the photo cuts off and leaves the rest empty.
    border = cv2.BORDER_REPLICATE if is_pasted else cv2.BORDER_REFLECT_101
    return warp(layer, box, size, angle, bool(rng.random() < 0.5), border)


def choose_box(alpha: np.ndarray, aspect: float, rng: np.random.Generator, is_pasted: bool) -> Box:
    """Return where to crop: a part of the person from the top, with some room around it.

    Now and then all of the person with much of the photo, up to the whole of it.
    """
    photo_height, photo_width = alpha.shape
    x0, y0, x1, y1 = find_person(alpha)
    if not is_pasted and rng.random() < WIDE_SHARE:
        return choose_wide_box((x0, y0, x1, y1), alpha.shape, aspect, rng)
    person_width, person_height = x1 - x0, y1 - y0
    shoulders = np.clip(0.8 * person_width / person_height, 0.2, 1.0)  # share of the height
    share = 1.0 if rng.random() < 0.35 else rng.uniform(shoulders, 1.0)
    visible = share * person_height
    height = visible / rng.uniform(0.6, 0.97)
    bottom = y0 + visible
    if share == 1.0 and y1 < photo_height:
        bottom += rng.uniform(0, 0.1) * height
    center = (x0 + x1) / 2 + rng.uniform(-0.2, 0.2) * height * aspect

    # The crop stays inside the photo: on all sides, or, pasted, on those where the photo cuts the
    # person off.
    cut_left, cut_right, cut_top = x0 == 0, x1 == photo_width, y0 == 0
    shrink = 1.0
    if not is_pasted or (cut_left and cut_right):
        shrink = min(shrink, photo_width / (height * aspect))
    if not is_pasted or cut_top:
        shrink = min(shrink, (photo_height if not is_pasted else visible) / height)
    height *= shrink
    width = height * aspect
    x, y = center - width / 2, bottom - height
    if shrink < 1 and not is_pasted:
        y = y0 - rng.uniform(0, 0.15) * height  # rather the head than the feet
    if not is_pasted or cut_left:
        x = max(x, 0.0)
    if not is_pasted or cut_right:
        x = min(x, photo_width - width)
    if not is_pasted:
        y = min(max(y, 0.0), photo_height - height)
    return Box(x, y, width, height)


def choose_wide_box(
    person: tuple[int, int, int, int],
    photo: tuple[int, int],
    aspect: float,
    rng: np.random.Generator,
) -> Box:
    """Return a crop inside the photo (height, width), from just around the person to the largest.

    `person` is (x0, y0, x1, y1); where the aspect allows it, all of it is in the crop.
    """
    x0, y0, x1, y1 = person
    largest = min(photo[0], photo[1] / aspect)
    height = rng.uniform(min(largest, max(y1 - y0, (x1 - x0) / aspect)), largest)
    width = height * aspect

    def place(low: float, high: float, length: float, limit: float) -> float:
        """Return where a crop of that length begins, so that it holds what it can of the person."""
        first, last = sorted((low, high - length))
        return float(np.clip(rng.uniform(first, last), 0, max(0.0, limit - length)))

    return Box(place(x0, x1, width, photo[1]), place(y0, y1, height, photo[0]), width, height)


def find_person(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) around all pixels with alpha above a tenth, else of the photo."""
    is_person = alpha > 25
    columns, rows = np.flatnonzero(is_person.any(axis=0)), np.flatnonzero(is_person.any(axis=1))
    if not len(rows):
        return 0, 0, alpha.shape[1], alpha.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def crop_background(
    background: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return a random part (h, w, 3) of a background, mirrored or out of focus now and then."""
    height, width = background.shape[:2]
    largest = min(height, width * size[0] / size[1])
    box_height = largest * rng.uniform(0.5, 1.0)
    box_width = box_height * size[1] / size[0]
    x, y = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    box = Box(x, y, box_width, box_height)
    image = warp(background, box, size, 0.0, bool(rng.random() < 0.5), cv2.BORDER_REFLECT_101)
    if rng.random() < 0.3:
        sigma = rng.uniform(0.005, 0.025) * min(size)
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    return image


def warp(
    source: np.ndarray,
    box: Box,
    size: tuple[int, int],
    angle_degrees: float,
    is_mirrored: bool,
    border: int,
) -> np.ndarray:
    """Return `box` of the source, turned about its centre, as a picture of `size` (h, w).

    Reduced by area averages, as photos are when the network is used, then sampled bilinearly.
    """
    height, width = size
    turn = np.deg2rad(angle_degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    step = np.array([box.width / width, box.height / height])  # source pixels per output pixel
    mirror = np.array([-1.0 if is_mirrored else 1.0, 1.0])
    linear = rotation * (step * mirror)  # (2, 2): columns are the steps right and down
    center = np.array([box.x + box.width / 2, box.y + box.height / 2])
    start = center - linear @ (np.array([width, height]) / 2)  # of the output's corner

    # Cut out what is needed before anything is computed.
    reach = np.abs(linear) @ (np.array([width, height]) / 2) + 2
    limit = np.array([source.shape[1], source.shape[0]])
    low = np.clip(np.floor(center - reach), 0, limit - 1).astype(int)
    high = np.maximum(np.clip(np.ceil(center + reach), 1, limit).astype(int), low + 1)
    part = np.ascontiguousarray(source[low[1] : high[1], low[0] : high[0]])
    extent = high - low
    if step.max() > 1:
        shrunk = np.maximum(1, np.rint(extent / step.max())).astype(int)
        part = cv2.resize(part, shrunk.tolist(), interpolation=cv2.INTER_AREA)
        scale = shrunk / extent
    else:
        scale = np.ones(2)
    # Pixel centres lie at one half: out + 0.5 -> linear -> source + 0.5.
    offset = (start + linear @ np.array([0.5, 0.5]) - low) * scale - 0.5
    matrix = np.column_stack([linear * scale[:, None], offset])  # (2, 3), output to part
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, matrix, (width, height), flags=flags, borderMode=border)


def jitter_colour(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Change gamma, temperature, contrast, brightness and saturation, as light and cameras do."""
    gamma = np.exp(rng.uniform(-0.4, 0.4) * strength)
    temperature, tint = rng.uniform(-0.12, 0.12, 2) * strength
    contrast = np.exp(rng.uniform(-0.25, 0.25) * strength)
    brightness = rng.uniform(-0.1, 0.1) * strength
    saturation = 1 + rng.uniform(-0.5, 0.3) * strength
    if rng.random() < 0.04 * strength:
        saturation = 0.0  # black and white
    level = np.linspace(0, 1, 256)[:, None] ** gamma  # (256, 1)
    gains = np.array([1 + temperature, 1 + tint / 2, 1 - temperature])  # red, green, blue
    curve = (level * gains - 0.5) * contrast + 0.5 + brightness  # (256, 3)
    table = np.rint(np.clip(curve, 0, 1) * 255).astype(np.uint8)
    image = cv2.LUT(np.ascontiguousarray(image), table.reshape(1, 256, 3))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, add noise, compress: each now and then."""
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.3:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, 12)
        image = np.rint(np.clip(image + noise, 0, 255)).astype(np.uint8)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def make_trimap(alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the trimap (H, W) of an alpha (H, W) uint8, in {0, 1, 2}: divide by 2 for its values.

    As the author of MODNet makes them: unknown is where the dilated region of alpha > 0 and the
    eroded region of alpha >= 0.9 differ, with windows of 10 to 20 pixels per 256 of the size.
    """
    unit = min(alpha.shape) / 256
    dilation, erosion = (max(1, round(unit * side)) for side in rng.integers(10, 21, 2))
    is_foreground = (alpha >= 0.9 * 255).astype(np.uint8)
    outside = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((dilation, dilation), np.uint8))
    inside = cv2.erode(is_foreground, np.ones((erosion, erosion), np.uint8))
    return np.where(outside != inside, UNKNOWN, is_foreground * KNOWN_FOREGROUND).astype(np.uint8)
