"""Make the pictures that show what refining and foreground estimation do.

python docs/make_sheets.py

Calls the functions of the service directly, with the default weights.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from service.inference.engine import OnnxEngine
from service.inference.preprocessing import fit_to_network
from service.matting.composite import composite_over_colour, quantise_alpha
from service.matting.foreground import estimate_foreground
from service.matting.refine import refine_alpha
from service.matting.resize import resize_alpha
from service.settings import Settings

# The photo has only 512 pixels a side: at this ref_size it is four times as large as its matte, as
# a photo with a shorter side of 1280 pixels is at the default of 320.
SMALL_REF_SIZE = 128
GAP = 6
TITLE = 22


def make_sheet(rows: list[list[tuple[str, np.ndarray]]], side: tuple[int, int]) -> Image.Image:
    """Return pictures in rows, each (H, W, 3) uint8 under its title, at (width, height)."""
    width, height = side
    columns = max(len(row) for row in rows)
    full = columns * (width + GAP) - GAP, len(rows) * (height + TITLE + GAP) - GAP
    sheet = Image.new("RGB", full, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, row in enumerate(rows):
        for j, (title, picture) in enumerate(row):
            left, top = j * (width + GAP), i * (height + TITLE + GAP)
            draw.text((left + 2, top + 2), title, "black", font)
            enlarged = cv2.resize(picture, side, interpolation=cv2.INTER_CUBIC)
            sheet.paste(Image.fromarray(enlarged), (left, top + TITLE))
    return sheet


def to_rgb(alpha: np.ndarray) -> np.ndarray:
    return np.dstack([quantise_alpha(alpha)] * 3)


def show_refine(photo: np.ndarray, matte: np.ndarray) -> Image.Image:
    plain = resize_alpha(matte, *photo.shape[:2])
    refined = refine_alpha(photo, matte)
    ratio = photo.shape[0] / matte.shape[0]
    rows = []
    for place in ((slice(8, 138), slice(140, 310)), (slice(28, 93), slice(140, 225))):
        for name, alpha in ((f"refine=off, matte 1:{ratio:.0f}", plain), ("refine=auto", refined)):
            colour = estimate_foreground(photo, alpha)
            over = composite_over_colour(colour, alpha, (0, 90, 200))
            rows.append([(name, to_rgb(alpha)[place]), ("over blue", over[place])])
    return make_sheet([rows[0] + rows[1], rows[2] + rows[3]], (340, 260))


def show_foreground(photo: np.ndarray, alpha: np.ndarray) -> Image.Image:
    place = slice(0, 150), slice(130, 330)
    colours = (("black", (0, 0, 0)), ("dark blue", (15, 20, 70)), ("red", (200, 30, 30)))
    rows = []
    green = composite_over_colour(estimate_foreground(photo, alpha), alpha, (0, 200, 0))
    for wall, picture in (("photo", photo), ("green wall", green)):
        for name in ("off", "auto"):
            colour = picture if name == "off" else estimate_foreground(picture, alpha)
            row = [(f"{wall}, foreground={name}", picture[place])]
            for title, value in colours:
                row.append((f"over {title}", composite_over_colour(colour, alpha, value)[place]))
            rows.append(row)
    return make_sheet(rows, (300, 225))


def main() -> None:
    photo = data.astronaut()
    engine = OnnxEngine(Settings(device="cpu"))

    def matte(ref_size: int | None) -> np.ndarray:
        return engine.run(fit_to_network(photo, engine.info, ref_size, 1.5)[np.newaxis])[0]

    folder = Path(__file__).parent
    show_refine(photo, matte(SMALL_REF_SIZE)).save(folder / "refine.jpg", quality=85)
    alpha = refine_alpha(photo, matte(None))
    show_foreground(photo, alpha).save(folder / "foreground.jpg", quality=85)


if __name__ == "__main__":
    main()
