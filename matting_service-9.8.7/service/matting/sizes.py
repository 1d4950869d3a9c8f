"""Output sizes: boxes, areas, previews."""

import re

PREVIEW_MEGAPIXELS = 0.25
MAX_SIDE = 100_000
_BOX = re.compile(r"(\d{1,6})x(\d{1,6})", re.ASCII)
_AREA = re.compile(r"(\d{1,4}(?:\.\d{1,4})?)MP", re.ASCII)


def check_size(text: str) -> str:
    """Return the text when `fit_size` understands it; raises ValueError."""
    fit_size(1, 1, text)
    return text


def fit_size(width: int, height: int, size: str) -> tuple[int, int]:
    """Return (width, height) of a result for a picture: same ratio, never larger, each at least 1.

    `size` is `full`, `preview` (at most 0.25 megapixels), `WxH` (fits into the box) or `NMP` (at
    most N megapixels). Raises ValueError for anything else.
    """
    if size == "full":
        return width, height
    box, area = _BOX.fullmatch(size), _AREA.fullmatch(size)
    if box and all(1 <= int(side) <= MAX_SIDE for side in box.groups()):
        scale = min(int(box[1]) / width, int(box[2]) / height)
    elif size == "preview" or (area and float(area[1]) > 0):
        most = round((float(area[1]) if area else PREVIEW_MEGAPIXELS) * 1e6)
        scale = (most / (width * height)) ** 0.5
        if scale < 1:
            # Rounding up both sides could pass the limit, and so could a side that stays at one.
            short = max(1, round(min(width, height) * scale))
            long = max(1, min(round(max(width, height) * scale), most // short))
            return (short, long) if width <= height else (long, short)
    else:
        raise ValueError("must be full, preview, a box such as 800x600, or an area such as 4MP")
    if scale >= 1:
        return width, height
    return max(1, round(width * scale)), max(1, round(height * scale))
