"""`POST /v1/image`: one picture in, one result out."""

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray

from service.dependencies import Services, ServicesDependency
from service.errors import ImpossibleOutput, InvalidOption, MediaLimitExceeded
from service.inference.preprocessing import fit_to_network, resize_alpha
from service.limits import Ticket
from service.matting.composite import composite_over_colour, cut_out, quantise_alpha
from service.media.images import (
    CONTENT_TYPES,
    MAX_JPEG_SIDE,
    MAX_WEBP_SIDE,
    ImageInfo,
    encode_image,
)
from service.media.work import StageTimes
from service.routes.schemas import ImageOptions, describe_upload, parse_options
from service.routes.uploads import read_upload, run_until_disconnect
from service.settings import Settings

router = APIRouter(tags=["image"])
FILE_NAMES = ("file", "image_file", "image")
TRIMAP = "trimap_file"


@router.post(
    "/v1/image",
    summary="Matte one image",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in CONTENT_TYPES.values()}}},
    openapi_extra=describe_upload(ImageOptions, "image", FILE_NAMES, TRIMAP),
)
async def matte_image(request: Request, services: ServicesDependency) -> Response:
    """Take an image (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF) and answer its alpha matte, the person
    cut out, or the person over a colour, at the size of the image."""
    limit = services.settings.image_max_bytes
    async with read_upload(
        request, media="image", names=FILE_NAMES, limit_bytes=limit, extra=(TRIMAP,)
    ) as upload:
        options = parse_options(ImageOptions, upload.options)
        if options.output == "cutout" and options.format == "jpeg":
            raise ImpossibleOutput("JPEG cannot carry alpha", hint="ask for format=png or webp")
        check_trimap(services, TRIMAP in upload.extra)
        run = services.workers.run
        files = [await run(file.read) for file in (upload.file, *upload.extra.values())]
    with services.gate.try_enter() as ticket:
        work = make_result(services, files, options, ticket)
        return await run_until_disconnect(request, services.metrics, work)


async def make_result(
    services: Services, files: list[bytes], options: ImageOptions, ticket: Ticket
) -> Response:
    """Decode, matte and encode one image; `files` are the image and, for a model that takes one,
    its trimap. The stages are those of the metrics."""
    times = StageTimes(services.metrics)
    run = services.workers.run
    pictures: list[NDArray[np.uint8]] = []
    with times.measure("decode"):
        async with services.decoders.borrow("still") as decoder:
            for data in files:
                info = await run(decoder.open_image, data)
                check_size(info, services.settings)
                ticket.add_megapixels(info.megapixels)
                check_format(info, options)
                pictures.append(await run(decoder.decode_image))
        tensor = await run(prepare, services, pictures, options.ref_size)
    image = pictures[0]
    matte = await services.batcher.infer(tensor, timeout_s=services.settings.request_timeout_s)
    times.add("queue", matte.queue_s)
    times.add("inference", matte.inference_s)
    with times.measure("refine"):
        alpha = await run(resize_alpha, matte.alpha, *image.shape[:2])
    with times.measure("encode"):
        body = await run(render, image, alpha, options)
    services.metrics.frames.labels("image").inc()
    headers = {
        "X-Width": str(image.shape[1]),
        "X-Height": str(image.shape[0]),
        "X-Model": services.engine.info.name,
        "X-Provider": services.engine.provider,
        "Server-Timing": times.format_header(),
    }
    return Response(body, headers=headers, media_type=CONTENT_TYPES[options.format])


def check_size(info: ImageInfo, settings: Settings) -> None:
    """Refuse an image over the limits before its pixels are decoded; raises MediaLimitExceeded."""
    longest = max(info.width, info.height)
    size = f"the image is {info.width} x {info.height} pixels"
    if longest > settings.image_max_side:
        raise MediaLimitExceeded(
            f"{size}; the longest side may have {settings.image_max_side}",
            hint="send a smaller image",
            limit=settings.image_max_side,
            actual=longest,
        )
    if info.megapixels > settings.image_max_megapixels:
        raise MediaLimitExceeded(
            f"{size}, {info.megapixels:.1f} megapixels; the limit is "
            f"{settings.image_max_megapixels:g}",
            hint="send a smaller image",
            limit=settings.image_max_megapixels,
            actual=round(info.megapixels, 3),
        )


def check_trimap(services: Services, is_given: bool) -> None:
    """Refuse a trimap that the model cannot use, and a missing one that it needs."""
    info = services.engine.info
    if is_given and not info.takes_trimap:
        raise InvalidOption(
            f"the model `{info.name}` takes no trimap", hint=f"leave out `{TRIMAP}`"
        )
    if info.takes_trimap and not is_given:
        raise InvalidOption(
            f"the model `{info.name}` needs a trimap",
            hint=f"send `{TRIMAP}`: black background, white foreground, grey unknown",
        )


def prepare(
    services: Services, pictures: list[NDArray[np.uint8]], ref_size: int | None
) -> NDArray[np.float32]:
    """Return the network's input for an image and perhaps its trimap; raises InvalidOption."""
    image, *rest = pictures
    trimap = None
    for picture in rest:
        if picture.shape != image.shape:
            sizes = [f"{one.shape[1]} x {one.shape[0]}" for one in (picture, image)]
            raise InvalidOption(f"the trimap is {sizes[0]} pixels, the image {sizes[1]}")
        trimap = picture[:, :, 1]  # grey: any channel
    largest = services.settings.network_max_megapixels
    return fit_to_network(image, services.engine.info, ref_size, largest, trimap)


def check_format(info: ImageInfo, options: ImageOptions) -> None:
    """Refuse a result its format has no room for; raises ImpossibleOutput."""
    most = {"webp": MAX_WEBP_SIDE, "jpeg": MAX_JPEG_SIDE}.get(options.format)
    longest = max(info.width, info.height)
    if most is not None and longest > most:
        raise ImpossibleOutput(
            f"{options.format} holds {most} pixels a side, the image has {longest}",
            hint="ask for format=png",
            limit=most,
            actual=longest,
        )


def render(image: NDArray[np.uint8], alpha: NDArray[np.float32], options: ImageOptions) -> bytes:
    """Return the encoded result that the options ask for."""
    if options.output == "alpha":
        pixels = quantise_alpha(alpha)
    elif options.output == "cutout":
        pixels = cut_out(image, alpha)
    else:
        pixels = composite_over_colour(image, alpha, options.background_rgb)
    return encode_image(
        pixels, options.format, quality=options.quality, compression=options.compression
    )
