"""Pictures side by side, one row per case, for people to look at."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROW_HEIGHT = 240
CAPTION_HEIGHT = 22
GAP = 6
PAPER, INK = (255, 255, 255), (20, 20, 20)


def draw_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> Image.Image:
    """Return one picture of rows of (caption, pictures).

    A picture is (H, W, 3) uint8 RGB or (H, W) float in [0, 1] (a matte); all are scaled to the
    same height.
    """
    strips = [[scale(to_rgb(picture)) for picture in pictures] for _, pictures in rows]
    width = max(sum(picture.shape[1] + GAP for picture in strip) for strip in strips) + GAP
    step = CAPTION_HEIGHT + ROW_HEIGHT + GAP
    sheet = Image.new("RGB", (width, step * len(rows)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, ((caption, _), strip) in enumerate(zip(rows, strips, strict=True)):
        top, left = row * step, GAP
        draw.text((left, top + 3), caption, INK, font)
        for picture in strip:
            sheet.paste(Image.fromarray(picture), (left, top + CAPTION_HEIGHT))
            left += picture.shape[1] + GAP
    return sheet


def to_rgb(picture: np.ndarray) -> np.ndarray:
    """Return the picture as (H, W, 3) uint8."""
    if picture.ndim == 3:
        return picture
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, None], 3, axis=2)


def scale(picture: np.ndarray) -> np.ndarray:
    """Return the picture with the height of a row."""
    height, width = picture.shape[:2]
    size = max(1, round(width * ROW_HEIGHT / height)), ROW_HEIGHT
    method = cv2.INTER_AREA if height > ROW_HEIGHT else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=method)
