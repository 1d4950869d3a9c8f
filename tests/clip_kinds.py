"""Makers of clips that are not as they should be, each of one kind."""

import io
import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from PIL import Image

from tests.clips import SAMPLE_RATE, make_clip, picture, tone_frame


def write_pictures(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    prepare: Callable[[object], None] = lambda stream: None,
) -> Path:
    """Write pictures, (H, W, 3) RGB or (H, W, 4) RGBA, as a clip without audio.

    `prepare` sets up the stream before it begins.
    """
    images = list(images)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        clock = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
        stream.codec_context.time_base = clock
        prepare(stream)
        for index, image in enumerate(images):
            layout = "rgb24" if image.shape[2] == 3 else "rgba"
            frame = av.VideoFrame.from_ndarray(image, layout)
            frame = frame.reformat(format=pix_fmt)
            frame.pts = index if times_ms is None else times_ms[index]
            frame.time_base = clock
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def flat(colour: Sequence[int], size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """Return a picture (H, W, 3) of one colour for `size` (W, H)."""
    return np.full((size[1], size[0], 3), colour, np.uint8)


def make_motion_jpeg(path: Path, *orientations: int) -> Path:
    """Write JPEGs with an EXIF orientation each as Motion JPEG in MOV, their bytes untouched."""
    exif = Image.Exif()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=15)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        stream.codec_context.open()
        for index, orientation in enumerate(orientations):
            data = io.BytesIO()
            exif[0x0112] = orientation
            Image.fromarray(picture(index, (96, 64))).save(data, "JPEG", exif=exif, quality=95)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 15)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            out.mux(packet)
    return path


def copy_packets(
    source: Path, target: Path, change: Callable[[av.Packet], bool], format: str | None = None
) -> Path:
    """Copy a clip packet by packet; `change` may change one, and says whether it is kept."""
    with av.open(str(source)) as file, av.open(str(target), "w", format=format) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in file.streams}
        for packet in file.demux():
            if packet.size and change(packet):
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target


def damage(source: Path, target: Path, index: int, size: int = 0) -> Path:
    """Overwrite packet `index` of the picture, or `size` bytes from it on, with zeros."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    position = packets[index].pos
    data[position : position + (size or packets[index].size)] = bytes(size or packets[index].size)
    target.write_bytes(bytes(data))
    return target


def make_audio_change(
    path: Path, layouts: Sequence[str], *, codec: str = "ac3", rates: Sequence[int] = ()
) -> Path:
    """Write a TS of pieces of a second each, whose audio has another layout or rate in each."""
    joined = b""
    for number, layout in enumerate(layouts):
        rate = rates[number] if rates else SAMPLE_RATE
        piece = path.with_name(f"piece{number}.ts")
        with av.open(str(piece), "w", format="mpegts") as out:
            video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            sound = out.add_stream(codec, rate=rate)
            sound.codec_context.layout = layout
            channels = av.AudioLayout(layout).nb_channels
            for index in range(25):
                frame = av.VideoFrame.from_ndarray(picture(index, (96, 64)), "rgb24")
                frame.pts, frame.time_base = number * 25 + index, Fraction(1, 25)
                out.mux(video.encode(frame))
            step = rate // 25
            for index in range(25):
                tone = tone_frame(index * SAMPLE_RATE // 25, step).to_ndarray()[0, ::2]
                samples = np.repeat(tone, channels).reshape(1, -1)
                chunk = av.AudioFrame.from_ndarray(samples, "s16", layout)
                chunk.sample_rate, chunk.time_base = rate, Fraction(1, rate)
                chunk.pts = number * rate + index * step
                out.mux(sound.encode(chunk))
            for stream in (video, sound):
                out.mux(stream.encode(None))
        joined += piece.read_bytes()
    path.write_bytes(joined)
    return path


def make_custom_layout(path: Path) -> Path:
    """Write a MOV with 5.1 PCM in the order L C R Ls Rs LFE; only the centre is loud."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=SAMPLE_RATE)
        sound.codec_context.layout = "5.1"
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture(index, (96, 64)), "rgb24")
            frame.pts = index
            out.mux(video.encode(frame))
        samples = np.zeros((SAMPLE_RATE, 6), np.int16)
        samples[:, 1] = tone_frame(0, SAMPLE_RATE).to_ndarray()[0, ::2]
        chunk = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "5.1")
        chunk.sample_rate, chunk.pts = SAMPLE_RATE, 0
        out.mux(sound.encode(chunk))
        for stream in (video, sound):
            out.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    place = data.index(b"chan") + 8
    data[place : place + 4] = (123 << 16 | 6).to_bytes(4)  # kAudioChannelLayoutTag_MPEG_5_1_C
    path.write_bytes(bytes(data))
    return path


def make_gif(path: Path) -> Path:
    """Write a GIF of two frames whose right half is transparent, over a hidden colour."""
    pictures = []
    for red in (200, 120):
        image = np.zeros((64, 96, 4), np.uint8)
        image[:, :48] = (red, 40, 30, 255)
        pictures.append(Image.fromarray(image))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    return path


def make_alpha_webm(path: Path, frames: int = 4) -> Path:
    """Write a VP9 WebM with alpha, as the service does: the right half is transparent."""
    image = np.zeros((64, 96, 4), np.uint8)
    image[:, :48] = (200, 40, 30, 255)
    image[:, 48:] = (30, 200, 40, 0)

    def prepare(stream) -> None:
        stream.metadata["alpha_mode"] = "1"

    options = {"auto-alt-ref": "0", "crf": "10", "b": "0"}
    return write_pictures(
        path,
        [image] * frames,
        codec="libvpx-vp9",
        pix_fmt="yuva420p",
        options=options,
        prepare=prepare,
    )


def make_still_heic(path: Path) -> Path:
    """Write the boxes of a HEIF picture: `ftyp`, `meta`, `mdat`, and no `moov`."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack("!I4s", 8 + len(content), kind) + content

    head = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")
    path.write_bytes(head + box(b"meta", bytes(64)) + box(b"mdat", bytes(256)))
    return path


def grow(path: Path) -> Path:
    """Write a VP8 WebM whose header says 192 x 128, and whose first half has 96 x 64."""
    small = make_clip(path.with_name("small.webm"), codec="libvpx", seconds=0.2, tone=False)
    large = make_clip(
        path.with_name("large.webm"), codec="libvpx", seconds=0.2, tone=False, size=(192, 128)
    )
    with av.open(str(path), "w", format="webm") as out, av.open(str(large)) as second:
        stream = out.add_stream_from_template(second.streams.video[0])
        shift = 0
        for name in (small, large):
            with av.open(str(name)) as source:
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        out.mux(packet)
            shift += 200
    return path


def tag(
    primaries: int, transfer: int, matrix: int, range: ColorRange = ColorRange.MPEG
) -> Callable[[object], None]:
    """Return what states a colour in a stream."""

    def prepare(stream) -> None:
        context = stream.codec_context
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, range

    return prepare


def make_labelled(path: Path) -> None:
    """Write an MKV of a second with two audio tracks, titles, flags, chapters, date and place."""
    flags = av.stream.Disposition
    with av.open(str(path), "w") as out:
        out.metadata.update(title="Holiday", creation_time="2024-05-06T07:08:09Z")
        out.metadata["location"] = "+48.1+011.5/"
        clock = Fraction(1, 1000)
        parts = [(1, 0, 500, "One"), (2, 500, 1000, "Two")]
        out.set_chapters(
            [
                {
                    "id": number,
                    "start": start,
                    "end": end,
                    "time_base": clock,
                    "metadata": {"title": title},
                }
                for number, start, end, title in parts
            ]
        )
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sounds = []
        for language, title, flag in (("eng", "Main", "default"), ("deu", "Director", "comment")):
            sound = out.add_stream("aac", rate=SAMPLE_RATE)
            sound.metadata.update(language=language, title=title)
            sound.disposition = flags[flag]
            sounds.append(sound)
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture(index, (96, 64)), "rgb24")
            frame.pts = index
            out.mux(video.encode(frame))
            for sound in sounds:
                out.mux(sound.encode(tone_frame(index * 1920, 1920)))
        for stream in (video, *sounds):
            out.mux(stream.encode(None))
