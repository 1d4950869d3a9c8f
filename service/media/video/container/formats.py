"""Which kinds of files are read as clips; the others are refused by their name."""

from typing import BinaryIO

from service.media.video.container.boxes import read_box

CONTAINERS = ("mp4", "mov", "matroska", "webm", "mpegts", "avi", "flv", "gif")
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,gif,avi,flv"  # FFmpeg's names
READ = "MP4, MOV, WebM, MKV, MPEG-TS, AVI, FLV or GIF"
_HEAD_BYTES = 4096
_WEBP_ANIMATION = 2
_MAX_BOXES = 64
TS_MARK, _LEAST_TS_PACKETS = 0x47, 4
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # size, and where in it its mark is
# How kinds that are not read begin, and their names.
_OTHERS = (
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file (ASF, WMV)"),
    (b"\x00\x00\x01\xba", "an MPEG program stream (MPG, VOB)"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "an MXF file"),
    (b"OggS", "an Ogg file"),
    (b".RMF", "a RealMedia file"),
    (b"DKIF", "an IVF file"),
    (b"YUV4MPEG2", "a raw Y4M file"),
    (b"nut/multimedia container", "a NUT file"),
    (b"\x00\x00\x01\xb3", "a bare MPEG video stream without a container"),
    (b"\x00\x00\x00\x01", "a bare H.264 or H.265 stream without a container"),
)
_PICTURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"8BPS", "a Photoshop picture"),
)


# What is no clip at all.
_NO_CLIPS = (
    (0, b"ID3", "an audio file (MP3)"),
    (0, b"\xff\xfb", "an audio file (MP3)"),
    (8, b"WAVE", "an audio file (WAV)"),
    (0, b"fLaC", "an audio file (FLAC)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
)


def find_refusal(file: BinaryIO) -> str | None:
    """Return why a file is not read as a clip, with what to do; None when it may be one.

    Looks at the first bytes and, in files of boxes (ISO 14496-12), at the kinds of the boxes; the
    file is at its start again.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    name = _name_picture(head, file)
    file.seek(0)
    if name is not None and _is_animated(head):
        return (
            f"The file is {name} that moves, which is not read as a clip; convert it to GIF or "
            "MP4. /v1/image takes its first frame."
        )
    if name is not None:
        return f"The file is {name}, not a video; send it to /v1/image."
    for at, magic, name in _NO_CLIPS:
        if head[at : at + len(magic)].lower() == magic.lower():
            return f"The file is {name}, not a video; read are {READ}."
    for magic, name in _OTHERS:
        if head.startswith(magic):
            return (
                f"The file is {name}; read are {READ}. Most can be put into an MKV without "
                "coding them anew: ffmpeg -i in -c copy out.mkv"
            )
    return None


def _name_picture(head: bytes, file: BinaryIO) -> str | None:
    if head[4:8] == b"ftyp":
        kinds = _list_boxes(file)
        is_still = b"meta" in kinds and not kinds & {b"moov", b"moof"}
        return "a HEIC or AVIF picture" if is_still else None
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP picture"
    return next((name for magic, name in _PICTURES if head.startswith(magic)), None)


def _is_animated(head: bytes) -> bool:
    """Say whether the beginning of a PNG or WebP says that there are several pictures."""
    if head.startswith(b"RIFF"):
        return head[12:16] == b"VP8X" and bool(head[20] & _WEBP_ANIMATION)
    return head.startswith(b"\x89PNG") and 0 < head.find(b"acTL") < head.find(b"IDAT")


def _list_boxes(file: BinaryIO) -> set[bytes]:
    """Return the kinds of the boxes at the top of a file, as far as it can be followed."""
    kinds: set[bytes] = set()
    position = 0
    for _ in range(_MAX_BOXES):
        box = read_box(file, position)
        if box is None:
            break
        kind, end = box
        kinds.add(kind)
        if end == 0:
            break
        position = end
    return kinds


def find_ts_packets(file: BinaryIO) -> int:
    """Return the bytes of a packet of a file that begins as MPEG-TS, 0 for any other file.

    Packets are plain, of a disc or with error correction. The file is at its start again.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    for size, before in _TS_PACKETS:
        marks = head[before::size]
        if len(marks) >= _LEAST_TS_PACKETS and set(marks) == {TS_MARK}:
            return size
    return 0


def is_flv(file: BinaryIO) -> bool:
    """Say whether a file begins as FLV; it is at its start again."""
    file.seek(0)
    head = file.read(3)
    file.seek(0)
    return head == b"FLV"
