"""A bound on the tags of a TIFF's directory, and of EXIF, which is one (TIFF 6.0, section 2)."""

import struct
from typing import IO

from PIL import TiffImagePlugin

# Cameras write a hundred, GeoTIFF and DNG two hundred.
MAX_TAGS = 1024


class TooManyTags(ValueError):
    """Pillow takes seconds for a directory of 65,535 tags; as EXIF of a photo it is left out."""


def bound_directories() -> None:
    """Have Pillow read no directory of more than MAX_TAGS tags, wherever it finds one."""
    directory = TiffImagePlugin.ImageFileDirectory_v2
    load = directory.load

    def load_bounded(self: TiffImagePlugin.ImageFileDirectory_v2, fp: IO[bytes]) -> None:
        start = fp.tell()
        order = "<" if self._endian == "<" else ">"
        code = order + ("Q" if self._bigtiff else "H")
        head = fp.read(struct.calcsize(code))
        if len(head) == struct.calcsize(code) and struct.unpack(code, head)[0] > MAX_TAGS:
            raise TooManyTags(f"a directory of more than {MAX_TAGS} tags")
        fp.seek(start)
        load(self, fp)

    directory.load = load_bounded  # type: ignore[method-assign]
