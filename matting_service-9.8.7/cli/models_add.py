"""`matte models add FILE --like NAME`: describe a network of others, and try it on one photo."""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

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


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the arguments of the command."""
    add = verbs.add_parser(
        "add",
        help="describe an ONNX file of others",
        description="Write the TOML file that tells the service how to use an ONNX file, and run "
        "the network once.",
    )
    add.add_argument("file", type=Path, metavar="FILE", help="the ONNX file")
    help = "the network that it is, or that it was made like"
    add.add_argument("--like", choices=PRESETS, required=True, help=help)
    add.add_argument("--name", help="what requests call it (default: the file's name)")
    add.add_argument("--licence", help="SPDX identifier (default: that of the published network)")
    add.add_argument("--photo", type=Path, help="a photo to try it on; else a drawn circle")
    add.add_argument("--force", action="store_true", help="overwrite a description that is there")


def add_model(arguments: argparse.Namespace) -> int:
    """Write the description and try it; on an error there is none. Return the exit code."""
    file: Path = arguments.file
    toml = file.with_suffix(".toml")
    if toml.exists() and not arguments.force:
        return fail(f"{toml} is there already; --force overwrites")
    fields = PRESETS[arguments.like] | {"name": arguments.name or file.stem}
    if arguments.licence:
        fields["licence"] = arguments.licence
    before = toml.read_text() if toml.exists() else None
    try:
        description = parse_description(fields)
        photo = read_photo(arguments.photo)
        toml.write_text(format_toml(description))
        engine = OnnxEngine(Settings(model_path=file), read_model(file, None))
        engine.warm_up()
        start_s = time.perf_counter()
        tensor = fit_to_network(photo, engine.info, None, Settings().network_max_megapixels)
        matte = engine.run(tensor[np.newaxis])[0]
        took_s = time.perf_counter() - start_s
    except (DescriptionError, ModelError, DeviceError, InferenceError) as error:
        if before is None:
            toml.unlink(missing_ok=True)
        else:
            toml.write_text(before)
        return fail(f"{file.name} is not like {arguments.like}: {error}")
    except OSError as error:
        return fail(f"{error.filename or file}: {error.strerror or error}")
    height, width = matte.shape
    print(
        f"{toml}: written\n{engine.info.name}, {width} x {height} on {engine.provider}: "
        f"{took_s * 1000:.0f} ms, {matte.mean():.0%} of the picture is foreground"
    )
    if arguments.photo is not None:
        out = Path(f"{arguments.photo.stem}-{engine.info.name}.png")
        cv2.imwrite(str(out), np.rint(refine_alpha(photo, matte) * 255).astype(np.uint8))
        print(f"{out}: its matte; look at it")
    return 0


def read_photo(path: Path | None) -> np.ndarray:
    """Return a photo, (H, W, 3) uint8 RGB; None: a dark circle on white."""
    if path is None:
        drawn = np.full((TRIAL_SIDE, TRIAL_SIDE, 3), 255, np.uint8)
        return cv2.circle(drawn, (TRIAL_SIDE // 2,) * 2, TRIAL_SIDE // 4, (40, 30, 20), -1)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(2, "cannot be read as a photo", str(path))
    return np.ascontiguousarray(image[:, :, ::-1])
