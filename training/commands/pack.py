"""`matte pack CHECKPOINT OUT.npz`: the weights alone, at half the size, to keep or train on from.

`--mean-with` takes the mean of several checkpoints: of runs that began with the same weights it is
often better on new photos than each of them (Wortsman et al., Model soups, ICML 2022).

Convolution and linear weights as float16, the rest (norms, biases: a hundredth of it) as float32;
each tensor once. The backbone's second name and the counters, which nothing reads, are left out.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from training.commands.common import fail
from training.network.checkpoint import COUNTER, CheckpointError, build_model, read_checkpoint
from training.network.networks import Network, make_network


def pack(source: Path, out: Path, others: Sequence[Path] = ()) -> None:
    """Write the network of a checkpoint as a compact `.npz`, whole or not at all.

    With `others` it is the mean of them all; of what some lack, of those that have it. Raises
    CheckpointError for a checkpoint that cannot be read, or is of another network, or whose network
    has not its usual widths: a `.npz` has no place for another architecture.
    """
    checkpoint = read_checkpoint(source)
    model = build_model(checkpoint)
    if model.architecture != make_network(model.name, {}).architecture:
        raise CheckpointError(f"{source}: only a network's own architecture can be packed")
    states = [checkpoint.state, *(read_same(other, model) for other in others)]
    arrays = {}
    for key in {key: None for state in states for key in state}:
        if not key.endswith(COUNTER):
            found = [state[key].numpy() for state in states if key in state]
            array = np.mean(found, axis=0) if len(found) > 1 else found[0]
            arrays[key] = array.astype(np.float16) if array.ndim > 1 else array
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def read_same(path: Path, model: Network) -> Mapping[str, Tensor]:
    """Return the weights of a checkpoint of the same network as `model`; raises CheckpointError."""
    checkpoint = read_checkpoint(path)
    other = build_model(checkpoint)
    if (other.name, other.architecture) != (model.name, model.architecture):
        raise CheckpointError(f"{path}: not the same network as the first checkpoint, {model.name}")
    return checkpoint.state


def run(source: Path, out: Path, others: Sequence[Path] = ()) -> None:
    """Run the command; a failure is one line on stderr."""
    try:
        pack(source, out, others)
    except CheckpointError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or out}: {error.strerror or error}")
