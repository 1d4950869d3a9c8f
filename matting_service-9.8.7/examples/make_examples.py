"""Make `portrait.jpg` and `clip.mp4`, the files that the examples of the documents send.

python examples/make_examples.py

Both show the astronaut Eileen Collins, a photo of NASA in the public domain that comes with
scikit-image; the clip moves over it and back, with a quiet tone.
"""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image
from skimage import data

HERE = Path(__file__).parent
LEFT, TOP, SIDE = 60, 0, 340  # head and shoulders
CLIP_SIDE, FPS, SECONDS, SWAY = 320, 15, 2, 20
SAMPLE_RATE, TONE_HZ, LOUDNESS = 48_000, 330, 0.05


def make_frame(photo: np.ndarray, time: float) -> np.ndarray:
    """Return the picture at `time`, 0 to 1: (CLIP_SIDE, CLIP_SIDE, 3) uint8 RGB."""
    left = LEFT + SWAY / 2 + SWAY * np.sin(2 * np.pi * time)
    zoom = 1 + 0.04 * np.sin(np.pi * time)
    matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -TOP]])
    return cv2.warpAffine(photo, matrix, (CLIP_SIDE, CLIP_SIDE), flags=cv2.INTER_AREA)


def make_tone() -> av.AudioFrame:
    """Return the sound of the whole clip: a tone that comes and goes."""
    time_s = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    wave = LOUDNESS * np.sin(np.pi * time_s / SECONDS) * np.sin(2 * np.pi * TONE_HZ * time_s)
    frame = av.AudioFrame.from_ndarray(wave[np.newaxis].astype(np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    return frame


def write_clip(path: Path, photo: np.ndarray) -> None:
    """Write the clip: H.264 and AAC in an MP4."""
    count = FPS * SECONDS
    with av.open(str(path), "w", options={"movflags": "faststart"}) as clip:
        video = clip.add_stream("libx264", rate=FPS, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = CLIP_SIDE, CLIP_SIDE, "yuv420p"
        audio = clip.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index in range(count):
            picture = make_frame(photo, index / count)
            clip.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        clip.mux(video.encode(None))
        clip.mux(audio.encode(make_tone()))
        clip.mux(audio.encode(None))


def main() -> None:
    photo = data.astronaut()
    part = photo[TOP : TOP + SIDE, LEFT : LEFT + SIDE]
    Image.fromarray(part).save(HERE / "portrait.jpg", quality=95)
    write_clip(HERE / "clip.mp4", photo)


if __name__ == "__main__":
    main()
