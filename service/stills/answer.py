"""Matte, render and encode one still; shared by all image routes."""

from dataclasses import dataclass, replace
from functools import partial

from service.gate import Ticket
from service.matting.signals import measure_confidence, shows_person
from service.metrics import StageTimes
from service.runtime import Runtime
from service.stills.encode import Encoded, encode_still
from service.stills.matte import MattedStill, StillFiles, decode_still, matte_still
from service.stills.metadata import ResultMetadata
from service.stills.options import Format, ImageOptions
from service.stills.render import FinishedStill, finish_still
from service.stills.result_store import KeptResult, ResultStore


@dataclass(frozen=True)
class Answer:
    """The encoded result of one still and what is said about it."""

    encoded: Encoded
    metadata: ResultMetadata


async def make_answer(
    runtime: Runtime,
    results: ResultStore,
    files: StillFiles,
    options: ImageOptions,
    format: Format,
    ticket: Ticket,
    owner: str,
) -> Answer:
    """Decode, matte, finish and encode one image, and keep it when the options say so."""
    times = StageTimes(runtime.metrics)
    still = await matte_still(runtime, files, options, ticket, times)
    answer = await _finish(runtime, still, options, format, times)
    runtime.metrics.frames.labels("image").inc()
    height, width = still.picture.image.shape[:2]
    runtime.access.charge(owner, "megapixels", width * height / 1e6)
    if not options.keep_s:
        return answer
    kept = KeptResult(files.image, still.matte)
    result_id = await results.keep(owner, kept, options.keep_s)
    return replace(answer, metadata=replace(answer.metadata, result_id=result_id))


async def rerender_stored(
    runtime: Runtime,
    kept: KeptResult,
    background: bytes | None,
    options: ImageOptions,
    format: Format,
    ticket: Ticket,
) -> Answer:
    """Finish and encode a kept image with other options; the network does not run."""
    times = StageTimes(runtime.metrics)
    files = StillFiles(kept.image, background=background)
    with times.measure("decode"):
        still = await decode_still(runtime, files, ticket)
    returns_own = options.existing_alpha == "return" and still.picture.alpha is not None
    matte = None if returns_own else kept.matte
    return await _finish(runtime, replace(still, matte=matte), options, format, times)


async def _finish(
    runtime: Runtime,
    still: MattedStill,
    options: ImageOptions,
    format: Format,
    times: StageTimes,
) -> Answer:
    run = runtime.workers.run
    with times.measure("refine"):
        finished, signals = await run(_refine, still, options)
    with times.measure("encode"):
        encoded = await run(partial(encode_still, finished, options, format))
    height, width = finished.alpha.shape
    metadata = ResultMetadata(
        width=width,
        height=height,
        subject=finished.subject,
        confidence=signals and signals[0],
        shows_person=signals and signals[1],
        model=runtime.engine.info.name if signals else None,
        provider=runtime.engine.provider if signals else None,
        timings_ms=times.milliseconds,
        rows_there=still.picture.rows_there,
        notes=still.notes,
    )
    return Answer(encoded, metadata)


def _refine(
    still: MattedStill, options: ImageOptions
) -> tuple[FinishedStill, tuple[float, bool] | None]:
    """Return the finished still; and how sure the network is and whether it sees a person."""
    finished = finish_still(still, options)
    if still.matte is None:
        return finished, None
    return finished, (measure_confidence(still.matte), shows_person(still.matte))
