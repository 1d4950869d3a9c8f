"""`matte models add FILE --like NAME`: describe a network of others, and try it on one photo."""

import time
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import typer

from service.inference.description import PRESETS, DescriptionError, parse_description
from service.inference.description import format_description as format_toml
from service.inference.engine import InferenceError, OnnxEngine
from service.inference.models import ModelError, read_model
from service.inference.preprocessing import fit_to_network
from service.inference.providers import DeviceError
from service.matting.refine import refine_alpha
from service.settings import Settings
from training.commands.common import fail

TRIAL_SIDE = 512


def add(
    file: Annotated[Path, typer.Argument(help="the ONNX file")],
    like: Annotated[
        Literal[tuple(PRESETS)],
        typer.Option(help="the network that it is, or that it was made like"),
    ],
    name: Annotated[
        str | None, typer.Option(show_default="the file's name", help="what requests call it")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="SPDX", show_default="that of the published network", help="SPDX identifier"
        ),
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a photo to try it on; else a drawn circle")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="overwrite a description that is there")
    ] = False,
) -> None:
    """Write the TOML file that tells the service how to use an ONNX file, and run it once.

    On an error there is no such file.
    """
    toml = file.with_suffix(".toml")
    if toml.exists() and not force:
        fail(f"{toml} is there already; --force overwrites")
    fields = PRESETS[like] | {"name": name or file.stem}
    if licence:
        fields["licence"] = licence
    before = toml.read_text() if toml.exists() else None
    try:
        description = parse_description(fields)
        image = read_photo(photo)
        toml.write_text(format_toml(description))
        engine = OnnxEngine(Settings(model_path=file), read_model(file, None))
        engine.warm_up()
        start_s = time.perf_counter()
        tensor = fit_to_network(image, engine.info, None, Settings().network_max_megapixels)
        matte = engine.run(tensor[np.newaxis])[0]
        took_s = time.perf_counter() - start_s
    except (DescriptionError, ModelError, DeviceError, InferenceError) as error:
        if before is None:
            toml.unlink(missing_ok=True)
        else:
            toml.write_text(before)
        fail(f"{file.name} is not like {like}: {error}")
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    height, width = matte.shape
    print(
        f"{toml}: written\n{engine.info.name}, {width} x {height} on {engine.provider}: "
        f"{took_s * 1000:.0f} ms, {matte.mean():.0%} of the picture is foreground"
    )
    if photo is not None:
        out = Path(f"{photo.stem}-{engine.info.name}.png")
        cv2.imwrite(str(out), np.rint(refine_alpha(image, matte) * 255).astype(np.uint8))
        print(f"{out}: its matte; look at it")


def read_photo(path: Path | None) -> np.ndarray:
    """Return a photo, (H, W, 3) uint8 RGB; None: a dark circle on white."""
    if path is None:
        drawn = np.full((TRIAL_SIDE, TRIAL_SIDE, 3), 255, np.uint8)
        return cv2.circle(drawn, (TRIAL_SIDE // 2,) * 2, TRIAL_SIDE // 4, (40, 30, 20), -1)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(2, "cannot be read as a photo", str(path))
    return np.ascontiguousarray(image[:, :, ::-1])
