"""Files of several pictures, of which one is read: what is said of the others."""

from service.media.image.formats.gif import is_animation
from service.media.image.source import Source


def note_others(source: Source, data: bytes | bytearray) -> list[str]:
    """Return a note on the frames or pages of a file that are not read; none where there are none.

    Only headers are looked at.
    """
    match source.format:
        case "GIF":
            return ["of an animation the first frame"] if is_animation(data) else []
        case "PNG":
            count, what = source.pictures, "frames the first"
        case "TIFF":
            count, what = source.pictures, "pages the first"
        case "WEBP" | "AVIF":
            count, what = getattr(source.file, "n_frames", 1), "frames the first"
        case "HEIF":
            count, what = getattr(source.file, "n_frames", 1), "pictures the main one"
        case _:
            return []
    return [f"of {count} {what}"] if count > 1 else []
