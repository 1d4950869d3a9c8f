"""`POST /v1/image`, and rendering a kept result again with other options."""

from fastapi import APIRouter, Request, Response

from service.api.dependencies import ResultsDependency, RuntimeDependency
from service.api.disconnect import run_until_disconnect
from service.api.fetched import read_file
from service.api.negotiation import choose_format
from service.api.openapi import describe_upload
from service.api.routes.image_batch import answer_batch
from service.api.uploads import Accepted, Upload, read_upload
from service.errors import InvalidOption
from service.media.image.writer import CONTENT_TYPES
from service.options import BACKGROUND, HINT, TRIMAP, check_background_file, parse_options
from service.runtime import Runtime
from service.stills.answer import Answer, make_answer, rerender_stored
from service.stills.encode import JSON_TYPE, ZIP_TYPE, pack
from service.stills.matte import StillFiles, check_model, check_refine
from service.stills.options import Format, ImageOptions

router = APIRouter(tags=["image"])
FILE_NAMES = ("file", "image_file", "image")
ANSWERS: dict[str, dict[str, str]] = {
    kind: {} for kind in (*CONTENT_TYPES.values(), ZIP_TYPE, JSON_TYPE)
}
# What the network has done cannot be asked for again, and a result is kept once.
NOT_AGAIN = ("model", "ref_size", "keep_s", "roi")
EXAMPLES: dict[str, dict[str, str]] = {
    "The alpha matte": {},
    "The person cut out, half the bytes": {"output": "cutout", "format": "webp"},
    "Over a colour": {"output": "composite", "background": "teal", "format": "jpeg"},
    "Background out of focus": {"output": "composite", "background": "blur"},
    "Cut out with its shadow": {"output": "cutout", "shadow": "soft"},
    "Passport photo": {
        "output": "composite",
        "crop": "true",
        "crop_margin": "10%",
        "size": "600x800",
        "format": "jpeg",
        "quality": "95",
    },
    "Preview with hard edges": {"size": "preview", "threshold": "0.5", "keep_largest": "true"},
    "Colour and alpha for an editor": {"output": "bundle"},
    "Everything in JSON": {"output": "cutout", "format": "json", "keep_s": "600"},
}
AGAIN = {title: values for title, values in EXAMPLES.items() if "keep_s" not in values}


@router.post(
    "/v1/image",
    summary="Matte images",
    response_class=Response,
    responses={200: {"content": ANSWERS}},
    openapi_extra=describe_upload(
        ImageOptions,
        "image",
        FILE_NAMES,
        TRIMAP,
        BACKGROUND,
        HINT,
        takes_json=True,
        takes_url=True,
        examples=EXAMPLES,
    ),
)
async def matte_image(
    request: Request, runtime: RuntimeDependency, results: ResultsDependency
) -> Response:
    """Take an image and answer its alpha matte, the person cut out, or the person before another
    background. Several `file` parts are answered by a ZIP in their order, with `report.json`."""
    settings = runtime.settings
    accepted = Accepted(
        media="image",
        names=FILE_NAMES,
        limit_bytes=settings.image_max_bytes,
        extra=(TRIMAP, BACKGROUND, HINT),
        most=settings.batch_max_files,
        takes_json=True,
        takes_url=True,
    )
    async with read_file(request, accepted) as upload:
        options = parse_options(ImageOptions, upload.options)
        check_background_file(options, BACKGROUND, upload.extra)
        check_model(runtime, options, TRIMAP in upload.extra)
        if len(upload.files) > 1:
            work = answer_batch(runtime, results, upload, options, request.scope["owner"])
            return await run_until_disconnect(
                request,
                work,
                timeout_s=settings.request_timeout_s * len(upload.files),
            )
        format = choose_format(options, request.headers.get("accept"))
        files = await read_files(runtime, upload)
    with runtime.gate.try_enter(request.scope["owner"], is_fine=options.refine == "fine") as ticket:
        making = make_answer(
            runtime, results, files, options, format, ticket, request.scope["owner"]
        )
        answer = await run_until_disconnect(
            request, making, timeout_s=runtime.settings.request_timeout_s
        )
    return await respond(runtime, answer, format)


@router.post(
    "/v1/image/{result_id}",
    summary="Render a kept result with other options",
    response_class=Response,
    responses={200: {"content": ANSWERS}},
    openapi_extra=describe_upload(
        ImageOptions,
        "image",
        (),
        BACKGROUND,
        leave_out=NOT_AGAIN,
        takes_json=True,
        examples=AGAIN,
    ),
)
async def rerender_image(
    request: Request, runtime: RuntimeDependency, results: ResultsDependency, result_id: str
) -> Response:
    """Answer an image that was sent with `keep_s` once more, with other output options and without
    running the network."""
    accepted = Accepted("image", (), runtime.settings.image_max_bytes, (BACKGROUND,), 0, True)
    async with read_upload(request, accepted) as upload:
        options = parse_options(ImageOptions, upload.options)
        for name in NOT_AGAIN:
            if options.is_changed(name):
                raise InvalidOption(
                    f"{name} cannot change for a kept result", hint="send the image again"
                )
        check_background_file(options, BACKGROUND, upload.extra)
        check_refine(runtime, options)
        format = choose_format(options, request.headers.get("accept"))
        background = await read_extra(runtime, upload, BACKGROUND)
    kept = await results.load(request.scope["owner"], result_id)
    if kept.matte is None:
        if options.existing_alpha != "return" and options.is_changed("existing_alpha"):
            raise InvalidOption(
                "the network never saw this image, its own alpha was returned",
                hint="send the image again, or leave out existing_alpha",
            )
        options = options.model_copy(update={"existing_alpha": "return"})
    with runtime.gate.try_enter(request.scope["owner"], is_fine=options.refine == "fine") as ticket:
        making = rerender_stored(runtime, kept, background, options, format, ticket)
        answer = await run_until_disconnect(
            request, making, timeout_s=runtime.settings.request_timeout_s
        )
    return await respond(runtime, answer, format)


async def read_files(runtime: Runtime, upload: Upload) -> StillFiles:
    """Return the bytes of a request with one image."""
    return StillFiles(
        await runtime.files.run(upload.file.read),
        await read_extra(runtime, upload, TRIMAP),
        await read_extra(runtime, upload, BACKGROUND),
        await read_extra(runtime, upload, HINT),
    )


async def read_extra(runtime: Runtime, upload: Upload, name: str) -> bytes | None:
    """Return the bytes of a file that may have come beside the image."""
    file = upload.extra.get(name)
    return None if file is None else await runtime.files.run(file.read)


async def respond(runtime: Runtime, answer: Answer, format: Format) -> Response:
    """Return the HTTP response of an answer."""
    body, content_type = await runtime.workers.run(pack, answer.encoded, answer.metadata, format)
    headers = answer.metadata.to_headers() | {"Vary": "Accept"}
    return Response(body, headers=headers, media_type=content_type)
