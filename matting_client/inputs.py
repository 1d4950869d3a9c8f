"""Photos and clips as callers have them, and as parts of a request."""

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union, cast

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

File: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO
Photo: TypeAlias = Union[File, "np.ndarray[Any, Any]", "Image.Image"]
# What PNG holds without a change; other modes of Pillow become RGB.
PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class Part:
    """A file to send: a path, opened anew for each try, or bytes; and the name it goes by."""

    data: Path | bytes
    name: str

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data) if isinstance(self.data, bytes) else self.data.open("rb")


def take_file(file: File) -> Part:
    """Return the part of a path, of bytes or of an open file; raises TypeError."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return Part(bytes(file), "file")
    if isinstance(file, (str, os.PathLike)):
        return Part(Path(file), Path(file).name)
    if hasattr(file, "read"):
        return Part(file.read(), "file")
    raise TypeError(f"a path, bytes or an open file is needed, not {type(file).__name__}")


def take_photo(photo: Photo) -> Part:
    """Return the part of a photo: what `take_file` takes, a numpy array or an image of Pillow.

    An array is (H, W), (H, W, 3) or (H, W, 4), uint8; arrays and images are sent as PNG with the
    pixels they have, whatever an orientation tag says. Raises TypeError.
    """
    if hasattr(photo, "getbands"):
        return Part(encode_png(cast("Image.Image", photo)), "photo.png")
    if hasattr(photo, "__array_interface__"):
        from PIL import Image

        try:
            return Part(encode_png(Image.fromarray(cast(Any, photo))), "photo.png")
        except TypeError:
            raise TypeError(
                f"an array is (H, W), (H, W, 3) or (H, W, 4), uint8, not {describe(photo)}"
            ) from None
    return take_file(photo)


def describe(array: Any) -> str:
    return f"{array.shape}, {array.dtype}"


def encode_png(image: "Image.Image") -> bytes:
    """Return the PNG of an image, without its EXIF."""
    if image.mode not in PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=b"")
    return buffer.getvalue()


def split_options(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Photo]]:
    """Return the options as text, and the files among them, whose names end in `_file`.

    None is left out: the service's default counts.
    """
    texts = {
        name: to_text(value, " " if name == "put_urls" else ",")
        for name, value in given.items()
        if not name.endswith("_file")
    }
    files = {name: value for name, value in given.items() if name.endswith("_file")}
    return (
        {name: text for name, text in texts.items() if text is not None},
        {name: file for name, file in files.items() if file is not None},
    )


def to_text(value: Any, between: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return between.join(str(item) for item in value)
    return str(value)


class CountedFile:
    """A file that tells how much of it was read: `progress(bytes_done, bytes_total)`."""

    def __init__(self, file: BinaryIO, progress: Callable[[int, int], None]) -> None:
        self._file = file
        self._progress = progress
        self._total = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._progress(self._file.tell(), self._total)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
