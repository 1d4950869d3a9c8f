"""Read and write checkpoints: released `.ckpt`, `.pt`/`.pth`, our own wrapped ones, and `.npz`.

The kind of a file is read from its first bytes, never from its name. Nothing in it is executed:
torch files are read with `weights_only=True`, numpy files with `allow_pickle=False`.

A wrapped checkpoint is `{"model": state_dict, "network": "modnet", "architecture": {...}, ...}`:
`network` is a name in training/network/networks.py (without it the keys of the weights say which),
`architecture` holds its arguments, and whatever else is there is left to the trainer.
A state dict may carry the `module.` prefix of DataParallel, may leave out the second name of the
backbone (`lr_branch.backbone.*`) and may leave out the `num_batches_tracked` counters.
"""

import hashlib
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.network.networks import Network, make_network, recognise_network

ALIAS, ORIGINAL = "lr_branch.backbone.", "backbone."
COUNTER = ".num_batches_tracked"

# What torch and numpy raise for a file that was cut short or altered.
BROKEN_FILE_ERRORS = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    MemoryError,
    NotImplementedError,
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message is one line for the person who named the file."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: canonical state, network and its arguments, SHA-256 of the bytes."""

    path: Path
    state: dict[str, Tensor]
    network: str
    architecture: dict[str, Any]
    sha256: str


def load_model(path: str | os.PathLike[str]) -> Network:
    """Return the network of a checkpoint in evaluation mode.

    Raises CheckpointError if the file is missing, of another kind, cut short, or has other keys.
    """
    return build_model(read_checkpoint(path))


def build_model(checkpoint: Checkpoint) -> Network:
    """Return the network with the checkpoint's weights in evaluation mode."""
    try:
        model = make_network(checkpoint.network, checkpoint.architecture)
    except LookupError as error:
        raise CheckpointError(f"{checkpoint.path}: unknown network {checkpoint.network}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"{checkpoint.path}: unusable architecture {checkpoint.architecture}"
        raise CheckpointError(problem) from error
    load_state(model, checkpoint.state, str(checkpoint.path))
    return model.eval()


def save_checkpoint(path: str | os.PathLike[str], model: Network, **extra: Any) -> None:
    """Write a wrapped checkpoint; `extra` (optimiser state, epoch) is stored beside the model."""
    about = {"network": model.name, "architecture": model.architecture}
    torch.save({"model": model.state_dict(), **about, **extra}, path)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file of any kind named in the module's docstring, or raise CheckpointError."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    try:
        content = parse(data)
    except pickle.UnpicklingError as error:
        # torch's own message tells the reader how to run the code in the file: not repeated.
        problem = f"{path}: refused, it is broken or holds more than tensors"
        raise CheckpointError(problem) from error
    except BROKEN_FILE_ERRORS as error:
        raise CheckpointError(f"{path}: broken or cut short ({summarise(error)})") from error
    if content is None:
        raise CheckpointError(f"{path}: not a checkpoint (expected .ckpt, .pt, .pth or .npz)")
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise CheckpointError(f"{path}: holds a {kind} instead of a state dict")
    state, architecture, name = content, {}, None
    if isinstance(content.get("model"), Mapping):
        state, architecture = content["model"], dict(content.get("architecture") or {})
        name = content.get("network")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: entry {key!r} is not a tensor")
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity")
    state = canonicalise_state(state, str(path))
    network = name if isinstance(name, str) else recognise_network(state)
    return Checkpoint(path, state, network, architecture, hashlib.sha256(data).hexdigest())


def parse(data: bytes) -> Any:
    """Return what the bytes of a file hold, or None if they are no kind of checkpoint."""
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {key: widen(arrays[key]) for key in arrays.files}
        if not any(name.endswith("data.pkl") for name in names):
            return None
    elif data[:1] != b"\x80":  # the pickle that starts a torch file of before 1.6
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch remarks on what it then refuses
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def widen(array: np.ndarray) -> Tensor:
    """Return the array as a tensor, float16 as float32."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array)


def summarise(error: BaseException) -> str:
    """Return the first line of an error message, at most 100 characters."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:100]


def canonicalise_state(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the state without `module.` and without the backbone's second name.

    Raises CheckpointError if the two names of one backbone tensor hold different values.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    canonical: dict[str, Tensor] = {}
    for key, value in state.items():
        name = ORIGINAL + key.removeprefix(ALIAS) if key.startswith(ALIAS) else key
        if name in canonical and not torch.equal(canonical[name].double(), value.double()):
            raise CheckpointError(f"{source}: {key} differs from {name}, they are one tensor")
        canonical[name] = value
    return canonical


def load_state(model: Network, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a canonical state into the model; CheckpointError names the first wrong key."""
    expected = {k: v for k, v in model.state_dict().items() if not k.startswith(ALIAS)}
    for key, own in expected.items():
        if key not in state:
            # Counters are unused with a fixed momentum.
            if key.endswith(COUNTER) or key.startswith(model.training_only):
                continue
            raise CheckpointError(f"{source}: missing key {key}")
        if state[key].shape != own.shape:
            found, wanted = tuple(state[key].shape), tuple(own.shape)
            raise CheckpointError(f"{source}: {key} has shape {found}, expected {wanted}")
    for key in state:
        if key not in expected:
            raise CheckpointError(f"{source}: unexpected key {key}")
    with torch.no_grad():
        for key, value in state.items():
            expected[key].copy_(value)  # into the shared storage, so both names see it
