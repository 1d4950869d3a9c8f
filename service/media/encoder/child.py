"""`python -m service.media.encoder.child PID FACTS`: encodes what lies on its input.

See `service.media.encoder.apart`. It ends with the thread of the service, whose process is PID,
that started it.
"""

import math
import os
import sys
from typing import Any, BinaryIO

from PIL import Image

from service.media.decoder.confinement import die_with_parent
from service.media.image.saving import save_picture
from service.media.wire.apart import read_work

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def encode(facts: dict[str, Any], given: memoryview, target: BinaryIO) -> None:
    """Write the pictures whose shapes the facts have, then a profile and EXIF, as one file."""
    position = 0

    def take(count: int) -> memoryview:
        nonlocal position
        position += count
        return given[position - count : position]

    pictures = {}
    for name, (height, width, *channels) in facts["shapes"].items():
        mode = MODES[channels[0] if channels else 1]
        data = take(math.prod((height, width, *channels)))
        size = width, height
        pictures[name] = Image.frombuffer(mode, size, data, "raw", mode, 0, 1)  # type: ignore[arg-type]
    icc, exif = bytes(take(facts["icc"])), bytes(take(facts["exif"]))
    if facts["format"] == "psd":
        from service.media.image.layers import save_layers  # which loads far more

        save_layers(pictures, target, icc)
    else:
        (picture,) = pictures.values()
        options = {name: facts[name] for name in ("quality", "compression")}
        save_picture(picture, target, facts["format"], icc=icc, exif=exif, **options)


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    facts, given = read_work()
    with os.fdopen(1, "wb") as target:
        encode(facts, given, target)


if __name__ == "__main__":
    main()
