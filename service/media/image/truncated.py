"""Pictures whose file ends early: which rows are there. For the decoder child alone."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from service.media.image.formats.jpeg import JpegFile, add_garbage
from service.media.image.types import UndecodableImage

LEAST_SHARE = 0.5  # of the rows; with fewer a file is refused
_EDGE = 8  # pixels at the end of a row that tell whether it was written
_INTERLACE = 8  # rows between those of the first pass of a GIF
Missing = NDArray[np.bool_]


@contextmanager
def accept_truncated() -> Iterator[None]:
    """Let Pillow return what it could decode."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def check_share(share: float) -> float:
    """Return the share of rows that are there; raises UndecodableImage under a half."""
    if share < LEAST_SHARE:
        raise UndecodableImage(
            f"the file is damaged or ends early: {share:.0%} of its rows are there, "
            f"{LEAST_SHARE:.0%} are needed"
        )
    return share


def mark_rows(missing: Missing, width: int) -> Image.Image:
    """Return a mask to be turned as the picture is: 2 where it is missing, 1 in the last row."""
    marks = missing.astype(np.uint8) * 2
    marks[np.flatnonzero(~missing)[-1]] = 1
    return Image.fromarray(np.repeat(marks[:, np.newaxis], width, 1))


def fill_missing(pixels: NDArray[np.uint8], marks: NDArray[np.uint8]) -> None:
    """Paint what `mark_rows` calls missing in the mean grey of the last row, in place."""
    pixels[marks == 2] = np.uint8(round(float(pixels[marks == 1].mean())))


def find_missing_jpeg(jpeg: JpegFile, image: Image.Image) -> Missing:
    """Return (H,) rows that a mended JPEG does not have; `image` is what it decodes to.

    What noise where its data ends changes was made up by the decoder.
    """
    with Image.open(io.BytesIO(add_garbage(jpeg)), formats=["JPEG"]) as other:
        other.load()
        return find_changed_rows(image, other)


def find_changed_rows(image: Image.Image, other: Image.Image) -> Missing:
    """Return (H,): False above the first row in which two pictures differ."""
    missing = np.zeros(image.height, bool)
    for top in range(0, image.height, 64):
        box = (0, top, image.width, min(image.height, top + 64))
        pair = [np.asarray(one.crop(box)) for one in (image, other)]
        changed = np.flatnonzero((pair[0] != pair[1]).reshape(len(pair[0]), -1).any(1))
        if len(changed):
            missing[top + changed[0] :] = True
            break
    return missing


def load_with_noise(file: ImageFile.ImageFile) -> Missing:
    """Load a file that ends early; return (H,) rows that were not written."""
    width, height = file.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    prepare = file.load_prepare

    def prepare_noise() -> None:
        prepare()
        file.im.paste(Image.fromarray(noise).im, (0, 0, width, height))

    file.load_prepare = prepare_noise  # type: ignore[method-assign]
    with accept_truncated():
        file.load()
    edge = min(_EDGE, width)
    return np.asarray((np.asarray(file)[:, -edge:] == noise[:, -edge:]).all(1))


def repeat_rows(image: Image.Image, missing: Missing) -> tuple[Image.Image, Missing]:
    """Return an interlaced picture, of palette or grey, with the rows missing between others filled
    by those above, and the rows that are still missing.
    """
    rows = np.arange(len(missing))
    above = np.maximum.accumulate(np.where(missing, -1, rows))
    last = int(np.flatnonzero(~missing)[-1])
    if not missing[:last].any():
        return image, missing
    filled_in = missing & (above >= 0) & (rows - above < _INTERLACE)
    filled = image.copy()
    pixels = Image.fromarray(np.asarray(image)[np.where(filled_in, above, rows)])
    filled.im.paste(pixels.im, (0, 0, *image.size))
    return filled, missing & ~filled_in
