"""`matte pack CHECKPOINT OUT.npz`: the weights alone, at half the size, to keep or train on from.

Convolution and linear weights as float16, the rest (norms, biases: a hundredth of it) as float32;
each tensor once. The backbone's second name and the counters, which nothing reads, are left out.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from training.commands.common import fail
from training.network.checkpoint import COUNTER, CheckpointError, build_model, read_checkpoint
from training.network.networks import make_network


def pack(source: Path, out: Path) -> None:
    """Write the network of a checkpoint as a compact `.npz`, whole or not at all.

    Raises CheckpointError for a checkpoint that cannot be read, or whose network has not its usual
    widths: a `.npz` has no place for another architecture.
    """
    checkpoint = read_checkpoint(source)
    model = build_model(checkpoint)
    if model.architecture != make_network(model.name, {}).architecture:
        raise CheckpointError(f"{source}: only a network's own architecture can be packed")
    arrays = {}
    for key, tensor in checkpoint.state.items():
        if not key.endswith(COUNTER):
            array = tensor.numpy()
            arrays[key] = array.astype(np.float16) if array.ndim > 1 else array
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="matte pack", description="Keep the weights, compactly.")
    parser.add_argument("checkpoint", type=Path, help="checkpoint (.ckpt, .pt, .pth, .npz)")
    parser.add_argument("out", type=Path, help="file to write (.npz)")
    arguments = parser.parse_args(argv)
    try:
        pack(arguments.checkpoint, arguments.out)
    except CheckpointError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename or arguments.out}: {error.strerror or error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
