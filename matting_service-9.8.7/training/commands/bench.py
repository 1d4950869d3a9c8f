"""`matte bench --model M`: how large a network is, what it computes and how fast it runs.

Times are of the network alone, one picture, input ready in memory: reading, resizing and encoding
are not in them. `python -m benchmarks.serving` measures a whole service.
"""

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.commands.common import fail, parse_count
from training.evaluation.predictor import (
    STRIDE,
    Placement,
    Predictor,
    PredictorError,
    open_predictor,
)
from training.evaluation.results import MISSING, format_table
from training.network.checkpoint import read_checkpoint
from training.network.networks import make_network

DEFAULT_SIZES = (256, 320, 384, 512)
HEADER = ("model", "params", "MACs", "file", "input", "median", "fastest", "fps", "runs on")
# Ke et al., arXiv:2011.11961: half precision, reading in a process of its own. Not measured here.
PUBLISHED = ("the paper's figures", "-", "-", "-", "512x512", "15.8 ms", "-", "63", "GTX 1080Ti")


@dataclass(frozen=True)
class Cost:
    """What a network holds and computes; MACs are multiply-adds of one picture."""

    parameters: int
    macs: int


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    model: str
    parameters: int
    macs: int
    file_bytes: int
    size: int
    median_ms: float
    fastest_ms: float
    runs_on: str


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        rows = [row for path in arguments.model for row in bench(path, arguments)]
        if arguments.json:
            records = [asdict(row) for row in rows]
            arguments.json.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    except PredictorError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return fail("interrupted", code=130)
    print(format_table(HEADER, [*map(format_row, rows), PUBLISHED]))
    print(f"{arguments.runs} runs of one picture, the network alone; fps of the median")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `matte bench`."""
    parser = argparse.ArgumentParser(
        prog="matte bench", description="Print parameters, multiply-adds and speed of a network."
    )
    add = parser.add_argument
    add(
        "--model", type=Path, action="append", required=True, help="checkpoint or .onnx; repeatable"
    )
    default = ",".join(map(str, DEFAULT_SIZES))
    help = f"sides of the square inputs, multiples of {STRIDE} (default: {default})"
    add("--sizes", type=parse_sizes, default=DEFAULT_SIZES, help=help)
    add("--runs", type=parse_count, default=20, help="per size (default: %(default)s)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    add("--threads", type=parse_count, default=0, help="default: one per core")
    add("--json", type=Path, help="write the figures to this file too")
    return parser


def bench(path: Path, arguments: argparse.Namespace) -> list[Row]:
    """Return a row per size; raises PredictorError or OSError."""
    predictor = open_predictor(path, Placement(arguments.device, arguments.threads))
    count = count_onnx if path.suffix == ".onnx" else count_checkpoint
    rows = []
    for size in arguments.sizes:
        cost = count(path, size)
        times_ms = time_network(predictor, size, arguments.runs)
        rows.append(
            Row(
                model=path.name,
                parameters=cost.parameters,
                macs=cost.macs,
                file_bytes=path.stat().st_size,
                size=size,
                median_ms=statistics.median(times_ms),
                fastest_ms=min(times_ms),
                runs_on=predictor.runs_on,
            )
        )
    return rows


def time_network(predictor: Predictor, size: int, runs: int) -> list[float]:
    """Return the milliseconds of each run of one size x size picture, after two to warm up."""
    shape = (1, predictor.in_channels, size, size)
    batch = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    times_ms = []
    for _ in range(2 + runs):
        start = time.perf_counter()
        predictor.run(batch)  # comes back as an array, so a GPU has finished too
        times_ms.append((time.perf_counter() - start) * 1000)
    return times_ms[2:]


def count_checkpoint(path: Path, size: int) -> Cost:
    """Return the cost of a checkpoint's network: all parameters, multiply-adds of inference.

    Counts convolutions and matrix products, as papers do; on the meta device, so without computing.
    """
    with torch.device("meta"):
        checkpoint = read_checkpoint(path)
        model = make_network(checkpoint.network, checkpoint.architecture).eval()
        image = torch.empty(1, model.architecture["in_channels"], size, size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(image, inference=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, counter.get_total_flops() // 2)


def count_onnx(path: Path, size: int) -> Cost:
    """Return the cost of an ONNX file from the shapes in it: the same operations are counted.

    The exporter leaves the two training heads out and folds norms, so it has fewer parameters than
    its checkpoint.
    """
    import onnx

    model = onnx.load(path)
    for dimension, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, None, size, size), strict=True
    ):
        if value:
            dimension.dim_value = value
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    weights = {weight.name: list(weight.dims) for weight in graph.initializer}
    shapes |= weights
    macs = 0
    for node in graph.node:
        if node.op_type == "Conv":
            # per output value: input channels of its group x height x width of the kernel
            macs += math.prod(shapes[node.output[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "MatMul":
            macs += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type == "Gemm":
            turned = any(a.name == "transA" and a.i for a in node.attribute)
            macs += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if turned else 1]
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    parameters = sum(math.prod(w.dims) for w in graph.initializer if w.data_type in floats)
    return Cost(parameters, macs)


def format_row(row: Row) -> list[str]:
    """Return the cells of a row."""
    return [
        row.model,
        f"{row.parameters / 1e6:.2f} M",
        f"{row.macs / 1e9:.2f} G" if row.macs else MISSING,
        f"{row.file_bytes / 1e6:.1f} MB",
        f"{row.size}x{row.size}",
        f"{row.median_ms:.1f} ms",
        f"{row.fastest_ms:.1f} ms",
        f"{1000 / row.median_ms:.1f}",
        row.runs_on,
    ]


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return sides separated by commas, each a multiple of 32."""
    sizes = text.split(",")
    for size in sizes:
        if not size.isdecimal() or int(size) % STRIDE or int(size) == 0:
            raise argparse.ArgumentTypeError(f"{size!r} is not a positive multiple of {STRIDE}")
    return tuple(map(int, sizes))


if __name__ == "__main__":
    sys.exit(main())
