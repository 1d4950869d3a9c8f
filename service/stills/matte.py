"""Decode one still and run the network on it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.decoding import decode_picture
from service.errors import InvalidOption
from service.gate import Ticket
from service.inference.fair_queue import Caller
from service.inference.models import ModelInfo
from service.inference.photos import NetworkPicture, prepare_passes
from service.inference.preprocessing import check_ref_size
from service.matting.crop import Box, cut
from service.matting.hint import Region, embed_matte, make_hint, read_strokes
from service.matting.passes import join_passes
from service.media.image.types import Picture
from service.metrics import StageTimes
from service.options import BACKGROUND, HINT, IMAGE, TRIMAP, find_region
from service.runtime import Runtime
from service.stills.options import ImageOptions


@dataclass(frozen=True)
class StillFiles:
    """The files of one still; those that did not come are None."""

    image: bytes
    trimap: bytes | None = None
    background: bytes | None = None
    hint: bytes | None = None


@dataclass(frozen=True, eq=False)
class MattedStill:
    """A decoded picture and the network's matte, (h, w) float32 in [0, 1], at the network's size.

    `matte` is None where the network did not run, because the file's own alpha is the answer.
    `trimap` is (H, W) uint8; `background` the picture to put behind the person, of any size.
    `network_image` is the picture that the network saw, (h, w, 3) uint8, None where it is gone.
    `hint` is (H, W) uint8, what the user keeps and removes (see `service.matting.hint`).
    `notes` say what of the files was mended or converted.
    """

    picture: Picture
    matte: NDArray[np.float32] | None = None
    trimap: NDArray[np.uint8] | None = None
    background: NDArray[np.uint8] | None = None
    network_image: NDArray[np.uint8] | None = None
    hint: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()


async def matte_still(
    runtime: Runtime,
    files: StillFiles,
    options: ImageOptions,
    ticket: Ticket,
    times: StageTimes,
    owner: str = "",
) -> MattedStill:
    """Decode the files and run the network; raises the errors of both."""
    with times.measure("decode"):
        still = await decode_still(runtime, files, ticket)
        region, image = options.region, still.picture.image
        still = await add_hint(runtime, still, region)
        box = None if region is None else find_region(region, image)
        if still.picture.alpha is not None and options.existing_alpha == "return":
            return still
        model = runtime.models.choose(options.model)
        passes = await runtime.workers.run(
            prepare_still, runtime, model.info, still, options.ref_size, box
        )
    caller = Caller("image", owner)
    deadline_s = time.monotonic() + runtime.settings.request_timeout_s
    mattes = []
    network_s = 0.0
    for tensor, _ in passes:
        left_s = max(0.0, deadline_s - time.monotonic())
        matte = await model.infer(tensor, timeout_s=left_s, caller=caller)
        times.add("queue", matte.queue_s, before_s=matte.inference_s)
        times.add("inference", matte.inference_s)
        network_s += matte.share_s
        mattes.append(matte.alpha)
    runtime.gate.observe(network_s)
    alpha = mattes[0]
    if len(mattes) > 1:
        alpha = await runtime.workers.run(join_passes, *mattes)
    if box is not None:
        whole = await runtime.workers.run(embed_matte, alpha, box, image.shape[:2])
        return replace(still, matte=whole)
    return replace(still, matte=alpha, network_image=passes[-1][1])


async def decode_still(runtime: Runtime, files: StillFiles, ticket: Ticket) -> MattedStill:
    """Decode the image and what came with it; the matte is still missing.

    Raises the decoder's errors and MediaLimitExceeded; for an extra file they name it.
    """
    pictures: dict[str, Picture] = {}
    named = {
        IMAGE: files.image,
        TRIMAP: files.trimap,
        BACKGROUND: files.background,
        HINT: files.hint,
    }
    async with runtime.decoders.borrow("still") as decoder:
        for name, data in named.items():
            if data is not None:
                pictures[name] = await decode_picture(runtime, decoder, name, data, ticket)
    background = None
    if BACKGROUND in pictures:
        background = await runtime.workers.run(pictures[BACKGROUND].lay_over_white)
    hint = pictures.get(HINT)
    return MattedStill(
        pictures[IMAGE],
        hint=None if hint is None else read_strokes(hint.image, hint.alpha),
        trimap=pictures[TRIMAP].image[:, :, 1] if TRIMAP in pictures else None,  # any channel
        background=background,
        notes=tuple(collect_notes(pictures)),
    )


def collect_notes(pictures: Mapping[str, Picture]) -> Iterator[str]:
    """Yield what was mended or converted, with the name of the part unless it is the image."""
    for name, picture in pictures.items():
        start = "" if name == IMAGE else f"{name}: "
        yield from (start + change for change in picture.list_changes())


async def add_hint(runtime: Runtime, still: MattedStill, region: Region | None) -> MattedStill:
    """Return a still with the whole hint; raises InvalidOption for one that does not fit."""
    if region is None and still.hint is None:
        return still
    image = still.picture.image
    if still.hint is not None:
        check_shape(HINT, still.hint, image)
    box = None if region is None else find_region(region, image)
    hint = await runtime.workers.run(make_hint, image.shape[:2], box, still.hint)
    return replace(still, hint=hint)


def check_shape(name: str, layer: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Refuse a file beside the image that has another size; raises InvalidOption."""
    if layer.shape != image.shape[:2]:
        sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (layer, image)]
        raise InvalidOption(f"{name} is {sizes[0]} pixels, the image {sizes[1]}")


def check_model(runtime: Runtime, options: ImageOptions, has_trimap: bool) -> None:
    """Refuse a model that is not served, or cannot use the size or the trimap, or lacks one.

    Raises InvalidOption.
    """
    info = runtime.models.choose(options.model).info
    check_ref_size(info, options.ref_size)
    check_refine(runtime, options)
    if has_trimap and not info.takes_trimap:
        raise InvalidOption(
            f"the model `{info.name}` takes no trimap", hint=f"leave out `{TRIMAP}`"
        )
    if info.takes_trimap and not has_trimap:
        raise InvalidOption(
            f"the model `{info.name}` needs a trimap",
            hint=f"send `{TRIMAP}`: black background, white foreground, grey unknown",
        )


def check_refine(runtime: Runtime, options: ImageOptions) -> None:
    """Refuse refine=fine where its extra is missing; raises InvalidOption."""
    if options.refine == "fine":
        runtime.fine.check_installed()


async def load_fine(runtime: Runtime, options: ImageOptions) -> None:
    """Load what refine=fine needs, before anything is done for a picture; raises NotReady."""
    if options.refine == "fine":
        await runtime.fine.load()


def prepare_still(
    runtime: Runtime,
    info: ModelInfo,
    still: MattedStill,
    ref_size: int | None,
    box: Box | None = None,
) -> list[NetworkPicture]:
    """Return the network's input for each pass over a still, and as a picture; the largest last.

    With `box` they show that part of the still. Raises InvalidOption.
    """
    photo, trimap = still.picture.flat, still.trimap
    if trimap is not None:
        check_shape("the trimap", trimap, still.picture.image)
    if box is not None:
        photo = cut(photo, box)
        trimap = None if trimap is None else cut(trimap, box)
    limit = runtime.settings.network_max_megapixels
    return prepare_passes(photo, info, limit, ref_size, trimap)
