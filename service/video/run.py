"""Running one clip on the parts of the app: a child, a thread, the shared network."""

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from service.dependencies import Services
from service.errors import ImpossibleOutput
from service.inference.batcher import Matte
from service.media.video_types import VideoInfo
from service.video.clip import ClipPlan, ClipWatch, MattedClip, Network, matte_clip

FRAME_TIMEOUT_S = 60.0


def refuse_trimap_model(services: Services) -> None:
    """Raise ImpossibleOutput when the network cannot matte a clip."""
    if services.engine.info.takes_trimap:
        raise ImpossibleOutput("the model needs a trimap for each picture, a clip brings none")


def estimate_frames(info: VideoInfo) -> int | None:
    """Return how many frames a clip claims to have, None if it does not say."""
    if info.frames_estimate is None and info.duration_s and info.average_rate:
        return round(info.duration_s * info.average_rate)
    return info.frames_estimate


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

    def infer(tensor: NDArray[np.float32]) -> Future[Matte]:
        matte = services.batcher.infer(tensor, timeout_s=FRAME_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(matte, loop)

    engine = services.engine
    network = Network(engine.info, infer, ahead=engine.max_batch_size + 1)
    async with services.decoders.borrow("video") as decoder:
        run = loop.run_in_executor(
            services.videos.threads,
            lambda: matte_clip(
                services.settings, network, decoder, file, plan, folder, watch, stop, max_s=max_s
            ),
        )
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            stop.set()
            decoder.kill()
            await asyncio.wait([run])
            run.exception()  # looked at, or the loop would log that nobody did
            raise


def describe_clip(services: Services, clip: MattedClip) -> dict[str, Any]:
    """Return the report of a clip for JSON: its own, its size, and what it was matted with."""
    return clip.report.describe(clip.info) | {
        "width": clip.width,
        "height": clip.height,
        "rotation_applied_deg": clip.info.rotation_deg,
        "model": services.engine.info.name,
        "provider": services.engine.provider,
    }
