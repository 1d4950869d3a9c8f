"""Photos with alpha, and backgrounds: found in folders, prepared once, read cheaply ever after.

A prepared photo is one `.npy` file in the cache folder, read through a memory map: a crop costs
no decoding, and all workers share the pages. It holds (2, H, W, 4) uint8: the photo with its alpha
and the estimated foreground colour with the same alpha.
"""

import csv
import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from training.foreground import estimate_foreground

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
ALPHA_SUFFIX = ".png"

# Folders of photos and of alphas beside them, by data set. Files pair by their stem.
LAYOUTS = {
    "PPM-100": ("image", "matte"),
    "P3M-10k, faces blurred": ("blurred_image", "mask"),
    "P3M-500-NP": ("original_image", "mask"),
    "AIM-500, AM-2k": ("original", "mask"),
    "image and alpha": ("image", "alpha"),
}
BACKGROUNDS = "backgrounds"  # of a data set: photos without people
MANIFEST = "manifest.csv"  # columns id and split; without it folder names or the id decide
VALIDATION_FOLDERS = {"val", "validation", "test"}
VALIDATION_SHARE = 10  # one photo in ten, where the data set does not say

CACHE_VERSION = 2  # another number for another way of preparing


class DataError(ValueError):
    """A data set cannot be used; the message is one line that names the file or folder."""


@dataclass(frozen=True)
class Pair:
    """The files of a photo and its alpha; `split` is "train" or "val"."""

    id: str
    photo: Path
    alpha: Path
    split: str


def find_pairs(folder: Path) -> list[Pair]:
    """Return the pairs of a data set in any known layout, sorted by id.

    Raises DataError for a missing folder, a photo without alpha or the converse, two sizes, an
    unreadable header, or no pair at all.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    pairs = find_listed(folder) if (folder / MANIFEST).is_file() else find_unlisted(folder)
    if not pairs:
        raise DataError(
            f"{folder}: no photos with alpha (expected id.jpg beside id.png, or image/ + matte/)"
        )
    for pair in pairs:
        photo_size, alpha_size = read_size(pair.photo), read_size(pair.alpha)
        if photo_size != alpha_size:
            sizes = "{}x{}, its photo {}x{}".format(*alpha_size, *photo_size)
            raise DataError(f"{pair.alpha}: is {sizes}")
    return sorted(pairs, key=lambda pair: pair.id)


def find_listed(folder: Path) -> list[Pair]:
    """Return the pairs that the folder's manifest.csv names."""
    pairs = []
    with (folder / MANIFEST).open(newline="") as file:
        for row in csv.DictReader(file):
            if not row.get("id") or row.get("split") not in ("train", "val"):
                raise DataError(f"{folder / MANIFEST}: needs columns id and split (train or val)")
            photo, alpha = folder / f"{row['id']}.jpg", folder / f"{row['id']}{ALPHA_SUFFIX}"
            for path in (photo, alpha):
                if not path.is_file():
                    raise DataError(f"{path}: missing, though {MANIFEST} names it")
            pairs.append(Pair(row["id"], photo, alpha, row["split"]))
    return pairs


def find_unlisted(folder: Path) -> list[Pair]:
    """Return the pairs of the folders in LAYOUTS, else of photos with the alpha beside them."""
    pairs = []
    for photo_name, alpha_name in LAYOUTS.values():
        for photos in sorted({folder / photo_name, *folder.rglob(photo_name)}):
            alphas = photos.parent / alpha_name
            if photos.is_dir() and alphas.is_dir():
                pairs += match(folder, find_images(photos), find_images(alphas))
    if pairs:
        return pairs
    files = [path for path in find_images(folder) if BACKGROUNDS not in path.parts]
    photos = [path for path in files if path.suffix.lower() != ALPHA_SUFFIX]
    return match(folder, photos, [path for path in files if path.suffix.lower() == ALPHA_SUFFIX])


def match(folder: Path, photos: list[Path], alphas: list[Path]) -> list[Pair]:
    """Return pairs of equal stems; photos and alphas lie in one folder each, or side by side."""
    is_mixed = {path.parent for path in photos} == {path.parent for path in alphas}

    def name(path: Path) -> str:
        return str(path.with_suffix("")) if is_mixed else path.stem

    alpha_of = {name(path): path for path in alphas}
    pairs = []
    for photo in photos:
        alpha = alpha_of.pop(name(photo), None)
        if alpha is None:
            raise DataError(f"{photo}: has no alpha")
        id = photo.relative_to(folder).with_suffix("").as_posix()
        pairs.append(Pair(id, photo, alpha, choose_split(id)))
    for alpha in alpha_of.values():
        raise DataError(f"{alpha}: has no photo")
    return pairs


def choose_split(id: str) -> str:
    """Return "val" for a photo in a folder so named, or, where no folder says, for one in ten."""
    folders = id.lower().split("/")[:-1]
    if "train" in folders:
        return "train"
    is_validation = bool(VALIDATION_FOLDERS.intersection(folders))
    return "val" if is_validation or zlib.crc32(id.encode()) % VALIDATION_SHARE == 0 else "train"


def find_images(folder: Path) -> list[Path]:
    """Return the pictures in a folder and below, sorted; DataError if there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not paths:
        raise DataError(f"{folder}: no pictures")
    return paths


def find_backgrounds(folders: list[Path]) -> list[Path]:
    """Return the pictures without people of the data sets in `folders` that bring some."""
    found = [folder / BACKGROUNDS for folder in folders if (folder / BACKGROUNDS).is_dir()]
    return [path for folder in found for path in find_images(folder)]


def read_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as stored, from the header alone."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture") from error


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
    `cache` under a name made of both files' paths, sizes and times. Any number of processes may
    prepare the same photo at once.
    """
    key = describe_files(max_side, pair.photo, pair.alpha)
    return load_cached(cache / f"{key}.npy", lambda: prepare_photo(pair, max_side))


def load_background(path: Path, cache: Path, max_side: int) -> np.ndarray:
    """Return the picture (H, W, 3) uint8, read only, through the same cache."""
    key = describe_files(max_side, path)
    return load_cached(cache / f"{key}.npy", lambda: shrink(read_image(path), max_side))


def describe_files(max_side: int, *paths: Path) -> str:
    """Return a name for the cache that changes when one of the files does."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return sha256(repr((CACHE_VERSION, max_side, stats)).encode()).hexdigest()[:32]


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
