"""Which format a result has: the option `format`, else `Accept` (RFC 9110, section 12.5.1)."""

from service.errors import ImpossibleOutput, InvalidOption, NotAcceptable
from service.media.image.layers import is_installed
from service.media.image.writer import CONTENT_TYPES
from service.stills.encode import JSON_TYPE, PSD_TYPE, ZIP_TYPE
from service.stills.options import Format, ImageOptions, Output

MAX_RANGES = 32
_MISSPELT = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
# The formats an output can have and their content types, the default first.
_WITH_ALPHA: dict[Format, str] = {name: CONTENT_TYPES[name] for name in ("png", "webp", "avif")}
_WITHOUT_ALPHA: dict[Format, str] = {**_WITH_ALPHA, "jpeg": CONTENT_TYPES["jpeg"]}
_LAYERS: dict[Format, str] = {"psd": PSD_TYPE} if is_installed() else {}
OFFERS: dict[Output, dict[Format, str]] = {
    "alpha": {**_WITHOUT_ALPHA, "json": JSON_TYPE},
    "cutout": {**_WITH_ALPHA, "json": JSON_TYPE},
    "composite": {**_WITHOUT_ALPHA, "json": JSON_TYPE},
    "foreground": {**_WITHOUT_ALPHA, "json": JSON_TYPE},
    "bundle": {"zip": ZIP_TYPE, "json": JSON_TYPE, **_LAYERS},
}


def choose_format(options: ImageOptions, accept: str | None) -> Format:
    """Return the format of a result.

    Raises NotAcceptable when nothing of what the client takes can be made, ImpossibleOutput for
    alpha in JPEG, InvalidOption for an encoder setting that the format has not got.
    """
    if options.format is not None:
        chosen = options.format
        if chosen == "jpeg" and options.output == "cutout":
            raise ImpossibleOutput("JPEG cannot carry alpha", hint="ask for png, webp or avif")
    else:
        chosen = negotiate(accept, OFFERS[options.output])
    if chosen == "psd" and chosen not in OFFERS["bundle"]:
        raise InvalidOption(
            "format=psd is not installed on this server",
            hint="its operator can: pip install 'matting-service[psd]'",
        )
    bundles = options.output == "bundle" and chosen != "psd"
    takes_quality = bundles or chosen in ("jpeg", "webp", "avif")
    takes_compression = bundles or chosen in ("png", "json")
    if options.is_changed("quality") and not takes_quality:
        raise InvalidOption(f"quality needs format=jpeg, webp or avif; this answer is {chosen}")
    if options.is_changed("compression") and not takes_compression:
        raise InvalidOption(f"compression needs format=png; this answer is {chosen}")
    return chosen


def negotiate(accept: str | None, offers: dict[Format, str]) -> Format:
    """Return the offer with the highest quality value, the earlier one where two are equal."""
    ranges = parse_accept(accept or "*/*")
    weights = {name: weigh(kind, ranges) for name, kind in offers.items()}
    best = max(weights, key=lambda name: weights[name])
    if weights[best] <= 0:
        raise NotAcceptable(
            f"this answer can be {', '.join(offers.values())}, none of which `Accept` takes",
            hint="send `Accept: */*` and choose with the option `format`",
        )
    return best


def parse_accept(value: str) -> list[tuple[str, float]]:
    """Return (media range, quality value) for each part; broken ones are left out."""
    ranges = []
    for part in value.split(",")[:MAX_RANGES]:
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, number = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = min(1.0, max(0.0, float(number)))
                except ValueError:
                    quality = 0.0
        kind = _MISSPELT.get(kind, kind)
        if kind:
            ranges.append((kind, quality if quality == quality else 0.0))
    return ranges


def weigh(kind: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality value of a content type: that of the most specific range for it."""
    wildcard = kind.partition("/")[0] + "/*"
    for wanted in (kind, wildcard, "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
