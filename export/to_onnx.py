"""Turn a network into one ONNX file of opset 18.

Input `input`: float32 N x C x H x W in [-1, 1]; output `output`: float32 N x 1 x H x W in [0, 1].
C is 3, or 4 for the trimap variant: RGB, then the trimap as -1 (background), 0, 1 (foreground).
N is free; H and W are `32*h` and `32*w`, so the rule about multiples of 32 is part of the file.

The file's metadata_props (all values are strings) are all that the service knows about a model:

    name        what the model is called in the API
    version     of the weights, as given by --version
    sha256      of the checkpoint file the weights come from, 64 hex digits
    mean, std   `input = (rgb / 255 - mean) / std`, decimal fractions
    stride      H and W must be multiples of it
    ref_size    shorter side in pixels at which the weights work best
    photo_ref_sizes
                the same of two passes over a photo, for what is the person and for its outline,
                `256,384`; may be left out
    licence     SPDX name of the licence of the weights
    precision   fp32
    input       "uint8" where the file takes pictures as they are (`export.pixels`): uint8
                N x H x W x 3 in RGB, normalised inside; else it is not there
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from export.fold_norm import fold_norms
from training.network.networks import Network

OPSET = 18
STRIDE = 32


@dataclass(frozen=True)
class Metadata:
    """The metadata_props of a file, one field per key."""

    name: str
    version: str
    sha256: str
    ref_size: str
    licence: str
    mean: str = "0.5"
    std: str = "0.5"
    stride: str = str(STRIDE)
    precision: str = "fp32"
    photo_ref_sizes: str | None = None

    def to_props(self) -> dict[str, str]:
        """Return what the file says."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class MatteOnly(nn.Module):
    """The network as it is served: one image in, one matte out, no training heads."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model
        self.in_channels: int = model.architecture["in_channels"]

    def forward(self, image: Tensor) -> Tensor:
        matte: Tensor = self.model(image, inference=True)[2]
        return matte


class Clamp6(nn.Module):
    """ReLU6 as a single clamp: torch.export takes hardtanh apart, at a third of the whole time."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(x, 0, 6)


def fold(model: Network) -> MatteOnly:
    """Return the network ready to be exported: norms folded, matte only, evaluation mode."""
    folded = fold_norms(model)
    for module in folded.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, Clamp6())
            elif isinstance(child, nn.ReLU):
                setattr(module, name, nn.ReLU())  # not in place: quicker to trace as well
    return MatteOnly(folded).eval()


def write_onnx(network: MatteOnly, path: Path, metadata: Metadata) -> None:
    """Export the network to `path` as a single checked file with its metadata."""
    # Two images of 64 x 96: torch.export takes a size of 1 for a constant, and sizes that differ
    # from each other keep the height and the width apart.
    sample = torch.zeros(2, network.in_channels, 2 * STRIDE, 3 * STRIDE)
    shapes = {"image": {0: Dim("batch"), 2: STRIDE * Dim("h"), 3: STRIDE * Dim("w")}}
    with quiet_exporter():
        program = torch.onnx.export(
            network,
            (sample,),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["input"],
            output_names=["output"],
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    drop_traces(proto.graph)
    onnx.helper.set_model_props(proto, metadata.to_props())
    onnx.checker.check_model(proto, full_check=True)
    onnx.save_model(proto, str(path), save_as_external_data=False)


def drop_traces(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes on each node: paths of this machine's files, half a megabyte."""
    noted = [graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]
    for item in noted:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hold back the warnings and log lines of torch's exporter: none is about our network."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
