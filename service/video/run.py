"""Running one clip on the parts of the app: a child, a thread, the shared network."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.dependencies import Services
from service.inference.batcher import Matte
from service.video.clip import ClipPlan, ClipWatch, MattedClip, Network, matte_clip

FRAME_TIMEOUT_S = 60.0
T = TypeVar("T")


async def run_clip(
    services: Services,
    file: BinaryIO,
    plan: ClipPlan,
    folder: Path,
    watch: ClipWatch,
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
    async with services.decoders.borrow("video") as decoder:
        run = loop.run_in_executor(
            services.videos.threads,
            lambda: matte_clip(
                services.settings, network, decoder, file, plan, folder, watch, stop, max_s=max_s
            ),
        )

        def end() -> None:
            stop.set()
            decoder.kill()

        return await finish(run, on_cancel=end)


async def finish(run: asyncio.Future[T], on_cancel: Callable[[], object] = lambda: None) -> T:
    """Return the result of what a thread does; cancelled, it waits for the thread all the same.

    `on_cancel` tells the thread that nobody needs its result any more.
    """
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([run])
        if not run.cancelled():
            run.exception()  # nobody else will ask, and asyncio would complain
        raise


def connect_network(services: Services) -> Network:
    """Return the shared network for a clip in another thread; called on the event loop."""
    loop = asyncio.get_running_loop()

    def infer(tensor: NDArray[np.float32]) -> Future[Matte]:
        matte = services.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(matte, loop)

    engine = services.engine
    return Network(engine.info, infer, ahead=engine.max_batch_size + 1)
