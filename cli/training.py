"""The commands of training: their options; torch is imported when one of them runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from training.commands.common import check_multiple

STRIDE = 32  # of the networks' inputs
DEFAULT_SIZES = "256,320,384,512"
Threads = Annotated[int, typer.Option(min=0, show_default="one per core")]
DeviceName = Annotated[Literal["cpu", "cuda"], typer.Option(help="where the network runs")]


def train(
    config: Annotated[Path, typer.Argument(help="a TOML file, see training/configs")],
    resume: Annotated[bool, typer.Option("--resume", help="go on from last.pt in --out")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="runs/NAME of the config")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="save and stop after this time")] = None,
    data: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="instead of data.folders; repeatable")
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="instead of model.init")
    ] = None,
) -> None:
    """Train a network."""
    from training.commands.train import TrainOptions, run

    run(
        TrainOptions(
            config=config,
            resume=resume,
            out=out,
            max_minutes=max_minutes,
            data=data,
            init=init,
        )
    )


def adapt(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="footage to learn from")],
    model: Annotated[Path, typer.Option(metavar="CHECKPOINT", help="to start from")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="checkpoint to write (.pt)")],
    held_out: Annotated[
        Path | None, typer.Option(metavar="CLIP", show_default="the last one", help="to judge on")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="times through the footage")] = 10,
    lr: Annotated[float, typer.Option(help="learning rate")] = 1e-5,
    ref_size: Annotated[int, typer.Option(min=1, help="shorter side, pixels")] = 512,
    every: Annotated[int, typer.Option(min=1, help="take each n-th frame")] = 1,
    max_frames: Annotated[int, typer.Option(min=1, help="of a clip")] = 500,
    threads: Threads = 0,
    seed: Annotated[int, typer.Option(help="of the order of frames")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the measures")] = None,
) -> None:
    """Adapt a network to your own clips, without labels (SOC)."""
    from training.commands.adapt import AdaptOptions, run

    run(
        AdaptOptions(
            clips=clips,
            model=model,
            out=out,
            held_out=held_out,
            epochs=epochs,
            lr=lr,
            ref_size=ref_size,
            every=every,
            max_frames=max_frames,
            threads=threads,
            seed=seed,
            json=json,
        )
    )


def evaluate(
    model: Annotated[Path, typer.Argument(help="checkpoint (.ckpt, .pt, .pth, .npz) or .onnx")],
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...", help="folders of photos with alpha, in any layout training reads"
        ),
    ],
    split: Annotated[Literal["train", "val", "all"], typer.Option(help="of the photos")] = "all",
    protocol: Annotated[
        Literal["plain", "ppm"], typer.Option(help="ppm: shorter side 512")
    ] = "plain",
    ref_size: Annotated[
        int | None,
        typer.Option(min=1, show_default="the file's, or 512", help="shorter side fed in"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="take this many pictures of each folder, evenly spread"),
    ] = None,
    trimap: Annotated[
        bool,
        typer.Option("--trimap", help="feed trimaps made from the true alpha (4 channels)"),
    ] = False,
    clips: Annotated[
        bool,
        typer.Option("--clips", help="DATA holds clips in clip/ and matte/: dtSSD, MESSDdt"),
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="a line per picture")] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the figures, means and per picture")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a picture (.png) of the worst cases")
    ] = None,
    device: DeviceName = "cpu",
    threads: Threads = 0,
) -> None:
    """Measure a network's mattes against the true ones."""
    from training.commands.evaluate import EvaluateOptions, run

    run(
        EvaluateOptions(
            model=model,
            data=data,
            split=split,
            protocol=protocol,
            ref_size=ref_size,
            limit=limit,
            trimap=trimap,
            clips=clips,
            csv=csv,
            json=json,
            sheet=sheet,
            device=device,
            threads=threads,
        )
    )


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return sides separated by commas, each a multiple of 32."""
    sizes = text.split(",")
    if not all(size.isdecimal() for size in sizes):
        raise typer.BadParameter(f"{text!r}: sides are a positive multiple of {STRIDE} each")
    return tuple(check_multiple(int(size), STRIDE) for size in sizes)


def bench(
    model: Annotated[
        list[Path], typer.Option(metavar="FILE", help="checkpoint or .onnx; repeatable")
    ],
    sizes: Annotated[
        object,
        typer.Option(
            parser=parse_sizes,
            metavar="N,N",
            help=f"sides of the square inputs, multiples of {STRIDE}",
        ),
    ] = DEFAULT_SIZES,
    runs: Annotated[int, typer.Option(min=1, help="per size")] = 20,
    device: DeviceName = "cpu",
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write the figures too")] = None,
) -> None:
    """Print parameters, multiply-adds and speed of a network."""
    from training.commands.bench import BenchOptions, run

    run(
        BenchOptions(
            model=model,
            sizes=sizes,
            runs=runs,
            device=device,
            threads=threads,
            json=json,
        )
    )


def pack(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint (.ckpt, .pt, .pth, .npz)")],
    out: Annotated[Path, typer.Argument(help="file to write (.npz)")],
    mean_with: Annotated[
        list[Path] | None,
        typer.Option(metavar="CHECKPOINT", help="write the mean with this one; repeatable"),
    ] = None,
) -> None:
    """Keep the weights, compactly."""
    from training.commands.pack import run

    run(checkpoint, out, mean_with or ())
