"""What is asked for a photo: the options of the HTTP API, the format, the files beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.api.negotiation import choose_format
from service.errors import ImpossibleOutput, InvalidOption
from service.options import BACKGROUND, check_background_file, parse_options
from service.stills.options import Format, ImageOptions

SUFFIXES: dict[str, Format] = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".avif": "avif",
    ".zip": "zip",
    ".psd": "psd",
    ".json": "json",
}
# Each asks for something behind the person, which only this output has.
ASKS_COMPOSITE = ("background", "blur_radius")
NO_FLAG = ("model", "keep_s")  # one is a file too; the other is for a second request


@dataclass(frozen=True)
class StillRequest:
    """What is asked for a photo; `format` is that of the result, `background` the file's bytes."""

    options: ImageOptions
    format: Format
    background: bytes | None = None
    trimap: bytes | None = None
    hint: bytes | None = None

    @property
    def suffix(self) -> str:
        """The suffix of a file with the result."""
        return next(suffix for suffix, format in SUFFIXES.items() if format == self.format)

    @property
    def given(self) -> dict[str, Any]:
        """The options as a request has them."""
        return self.options.model_dump(exclude_unset=True) | {"format": self.format}


def make_request(
    given: Mapping[str, Any],
    *,
    suffix: str = "",
    background: Path | None = None,
    trimap: Path | None = None,
    hint: Path | None = None,
) -> StillRequest:
    """Check what the command line says; `suffix` is that of the file to write, empty for none.

    `--background` alone asks for a composite. Raises InvalidOption, ImpossibleOutput or OSError.
    """
    chosen = dict(given)
    if "output" not in chosen and (background or any(name in chosen for name in ASKS_COMPOSITE)):
        chosen["output"] = "composite"
    if suffix:
        if suffix.lower() not in SUFFIXES:
            raise ImpossibleOutput(
                f"there are no results that end in {suffix}",
                hint=f"end the name in {', '.join(SUFFIXES)}",
            )
        format = SUFFIXES[suffix.lower()]
        if chosen.setdefault("format", format) != format:
            raise InvalidOption(f"the file ends in {suffix}, and format is {chosen['format']}")
    options = parse_options(ImageOptions, chosen)
    check_background_file(options, BACKGROUND, {} if background is None else {BACKGROUND: None})
    return StillRequest(
        options,
        choose_format(options, accept=None),
        background and background.read_bytes(),
        trimap and trimap.read_bytes(),
        hint and hint.read_bytes(),
    )
