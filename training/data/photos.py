"""Photos with alpha, and backgrounds: prepared once, read cheaply ever after.

A prepared photo is one `.npy` file in the cache folder, read through a memory map: a crop costs
no decoding, and all workers share the pages. It holds (2, H, W, 4) uint8: the photo with its alpha
and the estimated foreground colour with the same alpha.
"""

import functools
import os
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from training.data.foreground import estimate_foreground
from training.data.pairs import DataError, Pair

CACHE_VERSION = 2  # another number for another way of preparing


def read_image(path: Path, mode: str = "RGB") -> np.ndarray:
    """Return the decoded picture: (H, W, 3) uint8, or (H, W) with mode "L", upright."""
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture") from error


def load_photo(pair: Pair, cache: Path, max_side: int) -> np.ndarray:
    """Return (2, H, W, 4) uint8, read only: photo and alpha, foreground and alpha.

    The longer side is `max_side` at most. Prepared at the first call and kept in the folder
    `cache` under a name made of both files' content. Any number of processes may prepare the same
    photo at once.
    """
    key = describe_files(max_side, pair.photo, pair.alpha)
    return load_cached(cache / f"{key}.npy", lambda: prepare_photo(pair, max_side))


def load_background(path: Path, cache: Path, max_side: int) -> np.ndarray:
    """Return the picture (H, W, 3) uint8, read only, through the same cache."""
    key = describe_files(max_side, path)
    return load_cached(cache / f"{key}.npy", lambda: shrink(read_image(path), max_side))


def describe_files(max_side: int, *paths: Path) -> str:
    """Return a name for the cache that changes with what one of the files holds.

    Not with its time or place: a data set that is copied or unpacked again keeps its cache.
    """
    digests = [digest_file(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return sha256(repr((CACHE_VERSION, max_side, digests)).encode()).hexdigest()[:32]


@functools.cache
def digest_file(path: Path, size: int, time_ns: int) -> str:
    """Return the SHA-256 of a file's content, computed again when its size or time changes."""
    return sha256(path.read_bytes()).hexdigest()


def load_cached(path: Path, prepare: Callable[[], np.ndarray]) -> np.ndarray:
    """Map the array stored at `path`; make and store it first if it is missing or broken."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    array = prepare()
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with part.open("wb") as file:
        np.save(file, array)
    os.replace(part, path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def prepare_photo(pair: Pair, max_side: int) -> np.ndarray:
    """Decode a pair and estimate its foreground colour."""
    photo, alpha = read_image(pair.photo), read_image(pair.alpha, "L")
    if photo.shape[:2] != alpha.shape:
        raise DataError(f"{pair.alpha}: is turned differently from its photo (EXIF orientation)")
    photo, alpha = shrink(photo, max_side), shrink(alpha, max_side)
    colour = estimate_foreground(np.float32(photo) / 255, np.float32(alpha) / 255)
    foreground = np.rint(colour * 255).astype(np.uint8)
    return np.stack([np.dstack([photo, alpha]), np.dstack([foreground, alpha])])  # (2, H, W, 4)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """Return the picture with its longer side at most `max_side`."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
