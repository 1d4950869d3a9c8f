"""Encode a rendered still."""

import base64
import io
import json
import zipfile
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import ImpossibleOutput
from service.matting.composite import cut_out, quantise_alpha
from service.media.encoder.apart import encode_apart, is_large
from service.media.image import layers
from service.media.image.saving import PixelFormat
from service.media.image.writer import CONTENT_TYPES, MAX_SIDE, encode_image
from service.stills.metadata import ResultMetadata
from service.stills.options import Format, ImageOptions
from service.stills.render import FinishedStill
from service.threads import IsLate, check_time, never

JSON_TYPE, ZIP_TYPE = "application/json", "application/zip"
PSD_TYPE = "image/vnd.adobe.photoshop"
# Names that remove.bg's ZIP has too.
BUNDLE_COLOUR, BUNDLE_ALPHA = "color.jpg", "alpha.png"


@dataclass(frozen=True)
class Encoded:
    """Named pictures of one result; all results but a bundle have one."""

    pictures: dict[str, bytes]
    content_type: str


def encode_still(
    finished: FinishedStill, options: ImageOptions, format: Format, is_late: IsLate = never
) -> Encoded:
    """Encode the pictures of a result; raises ImpossibleOutput for sides a format cannot hold.

    Raises TooLate when `is_late` says so.
    """

    def encode(pixels: NDArray[np.uint8], kind: PixelFormat) -> bytes:
        check_side(max(pixels.shape[:2]), kind)
        check_time(is_late)
        icc = finished.icc if pixels.ndim == 3 else b""
        settings = {"quality": options.quality, "compression": options.compression}
        if is_large(pixels, kind):
            given = {"picture": pixels}
            return encode_apart(given, icc, finished.exif, is_late, format=kind, **settings)
        return encode_image(pixels, kind, icc=icc, exif=finished.exif, is_late=is_late, **settings)

    if format == "psd":
        check_side(max(finished.photo.shape), format)
        check_time(is_late)
        person = cut_out(finished.colour, finished.alpha)
        given = {"photo": finished.photo, "person": person}
        if is_large(person, format):
            content = encode_apart(given, finished.icc, b"", is_late, format=format)
        else:
            content = layers.encode_layers(given, finished.icc)
        return Encoded({"image.psd": content}, PSD_TYPE)
    if options.output == "bundle":
        colour = encode(finished.colour, "jpeg")
        alpha = encode(quantise_alpha(finished.alpha), "png")
        return Encoded({BUNDLE_COLOUR: colour, BUNDLE_ALPHA: alpha}, ZIP_TYPE)
    kind: PixelFormat = "png" if format in ("json", "zip") else format  # type: ignore[assignment]
    if options.output == "alpha":
        pixels = quantise_alpha(finished.alpha)
    elif options.output == "cutout":
        pixels = cut_out(finished.colour, finished.alpha)
    else:
        pixels = finished.colour
    return Encoded({f"image.{kind}": encode(pixels, kind)}, CONTENT_TYPES[kind])


def check_side(longest: int, kind: PixelFormat | Literal["psd"]) -> None:
    most = layers.MAX_SIDE if kind == "psd" else MAX_SIDE.get(kind)
    if most is not None and longest > most:
        raise ImpossibleOutput(
            f"{kind} holds {most} pixels a side, the result has {longest}",
            hint="ask for format=png, or for a smaller size",
            limit=most,
            actual=longest,
        )


def pack(encoded: Encoded, metadata: ResultMetadata, format: Format) -> tuple[bytes, str]:
    """Return (body, content type) of an answer: the picture, a ZIP of both, or JSON."""
    pictures = encoded.pictures
    if format == "json":
        texts = {name: base64.b64encode(data).decode() for name, data in pictures.items()}
        if len(texts) == 1:
            members = {"content_type": encoded.content_type, "image_b64": [*texts.values()][0]}
        else:
            members = {"color_b64": texts[BUNDLE_COLOUR], "alpha_b64": texts[BUNDLE_ALPHA]}
        return json.dumps(metadata.to_json() | members).encode(), JSON_TYPE
    if len(pictures) > 1:
        return make_zip(pictures), ZIP_TYPE
    return [*pictures.values()][0], encoded.content_type


def make_zip(files: dict[str, bytes]) -> bytes:
    """Return a ZIP; its files are compressed already and therefore only stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()
