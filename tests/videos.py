"""Asking for matted clips, and reading what came."""

import io
import zipfile
from pathlib import Path

import av
import numpy as np

from service.jobs.rows.store import FOLDER
from tests.helpers import decode


class Clip:
    """What a file holds: exact times of its frames, their pictures, bytes of its sound."""

    def __init__(self, content: bytes) -> None:
        self.times, self.images, self.sound = [], [], []
        with av.open(io.BytesIO(content)) as container:
            for packet in container.demux():
                if packet.stream.type == "audio" and packet.size:
                    self.sound.append(bytes(packet))
                if packet.stream.type == "video":
                    for frame in packet.decode():
                        self.times.append(frame.pts * frame.time_base)
                        self.images.append(frame.to_ndarray(format="rgb24"))
            video = container.streams.video[0]
            self.codec = video.codec_context.name
            self.duration = (video.duration or 0) * video.time_base


def post(client, content: bytes, extra: dict[str, bytes] | None = None, **options: object):
    """Send a clip, further files by part name, options in the query."""
    files = {"file": ("clip.mp4", content), **(extra or {})}
    return client.post("/v1/video", params=options, files=files)


def read_cutouts(content: bytes) -> list[np.ndarray]:
    """Return the RGBA pictures, (H, W, 4) uint8, of a WebM, a MOV or a ZIP of PNGs."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            return [decode(archive.read(name)) for name in names]
    with av.open(io.BytesIO(content)) as container:
        video = container.streams.video[0]
        decoder = video.codec_context
        if decoder.name == "vp9":  # FFmpeg's own drops alpha
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [packet for packet in container.demux(video) if packet.size]
        frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
        return [_read_cutout(frame) for frame in frames]


def _read_cutout(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.name != "yuva420p":
        assert frame.format.name.startswith("yuva")
        return frame.to_ndarray(format="rgba")
    # The library's own conversion leaves garbage in the last columns of alpha.
    plane = frame.planes[3]
    alpha = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return np.dstack([frame.to_ndarray(format="rgb24"), alpha[:, : plane.width]])


def list_leftovers(data_dir: Path) -> list[Path]:
    """Return the files in a data folder besides the jobs and the locks of folders."""
    files = [path for path in data_dir.rglob("*") if path.is_file() and path.name != "lock"]
    return [path for path in files if path.relative_to(data_dir).parts[0] != FOLDER]
