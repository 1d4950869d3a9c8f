"""What a clip says of itself in words: title, date, place, chapters."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from service.media.wire.fields import Header, clean_text, read_free_text, read_seconds

MAX_CHAPTERS = 1000
# Names of the same thing in MP4, QuickTime and Matroska; the first one that is there counts.
_TITLES = ("title", "com.apple.quicktime.title")
_DATES = ("creation_time", "com.apple.quicktime.creationdate", "date")
_PLACES = ("location", "com.apple.quicktime.location.iso6709")
_CHAPTER_CLOCK = Fraction(1, 1000)


@dataclass(frozen=True)
class Chapter:
    """A part with a name; seconds of the file that is written."""

    start_s: float
    end_s: float
    title: str

    @classmethod
    def from_wire(cls, header: Header) -> "Chapter":
        """Rebuild a chapter; raises ValueError for what no honest reader sends."""
        if not isinstance(header, Mapping):
            raise ValueError("a chapter is not an object")
        start_s, end_s = read_seconds(header, "start_s"), read_seconds(header, "end_s")
        return cls(start_s, end_s, read_free_text(header, "title"))


@dataclass(frozen=True)
class ClipLabels:
    """Title, date (ISO 8601) and place (ISO 6709) as the clip has them, empty where it has none."""

    title: str = ""
    date: str = ""
    place: str = ""
    chapters: tuple[Chapter, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """Return the labels as a dictionary that JSON can hold."""
        return vars(self) | {"chapters": [vars(chapter) for chapter in self.chapters]}

    @classmethod
    def from_wire(cls, header: Header) -> "ClipLabels":
        """Rebuild the labels; raises ValueError for what no honest reader sends."""
        if not isinstance(header, Mapping):
            raise ValueError("labels are not an object")
        chapters = header.get("chapters")
        if not isinstance(chapters, list) or len(chapters) > MAX_CHAPTERS:
            raise ValueError("chapters are not a short list")
        return cls(
            title=read_free_text(header, "title"),
            date=read_free_text(header, "date"),
            place=read_free_text(header, "place"),
            chapters=tuple(Chapter.from_wire(chapter) for chapter in chapters),
        )


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
