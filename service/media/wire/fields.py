"""Constrained field types of message headers.

The constraints are checked on the service's side, by pydantic (`service.media.decoder.messages`); a
decoder child only fills the fields in and needs no pydantic.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from fractions import Fraction
from typing import Annotated, Any

from annotated_types import Interval, Predicate

Header = Mapping[str, Any]
MAX_TEXT = 256
MAX_TICKS = 1 << 53  # every timestamp is exact in JSON and far from the 64-bit end
# How pydantic reads a header: no conversions between types, no unknown fields.
STRICT = {"strict": True, "extra": "forbid", "val_json_bytes": "base64"}


def matches(pattern: str) -> Callable[[str], bool]:
    """Return the test whether a whole text has a form."""
    return lambda text: re.fullmatch(pattern, text) is not None


def is_ratio(value: Fraction) -> bool:
    """Say whether both terms of a positive ratio fit 31 bits, as FFmpeg's do."""
    return value > 0 and max(value.numerator, value.denominator) < 1 << 31


Count = Annotated[int, Interval(ge=0, le=1 << 40)]
Duration = Annotated[int, Interval(ge=0, le=MAX_TICKS)]
Time = Annotated[int, Interval(ge=-MAX_TICKS, le=MAX_TICKS)]
Seconds = Annotated[float, Interval(ge=0, le=1e9)]
Degrees = Annotated[float, Interval(ge=0, le=90)]
Ratio = Annotated[Fraction, Predicate(is_ratio)]
Name = Annotated[str, Predicate(matches(r"[A-Za-z0-9_,.-]{1,64}"))]


def clean_text(text: str) -> str:
    """Return a text that people wrote, in one line of at most MAX_TEXT characters."""
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT].strip()


Text = Annotated[str, Predicate(lambda text: text == clean_text(text))]


def to_header(facts: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON holds them: ratios as text, bytes in base64."""
    return {field.name: _to_json(getattr(facts, field.name)) for field in fields(facts)}


def _to_json(value: Any) -> Any:
    match value:
        case Fraction():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case tuple():
            return [_to_json(item) for item in value]
        case _ if hasattr(value, "__dataclass_fields__"):
            return to_header(value)
    return value
