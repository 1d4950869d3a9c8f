"""Matte, render and encode one still; shared by all image routes."""

import asyncio
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded
from service.gate import Ticket
from service.inference.providers import count_threads
from service.matting.signals import measure_confidence, shows_person
from service.media.wire.apart import apart_s
from service.metrics import StageTimes
from service.runtime import Runtime
from service.stills.encode import Encoded, encode_still
from service.stills.matte import (
    MattedStill,
    StillFiles,
    add_hint,
    decode_still,
    load_fine,
    matte_still,
)
from service.stills.metadata import ResultMetadata
from service.stills.options import Format, ImageOptions
from service.stills.render import FinishedStill, finish_still
from service.stills.result_store import KeptResult, ResultStore
from service.threads import IsLate, TooLate


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
    await load_fine(runtime, options)
    times = StageTimes(runtime.metrics)
    still = await matte_still(runtime, files, options, ticket, times, owner)
    answer = await finish_answer(runtime, still, options, format, times)
    runtime.metrics.frames.labels("image").inc()
    height, width = still.picture.image.shape[:2]
    runtime.access.charge(owner, "megapixels", width * height / 1e6)
    if not options.keep_s:
        return answer
    kept = KeptResult(files.image, still.matte, files.hint, options.region)
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
    await load_fine(runtime, options)
    times = StageTimes(runtime.metrics)
    files = StillFiles(kept.image, background=background, hint=kept.hint)
    with times.measure("decode"):
        still = await decode_still(runtime, files, ticket)
        still = await add_hint(runtime, still, kept.region)
    returns_own = options.existing_alpha == "return" and still.picture.alpha is not None
    matte = None if returns_own else kept.matte
    return await finish_answer(runtime, replace(still, matte=matte), options, format, times)


async def finish_answer(
    runtime: Runtime,
    still: MattedStill,
    options: ImageOptions,
    format: Format,
    times: StageTimes,
) -> Answer:
    """Render and encode a matted image; raises DeadlineExceeded and ImpossibleOutput."""
    deadline_s = time.monotonic() + runtime.settings.request_timeout_s
    # What the matte says by itself needs nothing of the result: another core has it meanwhile.
    signals_come = asyncio.ensure_future(runtime.workers.run(_measure_signals, still.matte))
    try:
        with times.measure("refine"):
            finished, core_s = await runtime.workers.run_until(
                deadline_s, partial(_refine, still, options)
            )
        if options.refine == "fine":
            runtime.gate.observe_fine(core_s / count_threads())
        with times.measure("encode"):
            encoded = await runtime.workers.run_until(
                deadline_s, partial(encode_still, finished, options, format)
            )
        signals = await signals_come
    except TooLate:
        what = "refine=fine" if options.refine == "fine" else "the result"
        raise DeadlineExceeded(
            f"{what} was not done within {runtime.settings.request_timeout_s:g} s",
            hint="ask for a smaller `size`, or for less: refine=fine and wide clean-up take long",
        ) from None
    finally:
        signals_come.cancel()
    height, width = finished.alpha.shape
    model = runtime.models.choose(options.model)
    metadata = ResultMetadata(
        width=width,
        height=height,
        subject=finished.subject,
        confidence=signals and signals[0],
        shows_person=signals and signals[1],
        model=model.info.name if signals else None,
        provider=model.provider if signals else None,
        refine=options.refine if signals and options.refine == "fine" else None,
        timings_ms=times.milliseconds,
        rows_there=still.picture.rows_there,
        notes=still.notes,
    )
    return Answer(encoded, metadata)


def _refine(
    still: MattedStill, options: ImageOptions, is_late: IsLate
) -> tuple[FinishedStill, float]:
    """Return the finished still, and the core-seconds that it took."""
    # The solver has one thread, here or apart; waiting for a core is no cost.
    start_s = time.thread_time() + apart_s.get()
    finished = finish_still(still, options, is_late)
    return finished, time.thread_time() + apart_s.get() - start_s


def _measure_signals(matte: NDArray[np.float32] | None) -> tuple[float, bool] | None:
    """Return how sure the network is, and whether it sees a person; None where it did not run."""
    return None if matte is None else (measure_confidence(matte), shows_person(matte))
