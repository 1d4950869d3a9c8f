"""Running one clip on the parts of the app: a child, a thread, the shared network."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.api.dependencies import Services
from service.clips.matte import ClipPlan, MattedClip, Network, ProgressCallbacks, matte_clip
from service.errors import ImpossibleOutput
from service.frames.background_clip import BackgroundClip
from service.inference.batcher import Matte

FRAME_TIMEOUT_S = 60.0
T = TypeVar("T")


def refuse_trimap_model(services: Services) -> None:
    """Raise ImpossibleOutput when the network cannot matte a clip."""
    if services.engine.info.takes_trimap:
        raise ImpossibleOutput("the model needs a trimap for each picture, a clip brings none")


async def run_clip(
    services: Services,
    file: BinaryIO,
    plan: ClipPlan,
    folder: Path,
    watch: ProgressCallbacks,
    *,
    max_s: float,
) -> MattedClip:
    """Matte a clip into files in `folder`, in a thread of `services.videos`.

    The caller holds a place of `services.videos`. When this returns or raises, cancelled too, the
    thread has ended. Raises what `matte_clip` raises.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    network = connect_network(services)
    async with AsyncExitStack() as stack:
        decoder = await stack.enter_async_context(services.decoders.borrow("video"))
        behind = None
        if isinstance(plan.render_options.background, BackgroundClip):
            behind = await stack.enter_async_context(services.decoders.borrow("background"))
        run = loop.run_in_executor(
            services.videos.threads,
            lambda: matte_clip(
                services.settings,
                network,
                decoder,
                file,
                plan,
                folder,
                watch,
                stop,
                max_s=max_s,
                behind=behind,
            ),
        )

        def end() -> None:
            stop.set()
            for child in (decoder, behind):
                if child is not None:
                    child.kill()

        return await finish(run, on_cancel=end)


async def finish(
    work: Coroutine[Any, Any, T] | asyncio.Future[T],
    on_cancel: Callable[[], object] = lambda: None,
) -> T:
    """Return the result of what a thread does; cancelled, it waits for the thread all the same.

    `on_cancel` tells the thread that nobody needs its result any more.
    """
    run = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        on_cancel()
        while not run.done():  # whoever cancels a second time waits, too
            with suppress(asyncio.CancelledError):
                await asyncio.wait([run])
        if not run.cancelled():
            run.exception()  # nobody else will look at it
        raise


def connect_network(services: Services) -> Network:
    """Return the shared network for a clip in another thread; called on the event loop."""
    loop = asyncio.get_running_loop()

    def infer(tensor: NDArray[np.float32]) -> Future[Matte]:
        matte = services.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(matte, loop)

    engine = services.engine
    return Network(engine.info, infer, ahead=engine.max_batch_size + 1)


def describe_clip(services: Services, clip: MattedClip) -> dict[str, Any]:
    """Return the report of a clip for JSON: its own, its size, and what it was matted with.

    What was changed on the way is told where it is so: rows and columns added, bits cut, fields
    left in one picture, audio encoded anew.
    """
    info = clip.info
    codecs = sorted({track.reencoded_from for track in info.audio if track.reencoded_from})
    changed = {
        "padding": list(clip.padded) if any(clip.padded) else None,
        "converted_from_bits": info.bit_depth if info.bit_depth > 8 else None,
        "interlaced": info.interlaced or None,
        "sound_converted_from": codecs or None,
    }
    return (
        clip.report.describe(info)
        | {
            "width": clip.width,
            "height": clip.height,
            "rotation_applied_deg": info.rotation_deg,
            "model": services.engine.info.name,
            "provider": services.engine.provider,
        }
        | {name: value for name, value in changed.items() if value is not None}
    )
