"""`make bench-clip-stages`: core-ms a frame of each stage of a clip beside the network.

All stages run in this process, one after the other, on the frames of a pan over the portrait; the
figures are its CPU time, all threads together, the least of the rounds. `--against FOLDER` measures
another checkout by turns with this one and adds the ratio of the sums.
Prints a Markdown table for RESULTS.md.
"""

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import describe_run
from benchmarks.video import OUTPUTS, SIZES, make_clip
from service.clips.outputs import OUTPUTS as KINDS
from service.clips.outputs import open_writer
from service.frames.network import prepare_frame
from service.frames.render import Renderer, RenderOptions
from service.frames.report import ReportWriter
from service.frames.segment import MattedFrame, PreparedFrame, SegmentState, Smoother
from service.frames.smoothing import OFD_THRESHOLD
from service.inference.engine import OnnxEngine
from service.media.decoder.messages import read_frame, read_video_info
from service.media.video.reader import read_video
from service.media.video.types import VideoFrame, VideoInfo, VideoLimits
from service.media.wire.channel import Channel, ChannelClosed
from service.memory import keep_freed_memory
from service.settings import Settings
from training.evaluation.results import format_table

STAGES = ("read", "input", "smooth", "refine", "compose", "write")
WARM_UP = 4  # frames
LIMITS = VideoLimits(max_frames=10_000, max_duration_s=1000, max_frame_megapixels=50, max_side=8192)


class Stages:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start_s = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start_s


def read_clip(path: Path) -> tuple[VideoInfo, list[VideoFrame]]:
    """Return what a decoder child sends of a clip, through the channel that it sends it by."""
    ours, theirs = socket.socketpair()
    receiver, sender = Channel(ours), Channel(theirs)

    def send() -> None:
        with path.open("rb") as file:
            for item in read_video(file, LIMITS):
                if isinstance(item, VideoInfo):
                    sender.send(item.to_wire())
                elif isinstance(item, VideoFrame):
                    sender.send(*item.to_wire())
        sender.close()

    thread = threading.Thread(target=send)
    thread.start()
    header, _, _ = receiver.receive(max_payload_bytes=0)
    info = read_video_info(header)
    frames = []
    with contextlib.suppress(ChannelClosed):
        while True:
            header, payload, _ = receiver.receive(max_payload_bytes=info.width * info.height * 4)
            frames.append(read_frame(header, payload))
    thread.join()
    receiver.close()
    return info, frames


def matte_frames(engine: OnnxEngine, frames: list[VideoFrame], stages: Stages) -> list[MattedFrame]:
    """Return the frames with their mattes; the network itself is not measured."""
    matted: list[MattedFrame] = []
    smoother = Smoother(OFD_THRESHOLD, SegmentState(), matted.append, ReportWriter())
    limit = Settings().network_max_megapixels
    for frame in frames:
        with stages.measure("input"):
            tensor, network_image = prepare_frame(
                frame.planes or frame.flat, engine.info, None, limit
            )
        (alpha,) = engine.run(tensor[None])
        with stages.measure("smooth"):
            smoother.add(PreparedFrame(frame, network_image), alpha)
    smoother.finish()
    return matted


def measure_clip(engine: OnnxEngine, path: Path) -> dict[str, dict[str, float]]:
    """Return core-ms a frame by output and stage."""
    shared = Stages()
    with shared.measure("read"):
        info, frames = read_clip(path)
    matted = matte_frames(engine, frames, shared)
    renderer = Renderer(RenderOptions(), info.height, info.width)
    for item in matted[:WARM_UP]:  # a process that has been running has its memory already
        _ = renderer.render(item).draw("composite")
    found = {}
    for name in OUTPUTS:
        stages = Stages()
        with tempfile.TemporaryDirectory() as folder:
            writer = open_writer(name, Path(folder), info, crf=20, preset="veryfast")
            for item in matted:
                rendered = renderer.render(item)
                with stages.measure("refine"):
                    _ = rendered.alpha
                with stages.measure("compose"):
                    picture = rendered.draw(KINDS[name].picture)
                with stages.measure("write"):
                    writer.write_frame(picture, item.frame.pts, item.frame.duration)
            with stages.measure("write"):
                writer.close()
        total = shared.seconds + stages.seconds
        found[name] = {stage: total[stage] * 1000 / len(matted) for stage in STAGES}
    return found


def measure_once(frames: int) -> dict[str, dict[str, float]]:
    """Return core-ms a frame by clip and output, and by stage."""
    keep_freed_memory()  # as a service does
    engine = OnnxEngine(Settings(device="cpu"))
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            path = make_clip(Path(folder) / f"{name}.mp4", frames, size)
            for output, stages in measure_clip(engine, path).items():
                rows[f"{name} {output}"] = stages
    return rows


def take_turns(
    checkouts: list[Path], frames: int, rounds: int
) -> list[dict[str, dict[str, float]]]:
    """Return for each checkout the least of the rounds, each in a process of its own."""
    best: list[dict[str, dict[str, float]]] = [{} for _ in checkouts]
    command = [sys.executable, "-m", "benchmarks.clip_stages", "--json", f"--frames={frames}"]
    for _ in range(rounds):
        for checkout, rows in zip(checkouts, best, strict=True):
            done = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE)
            for row, stages in json.loads(done.stdout).items():
                least = rows.setdefault(row, stages)
                rows[row] = {stage: min(ms, least[stage]) for stage, ms in stages.items()}
    return best


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-clip-stages", description=__doc__)
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
    parser.add_argument("--against", type=Path, help="another checkout, measured by turns")
    parser.add_argument("--json", action="store_true", help="measure once, print JSON")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(measure_once(options.frames)))
        return
    checkouts = [Path.cwd(), *([options.against] if options.against else [])]
    here, *before = take_turns(checkouts, options.frames, options.rounds)
    titles = ["core-ms a frame", *STAGES, "sum"]
    rows = []
    for row, stages in here.items():
        values = [*stages.values(), sum(stages.values())]
        texts = [row, *(f"{value:.1f}" for value in values)]
        for other in before:
            sum_before = sum(other[row].values())
            texts += [f"{sum_before:.1f}", f"{values[-1] / sum_before:.2f}"]
        rows.append(texts)
    print(f"### {describe_run('make bench-clip-stages')}\n")
    print(format_table([*titles, *(["before", "ratio"] if before else [])], rows))


if __name__ == "__main__":
    main()
