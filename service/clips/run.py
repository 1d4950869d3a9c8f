"""Run one clip: borrow a decoder and a slot, matte in a thread, cancel cleanly."""

import threading
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from service.clips.join import matte_in_segments
from service.clips.matte import MattedClip, ProgressCallbacks, matte_clip
from service.clips.outputs import OUTPUTS
from service.clips.plan import ClipPlan
from service.clips.segments import DistributedClip, SegmentRunner
from service.clips.slots import VideoSlots
from service.frames.background_clip import BackgroundClip
from service.frames.network import FrameNetwork
from service.inference.fair_queue import Caller
from service.inference.registry import Model
from service.runtime import Runtime
from service.telemetry.record import trace_stage
from service.threads import start_in, wait_for_thread

# Members of the report that are there only if something was changed or missing.
TOLD = (
    "converted_from_bits",
    "interlaced",
    "deinterlaced",
    "tone_mapped_from",
    "gamut_converted_from",
    "square_pixels",
    "sound_converted_from",
    "sound_mixed_down_from",
    "frames_lost",
    "frames_damaged",
    "clock_corrections",
    "frames_resized",
    "frames_fitted",
    "frames_combed",
    "colour_changes",
    "audio_packets_lost",
    "audio_changes",
    "audio_tracks_lost",
    "ends_early_s",
    "cut_short",
    "video_tracks_unread",
    "clips_unread",
    "places_damaged",
    "turn_ignored_deg",
    "background_changes",
)
T = TypeVar("T")


async def run_clip(
    runtime: Runtime,
    slots: VideoSlots,
    model: Model,
    file: BinaryIO,
    plan: ClipPlan,
    folder: Path,
    watch: ProgressCallbacks,
    *,
    max_s: float,
    runner: SegmentRunner | None = None,
    owner: str = "",
) -> MattedClip:
    """Matte a clip into files in `folder`, in a thread of `slots`, or in segments by `runner`.

    A recurrent network needs each frame after the other, and animations are one file: such clips
    are matted here in one piece.
    The caller holds a place of `slots`. When this returns or raises, cancelled too, the
    thread has ended. Raises what `matte_clip` raises.
    """
    stop = threading.Event()
    await model.load()
    caller = Caller("clip", owner)
    region = plan.render_options.region
    network = FrameNetwork(runtime.settings, model, plan.ref_size, region, caller)
    async with AsyncExitStack() as stack:
        stack.enter_context(trace_stage("clip"))
        decoder = await stack.enter_async_context(runtime.decoders.borrow("video"))
        background = None
        is_joinable = all(OUTPUTS[name].is_joinable for name in plan.outputs)
        if runner is not None and is_joinable and not model.info.is_recurrent:
            clip = DistributedClip(runtime.settings, model.info.name, plan, file)
            matting = partial(matte_in_segments, runner, clip, decoder, folder, watch, stop)
        else:
            if isinstance(plan.render_options.background, BackgroundClip):
                background = await stack.enter_async_context(runtime.decoders.borrow("background"))
            matting = partial(
                matte_clip,
                runtime.settings,
                network,
                decoder,
                file,
                plan,
                folder,
                watch,
                stop,
                background_decoder=background,
            )
        run = start_in(slots.threads, matting, max_s=max_s)

        def end() -> None:
            stop.set()
            for child in (decoder, background):
                if child is not None:
                    child.kill()

        start_s = time.perf_counter()
        matted = await wait_for_thread(run, on_cancel=end)
        runtime.metrics.clip_work_s.inc(time.perf_counter() - start_s)
        runtime.metrics.clip_s.inc(matted.duration_s)
        return matted


def describe_clip(model: Model, clip: MattedClip) -> dict[str, Any]:
    """Return the report of a clip for JSON: its own, its size, and what it was matted with.

    What was changed on the way is told where it is so: rows and columns added, bits cut, fields
    left in one picture or taken apart, colours converted, audio encoded anew, and what had to be
    repaired in the clip (see Repairs).
    """
    info = clip.info
    layouts = sorted({track.mixed_from for track in info.audio if track.mixed_from})
    codecs = sorted({track.reencoded_from for track in info.audio if track.reencoded_from})
    changed = {
        "padding": list(clip.padded) if any(clip.padded) else None,
        **info.describe_changes(),
        "square_pixels": clip.is_stretched or None,
        "sound_converted_from": codecs or None,
        "sound_mixed_down_from": layouts or None,
        **clip.repairs.describe(),
        "background_changes": dict(clip.background_changes) or None,
    }
    return (
        clip.report.describe(info)
        | {
            "width": clip.width,
            "height": clip.height,
            "rotation_applied_deg": info.rotation_deg,
            "model": model.info.name,
            "provider": model.provider,
        }
        | {name: value for name, value in changed.items() if value is not None}
    )
