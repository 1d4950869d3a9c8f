"""Result metadata, as headers and as JSON."""

from dataclasses import dataclass
from typing import Any

from service.matting.crop import Box


@dataclass(frozen=True)
class ResultMetadata:
    """ResultMetadata of one result; what is None is not known and not said.

    `width`, `height` and `subject` are in pixels of the result, `confidence` in [0, 1],
    `timings_ms` by stage; `refine` only where it was `fine`. `rows_there` is below 1 for a file
    that ends early; `notes` say what else of the upload was mended or converted.
    """

    width: int
    height: int
    subject: Box | None
    confidence: float | None
    shows_person: bool | None
    model: str | None
    provider: str | None
    timings_ms: dict[str, float]
    result_id: str | None = None
    refine: str | None = None
    rows_there: float = 1.0
    notes: tuple[str, ...] = ()

    def to_headers(self) -> dict[str, str]:
        """Return the response headers of api.md section 2."""
        values: dict[str, object] = {"X-Width": self.width, "X-Height": self.height}
        if self.subject is not None:
            box = self.subject
            values |= {
                "X-Foreground-Left": box.left,
                "X-Foreground-Top": box.top,
                "X-Foreground-Width": box.width,
                "X-Foreground-Height": box.height,
            }
        if self.confidence is not None:
            values["X-Matte-Confidence"] = f"{self.confidence:.3f}"
        if self.shows_person is not None:
            values["X-Person"] = "yes" if self.shows_person else "no"
        named = {
            "X-Model": self.model,
            "X-Provider": self.provider,
            "X-Refine": self.refine,
            "X-Result-ID": self.result_id,
        }
        values |= {name: value for name, value in named.items() if value is not None}
        if self.rows_there < 1:
            values["X-Truncated"] = f"{self.rows_there:.3f}"
        if self.notes:
            values["X-Notes"] = make_header_text("; ".join(self.notes))
        timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in self.timings_ms.items())
        return {name: str(value) for name, value in values.items()} | {"Server-Timing": timing}

    def to_json(self) -> dict[str, Any]:
        """Return the same metadata as members of a JSON document."""
        members = {
            "width": self.width,
            "height": self.height,
            "foreground": None if self.subject is None else vars(self.subject),
            "confidence": None if self.confidence is None else round(self.confidence, 3),
            "person": self.shows_person,
            "model": self.model,
            "provider": self.provider,
            "refine": self.refine,
            "result_id": self.result_id,
            "truncated": round(self.rows_there, 3) if self.rows_there < 1 else None,
            "notes": list(self.notes) or None,
            "timings_ms": {name: round(ms, 1) for name, ms in self.timings_ms.items()},
        }
        optional = (
            "confidence",
            "person",
            "model",
            "provider",
            "refine",
            "result_id",
            "truncated",
            "notes",
        )
        return {k: v for k, v in members.items() if v is not None or k not in optional}


def make_header_text(text: str) -> str:
    """Return text as a header may have it: printable ASCII, at most 1,000 characters."""
    return "".join(one if " " <= one <= "~" else "?" for one in text)[:1000]
