"""Asking for matted clips, and reading what came."""

import io
from pathlib import Path

import av

from service.video.job_store import FOLDER


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


def list_leftovers(data_dir: Path) -> list[Path]:
    """Return what is in a data folder besides the jobs."""
    return [path for path in data_dir.iterdir() if path.name != FOLDER]
