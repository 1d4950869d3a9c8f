"""EXIF: orientation, and the metadata that a result may carry (decoder child)."""

from PIL import ExifTags, Image

MAX_EXIF_BYTES = 65_533  # what a segment of a JPEG holds
_INTEROP_INDEX = 1
_ORIENTATION = ExifTags.Base.Orientation
# What describes the photo. The rest says how it is stored, in a TIFF even where its pixels lie.
_KEPT = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
)
_STALE = (  # not true of a result that was turned, cropped, shrunk or converted to sRGB
    ExifTags.Base.ColorSpace,
    ExifTags.Base.Gamma,
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,
    ExifTags.IFD.Interop,
)


def read_orientation(exif: Image.Exif) -> int:
    """Return 1 to 8; 1, upright, for values that EXIF does not have."""
    orientation = exif.get(_ORIENTATION)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def states_adobe_rgb(exif: Image.Exif) -> bool:
    """Say whether a camera marks its colours as those of Adobe RGB (Exif 2.31, 4.6.6; DCF 2.0).

    Some state the 2 that Exif does not have.
    """
    stated = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    index = exif.get_ifd(ExifTags.IFD.Interop).get(_INTEROP_INDEX)
    return bool(stated == 2 or (index == "R03" and stated != 1))


def serialise_exif(exif: Image.Exif) -> bytes:
    """Return the EXIF for an upright result, without thumbnail, at most 64 KiB; empty for none.

    What is too long goes without the camera's private notes, or not at all. Raises what Pillow
    raises on broken EXIF.
    """
    kept = Image.Exif()
    kept.endian = "<"
    for tag in _KEPT:
        if tag in exif:
            kept[tag] = exif[tag]
    details = exif.get_ifd(ExifTags.IFD.Exif)
    for stale in _STALE:
        details.pop(stale, None)
    places = exif.get_ifd(ExifTags.IFD.GPSInfo)
    if details:
        kept[ExifTags.IFD.Exif] = details
    if places:
        kept[ExifTags.IFD.GPSInfo] = places
    if not kept:
        return b""
    data = kept.tobytes()
    if len(data) > MAX_EXIF_BYTES and details.pop(ExifTags.IFD.MakerNote, None):
        kept[ExifTags.IFD.Exif] = details
        data = kept.tobytes()
    return data if len(data) <= MAX_EXIF_BYTES else b""
