"""What a clip says of itself in words: title, date, place, chapters."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar

from annotated_types import MaxLen

from service.media.wire.fields import STRICT, Seconds, Text, clean_text

MAX_CHAPTERS = 1000
# Names of the same thing in MP4, QuickTime and Matroska; the first one that is there counts.
_TITLES = ("title", "com.apple.quicktime.title")
_DATES = ("creation_time", "com.apple.quicktime.creationdate", "date")
_PLACES = ("location", "com.apple.quicktime.location.iso6709")
_CHAPTER_CLOCK = Fraction(1, 1000)


@dataclass(frozen=True)
class Chapter:
    """A part with a name; seconds of the file that is written."""

    start_s: Seconds
    end_s: Seconds
    title: Text

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


@dataclass(frozen=True)
class ClipLabels:
    """Title, date (ISO 8601) and place (ISO 6709) as the clip has them, empty where it has none."""

    title: Text = ""
    date: Text = ""
    place: Text = ""
    chapters: Annotated[tuple[Chapter, ...], MaxLen(MAX_CHAPTERS)] = ()

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT


NO_LABELS = ClipLabels()


def read_labels(
    container: Any, zero_s: Fraction, length_s: float | None, *, keeps_metadata: bool
) -> ClipLabels:
    """Return the labels of an open file of the library for a result.

    The result calls `zero_s` of the clip's clock zero and lasts `length_s` if that is known.
    Chapters are always kept, the rest with `keeps_metadata`.
    """
    chapters = []
    for chapter in container.chapters()[:MAX_CHAPTERS]:
        start_s, end_s = (
            max(float(chapter[name] * chapter["time_base"] - zero_s), 0.0)
            for name in ("start", "end")
        )
        end_s = end_s if length_s is None else min(end_s, length_s)
        if end_s > start_s:
            title = clean_text(chapter["metadata"].get("title", ""))
            chapters.append(Chapter(start_s, end_s, title))
    if not keeps_metadata:
        return ClipLabels(chapters=tuple(chapters))
    told = {name.lower(): clean_text(value) for name, value in container.metadata.items()}
    title, date, place = (
        next((told[name] for name in names if told.get(name)), "")
        for names in (_TITLES, _DATES, _PLACES)
    )
    return ClipLabels(title, date, place, tuple(chapters))


def write_labels(file: Any, labels: ClipLabels) -> None:
    """State the labels in a file of the library that has not begun."""
    words = {"title": labels.title, "creation_time": labels.date, "location": labels.place}
    file.metadata.update({name: text for name, text in words.items() if text})
    if labels.chapters:
        file.set_chapters(
            [
                {
                    "id": number,
                    "start": round(chapter.start_s / _CHAPTER_CLOCK),
                    "end": round(chapter.end_s / _CHAPTER_CLOCK),
                    "time_base": _CHAPTER_CLOCK,
                    "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(labels.chapters, 1)
            ]
        )
