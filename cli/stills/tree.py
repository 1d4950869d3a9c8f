"""The photos of a folder, and the names of their results in another folder."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from service.errors import InvalidOption

PHOTOS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".heic", ".heif", ".hif"),
    *(".tif", ".tiff", ".bmp", ".gif"),
)


@dataclass(frozen=True)
class Photo:
    """A photo and its result, both relative to their folders."""

    file: PurePosixPath
    result: PurePosixPath


def check_folders(source: Path, out: Path) -> None:
    """Raise InvalidOption where results would be taken for photos, or OSError without a source."""
    if source.is_file():
        why = "is one file; `matte image` takes one photo"
        raise NotADirectoryError(errno.ENOTDIR, why, str(source))
    check_folder(source)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(out))
    if source.resolve().is_relative_to(out.resolve()):
        raise InvalidOption(
            f"{out} holds {source}, so that results would be matted as photos",
            hint="choose another OUT; a folder inside IN is fine",
        )


def check_folder(folder: Path | None) -> Path | None:
    """Return a folder that is there; raises OSError."""
    if folder is not None and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder", str(folder))
    return folder


def find_photos(source: Path, out: Path, suffix: str) -> list[Photo]:
    """Return the photos below `source` in order; hidden files and `out` are left out.

    The result of `a/b.jpg` is `a/b.png`; where a folder has `b.jpg` and `b.webp`, theirs are
    `b.jpg.png` and `b.webp.png`.
    """
    files = sorted(walk(source, out.resolve()))
    stems = Counter(file.with_suffix("") for file in files)
    photos = []
    for file in files:
        is_alone = stems[file.with_suffix("")] == 1
        name = (file.stem if is_alone else file.name) + suffix
        photos.append(Photo(file, file.with_name(name)))
    return photos


def walk(source: Path, out: Path) -> Iterator[PurePosixPath]:
    """Yield the photos below a folder by their suffix, relative to it."""
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() != out]
        for name in names:
            if name[0] != "." and PurePosixPath(name).suffix.lower() in PHOTOS:
                yield PurePosixPath((here / name).relative_to(source).as_posix())


def find_beside(folder: Path | None, photo: PurePosixPath) -> Path | None:
    """Return the picture of a photo in a folder of its own: of `a/b.jpg` it is `a/b.png`, say.

    None where there is no folder, or none of that name; raises InvalidOption for several.
    """
    if folder is None:
        return None
    found = [path for end in PHOTOS if (path := folder / photo.with_suffix(end)).is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InvalidOption(f"{found[0].parent} has several files of one photo: {names}")
    return found[0] if found else None
