"""Photos with alpha, and backgrounds: found in folders, in the layouts of the usual data sets."""

import csv
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

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


class DataError(ValueError):
    """A data set cannot be used; the message is one line that names the file or folder."""


@dataclass(frozen=True)
class Pair:
    """The files of a photo and its alpha; `split` is "train" or "val"."""

    id: str
    photo: Path
    alpha: Path
    split: str
    data_set: str = ""  # name of the folder in which find_pairs found it

    @property
    def kind(self) -> str:
        """The first folder of the id; of a photo that lies in none, the data set."""
        return self.id.partition("/")[0] if "/" in self.id else self.data_set


def find_pairs(folder: Path) -> list[Pair]:
    """Return the pairs of a data set in any known layout, sorted by id.

    Raises DataError for a missing folder, a photo without alpha or the converse, two sizes, an
    unreadable header, or no pair at all.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    is_listed = (folder / MANIFEST).is_file()
    pairs = find_listed(folder) if is_listed else hold_one_out(find_unlisted(folder))
    if not pairs:
        raise DataError(
            f"{folder}: no photos with alpha (expected id.jpg beside id.png, or image/ + matte/)"
        )
    for pair in pairs:
        photo_size, alpha_size = read_size(pair.photo), read_size(pair.alpha)
        if photo_size != alpha_size:
            sizes = "{}x{}, its photo {}x{}".format(*alpha_size, *photo_size)
            raise DataError(f"{pair.alpha}: is {sizes}")
    pairs = [replace(pair, data_set=folder.resolve().name) for pair in pairs]
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


def hold_one_out(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs with at least one of "val", where they are few and no folder says."""
    has_train_folder = any("train" in pair.id.lower().split("/")[:-1] for pair in pairs)
    if len(pairs) < 2 or has_train_folder or any(pair.split == "val" for pair in pairs):
        return pairs
    held_out = min(pairs, key=lambda pair: zlib.crc32(pair.id.encode()))
    return [replace(pair, split="val") if pair is held_out else pair for pair in pairs]


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
