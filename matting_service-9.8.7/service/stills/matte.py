"""Decode one still and run the network on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.decoding import decode_picture
from service.errors import InvalidOption
from service.gate import Ticket
from service.inference.models import ModelInfo
from service.inference.preprocessing import check_ref_size, prepare_input
from service.matting.fine import is_installed
from service.media.image.types import Picture
from service.metrics import StageTimes
from service.options import BACKGROUND, IMAGE, TRIMAP
from service.runtime import Runtime
from service.stills.options import ImageOptions


@dataclass(frozen=True)
class StillFiles:
    """The files of one still; those that did not come are None."""

    image: bytes
    trimap: bytes | None = None
    background: bytes | None = None


@dataclass(frozen=True, eq=False)
class MattedStill:
    """A decoded picture and the network's matte, (h, w) float32 in [0, 1], at the network's size.

    `matte` is None where the network did not run, because the file's own alpha is the answer.
    `trimap` is (H, W) uint8; `background` the picture to put behind the person, of any size.
    `network_image` is the picture that the network saw, (h, w, 3) uint8, None where it is gone.
    `notes` say what of the files was mended or converted.
    """

    picture: Picture
    matte: NDArray[np.float32] | None = None
    trimap: NDArray[np.uint8] | None = None
    background: NDArray[np.uint8] | None = None
    network_image: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()


async def matte_still(
    runtime: Runtime,
    files: StillFiles,
    options: ImageOptions,
    ticket: Ticket,
    times: StageTimes,
) -> MattedStill:
    """Decode the files and run the network; raises the errors of both."""
    with times.measure("decode"):
        still = await decode_still(runtime, files, ticket)
        if still.picture.alpha is not None and options.existing_alpha == "return":
            return still
        model = runtime.models.choose(options.model)
        limit = runtime.settings.network_max_megapixels
        tensor, network_image = await runtime.workers.run(
            prepare, model.info, still, options.ref_size, limit
        )
    matte = await model.infer(tensor, timeout_s=runtime.settings.request_timeout_s)
    times.add("queue", matte.queue_s, before_s=matte.inference_s)
    times.add("inference", matte.inference_s)
    return replace(still, matte=matte.alpha, network_image=network_image)


async def decode_still(runtime: Runtime, files: StillFiles, ticket: Ticket) -> MattedStill:
    """Decode the image and what came with it; the matte is still missing.

    Raises the decoder's errors and MediaLimitExceeded; for an extra file they name it.
    """
    pictures: dict[str, Picture] = {}
    named = {IMAGE: files.image, TRIMAP: files.trimap, BACKGROUND: files.background}
    async with runtime.decoders.borrow("still") as decoder:
        for name, data in named.items():
            if data is not None:
                pictures[name] = await decode_picture(runtime, decoder, name, data, ticket)
    background = None
    if BACKGROUND in pictures:
        background = await runtime.workers.run(pictures[BACKGROUND].lay_over_white)
    return MattedStill(
        pictures[IMAGE],
        trimap=pictures[TRIMAP].image[:, :, 1] if TRIMAP in pictures else None,  # any channel
        background=background,
        notes=tuple(collect_notes(pictures)),
    )


def collect_notes(pictures: Mapping[str, Picture]) -> Iterator[str]:
    """Yield what was mended or converted, with the name of the part unless it is the image."""
    for name, picture in pictures.items():
        start = "" if name == IMAGE else f"{name}: "
        yield from (start + note for note in picture.notes)
        if picture.rows_there < 1:
            yield f"{start}the file ends early, {picture.rows_there:.0%} of its rows are there"


def check_model(runtime: Runtime, options: ImageOptions, has_trimap: bool) -> None:
    """Refuse a model that is not served, or cannot use the size or the trimap, or lacks one.

    Raises InvalidOption.
    """
    info = runtime.models.choose(options.model).info
    check_ref_size(info, options.ref_size)
    check_refine(options)
    if has_trimap and not info.takes_trimap:
        raise InvalidOption(
            f"the model `{info.name}` takes no trimap", hint=f"leave out `{TRIMAP}`"
        )
    if info.takes_trimap and not has_trimap:
        raise InvalidOption(
            f"the model `{info.name}` needs a trimap",
            hint=f"send `{TRIMAP}`: black background, white foreground, grey unknown",
        )


def check_refine(options: ImageOptions) -> None:
    """Refuse refine=fine where its extra is missing; raises InvalidOption."""
    if options.refine == "fine" and not is_installed():
        raise InvalidOption(
            "refine=fine is not installed on this server",
            hint="its operator can: pip install 'matting-service[fine]'",
        )


def prepare(
    info: ModelInfo, still: MattedStill, ref_size: int | None, max_megapixels: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the network's input for a decoded still, and as a picture; raises InvalidOption."""
    image, trimap = still.picture.flat, still.trimap
    if trimap is not None and trimap.shape != image.shape[:2]:
        sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (trimap, image)]
        raise InvalidOption(f"the trimap is {sizes[0]} pixels, the image {sizes[1]}")
    return prepare_input(image, info, ref_size, max_megapixels, trimap)
