"""`python -m service.stills.strands_child PID FACTS`: solves what `service.stills.strands` asks."""

import os
import sys

import numpy as np

from service.matting.fine import solve
from service.media.decoder.confinement import die_with_parent
from service.media.wire.apart import read_work
from service.threads import never


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    facts, given = read_work()
    shape = height, width = facts["shape"]
    size = height * width
    alpha = np.frombuffer(given[: 4 * size], np.float32).reshape(shape)
    image = np.frombuffer(given[4 * size : 7 * size], np.uint8).reshape(height, width, 3)
    band = np.frombuffer(given[7 * size :], np.bool_).reshape(shape)
    found = solve(image, alpha, band, never)
    with os.fdopen(1, "wb") as target:
        target.write(np.ascontiguousarray(found).data)


if __name__ == "__main__":
    main()
