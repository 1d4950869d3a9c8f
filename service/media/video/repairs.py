"""What had to be repaired in a clip, as its reader tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from service.media.wire.fields import STRICT, Count, Degrees, Seconds, to_header


def name_header(member: str) -> str:
    """Return the header that says what a member of a report says: `frames_lost` X-Frames-Lost."""
    return "X-" + "-".join(part.capitalize() for part in member.split("_"))


def describe_in_headers(told: Mapping[str, Any]) -> dict[str, str]:
    """Return members of a report as headers."""
    return {name_header(name): format_told(value) for name, value in told.items()}


def format_told(value: Any) -> str:
    """Return a member of a report as text: lists as words, true as "yes", `name=value` of many."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={format_told(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    return "yes" if value is True else str(value)


@dataclass(frozen=True)
class Repairs:
    """What was not as a clip should be, known once it is read to the end; all 0 for a sound one.

    `frames_lost` of the selection could not be decoded, `frames_damaged` were, in part.
    `clock_corrections`: how often the clip's clock went back, stood still or jumped.
    `frames_resized` had another size than the result, `frames_fitted` another shape: they lie
    within bars that are transparent. `frames_combed` hold two moments though the clip does not say
    so, and were left so. `colour_changes`: how often the clip's colours changed their coding.
    `audio_packets_lost` could not be decoded; `audio_changes`: how often the form of the audio
    changed, its layout or rate. `ends_early_s`: by how much the clip is shorter than its header
    says. `audio_tracks_lost` could not be decoded, or are too many. `cut_short` is 1 where the file
    ends before it should. `video_tracks_unread` lie beside the one that was read, and
    `clips_unread` behind it, in the same file.
    `places_damaged`: at how many places in the middle of the file its pieces do not follow one
    another, a track begins that the file did not announce, all tracks stop at once, or the numbers
    of pictures jump; what lay there is not read.
    `turn_ignored_deg`: what is left of a turn that is not a quarter or a half one.
    """

    frames_lost: Count = 0
    frames_damaged: Count = 0
    clock_corrections: Count = 0
    frames_resized: Count = 0
    frames_fitted: Count = 0
    frames_combed: Count = 0
    colour_changes: Count = 0
    audio_packets_lost: Count = 0
    audio_changes: Count = 0
    ends_early_s: Seconds = 0.0
    audio_tracks_lost: Count = 0
    cut_short: Count = 0
    video_tracks_unread: Count = 0
    clips_unread: Count = 0
    places_damaged: Count = 0
    turn_ignored_deg: Degrees = 0.0

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    def to_wire(self) -> dict[str, Any]:
        """Return the numbers as a dictionary that JSON can hold; its kind is `end`."""
        return {"kind": "end", **to_header(self)}

    def describe(self) -> dict[str, float]:
        """Return what there is to tell, for JSON."""
        return {name: value for name, value in vars(self).items() if value}
