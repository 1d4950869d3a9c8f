"""Make docs/failures.jpg: what the default weights do badly, one class a row.

python docs/make_failures.py

The photos of the validation split may not be published. These pictures stand for what was seen
there; they are made of two free photos of scikit-image, an astronaut (NASA) and a cameraman (CC0).
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from service.inference.engine import OnnxEngine
from service.inference.photos import run_photo
from service.matting.composite import composite_over_colour
from service.matting.foreground import estimate_foreground
from service.matting.refine import refine_alpha
from service.settings import Settings
from training.evaluation.sheet import draw_sheet

GREEN = (0, 177, 64)
OUT = Path(__file__).parent / "failures.jpg"


def put_hat(photo: np.ndarray) -> np.ndarray:
    """Return the astronaut with a straw hat, drawn: a crown over a wide brim."""
    hat = np.zeros(photo.shape[:2], np.uint8)
    cv2.ellipse(hat, (224, 62), (150, 26), -4, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.ellipse(hat, (224, 44), (80, 58), -4, 180, 360, 255, -1, cv2.LINE_AA)
    straw = cv2.resize(data.grass(), photo.shape[1::-1]).astype(np.float32)[:, :, np.newaxis]
    colour = np.clip(straw / straw.mean() * np.array([205, 175, 115]), 0, 255)
    share = cv2.GaussianBlur(hat, (0, 0), 0.8)[:, :, np.newaxis] / 255
    mixed = share * colour + (1 - share) * photo
    band = np.zeros_like(hat)
    cv2.ellipse(band, (224, 58), (82, 14), -4, 0, 180, 255, 9, cv2.LINE_AA)
    mixed[band > 128] = (70, 40, 40)
    return np.rint(mixed).astype(np.uint8)


def put_beside(photo: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return two people: the astronaut, and she again, mirrored and smaller, further behind."""
    wide = cv2.copyMakeBorder(photo, 0, 0, 0, 300, cv2.BORDER_REPLICATE)
    wide[:, 500:] = cv2.GaussianBlur(wide, (0, 0), 40)[:, 500:]
    foreground = estimate_foreground(photo, alpha)[:, ::-1]
    small = cv2.resize(foreground, (400, 400), interpolation=cv2.INTER_AREA)
    share = cv2.resize(np.ascontiguousarray(alpha[:, ::-1]), (400, 400))[:, :, np.newaxis]
    target = wide[112:, 412:812]
    wide[112:, 412:812] = np.rint(share * small + (1 - share) * target).astype(np.uint8)
    return wide


def put_poster(photo: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the astronaut before a wall with a framed portrait on it."""
    cameraman = cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB)
    wall = np.full((512, 800, 3), (176, 170, 160), np.uint8)
    cv2.rectangle(wall, (470, 20), (780, 330), (60, 40, 30), -1)
    wall[30:320, 480:770] = cv2.resize(cameraman, (290, 290), interpolation=cv2.INTER_AREA)
    foreground = estimate_foreground(photo, alpha)
    part = wall[:, :512]
    wall[:, :512] = composite_over_colour(foreground, alpha, (176, 170, 160))
    assert part.shape == photo.shape
    return wall


def main() -> int:
    engine = OnnxEngine(Settings(device="cpu"))

    def matte(photo: np.ndarray) -> np.ndarray:
        return refine_alpha(photo, run_photo(engine, photo, Settings().network_max_megapixels))

    astronaut = data.astronaut()
    alpha = matte(astronaut)
    cameraman = cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB)
    cases = {
        "held objects: the camera and its tripod are lost": cameraman,
        "hats: the brim is cut off; below, the helmet she holds is lost": put_hat(astronaut),
        "loose hair: the outline without its strands": astronaut[:220, 110:350],
        "two people: both are one foreground": put_beside(astronaut, alpha),
        "person-like background: the portrait on the wall is taken too": put_poster(
            astronaut, alpha
        ),
    }
    rows = []
    for caption, photo in cases.items():
        photo = np.ascontiguousarray(photo)
        found = matte(photo)
        over = composite_over_colour(estimate_foreground(photo, found), found, GREEN)
        rows.append((caption, [photo, found, over]))
    draw_sheet(rows).save(OUT, quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main())
