"""The golden numbers of the official network and the weights they were made with.

The weights are not stored: each tensor is one draw of a generator seeded by the CRC of its key.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.network.modnet import MODNet

GOLDEN = Path(__file__).parent / "golden"
STATE_LIST = json.loads((GOLDEN / "state_dict.json").read_text())  # [key, shape, dtype]
DIGESTS = json.loads((GOLDEN / "weights_digest.json").read_text())


def read_canonical_key(key: str) -> str:
    return key.removeprefix("lr_branch.") if key.startswith("lr_branch.backbone.") else key


def draw_tensor(key: str, shape: list[int], suffix: str = "") -> np.ndarray:
    """Return the value of a canonical key, float32 or the int64 counter."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32((key + suffix).encode())))
    if leaf == "running_var":
        return (0.5 + rng.random(shape)).astype(np.float32)
    draw = rng.standard_normal(shape)
    if leaf == "running_mean":
        draw = 0.1 * draw
    elif leaf == "bias":
        draw = 0.05 * draw
    elif len(shape) == 1:
        draw = 1.0 + 0.1 * draw
    else:
        draw = np.sqrt(2 / np.prod(shape[1:])) * draw
    return draw.astype(np.float32)


def make_golden_arrays(suffix: str = "") -> dict[str, np.ndarray]:
    """Return the 439 distinct tensors; the suffix `|backup` gives the second set."""
    shapes = {read_canonical_key(key): shape for key, shape, _ in STATE_LIST}
    return {key: draw_tensor(key, shape, suffix) for key, shape in shapes.items()}


def make_golden_state(suffix: str = "") -> dict[str, Tensor]:
    """Return all 751 entries, in the official order."""
    arrays = make_golden_arrays(suffix)
    return {key: torch.from_numpy(arrays[read_canonical_key(key)]) for key, _, _ in STATE_LIST}


def make_golden_model(suffix: str = "") -> MODNet:
    model = MODNet()
    model.load_state_dict(make_golden_state(suffix), strict=True)
    return model
