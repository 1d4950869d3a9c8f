"""Reading the fields of a message's header: each has a type and a range, whoever sent it.

Every function raises ValueError for what no honest sender writes.
"""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

_T = TypeVar("_T")
Header = Mapping[str, Any]
MAX_TEXT = 256
MAX_TICKS = 1 << 53  # every timestamp is exact in JSON and far from the 64-bit end


def to_pair(value: Fraction | None) -> list[int] | None:
    return None if value is None else [value.numerator, value.denominator]


def read_integer(header: Header, name: str, least: int, most: int) -> int:
    value = header.get(name)
    if type(value) is int and least <= value <= most:
        return value
    raise ValueError(f"{name} is not a whole number in range")


def read_flag(header: Header, name: str) -> bool:
    value = header.get(name)
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name} is not a truth value")


def read_ticks(header: Header, name: str) -> int:
    return read_integer(header, name, 0, MAX_TICKS)


def read_seconds(header: Header, name: str) -> float:
    value = header.get(name)
    if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1e9:
        return value
    raise ValueError(f"{name} is not a number of seconds")


def read_ratio(header: Header, name: str) -> Fraction:
    value = header.get(name)
    if isinstance(value, list) and [type(part) for part in value] == [int, int]:
        if min(value) >= 1 and max(value) < 1 << 31:
            return Fraction(*value)
    raise ValueError(f"{name} is not a positive ratio")


def read_text(header: Header, name: str, pattern: str) -> str:
    value = header.get(name)
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    raise ValueError(f"{name} is not a text of the right form")


def clean_text(text: str) -> str:
    """Return a text that people wrote, in one line of at most MAX_TEXT characters."""
    return "".join(c for c in text if c.isprintable())[:MAX_TEXT].strip()


def read_free_text(header: Header, name: str) -> str:
    value = header.get(name)
    if isinstance(value, str) and value == clean_text(value):
        return value
    raise ValueError(f"{name} is not a line of text")


def read_name(header: Header, name: str) -> str:
    return read_text(header, name, r"[A-Za-z0-9_,.-]{1,64}")


def read_optional(header: Header, name: str, read: Callable[[Header, str], _T]) -> _T | None:
    return None if header.get(name) is None else read(header, name)
