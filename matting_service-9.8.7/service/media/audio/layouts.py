"""Layouts of channels: any that a clip has, to those that have names."""

import ctypes
from dataclasses import dataclass
from typing import Any

import av

from service.media.audio.types import AUDIO_LAYOUTS

# What a number of channels without a layout is taken for, as FFmpeg does.
_DEFAULTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_NATIVE_ORDER = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR".split()


@dataclass(frozen=True)
class Layout:
    """A layout with a name, and `order`: where in the file each of its channels is.

    `order` None: they come as the name says.
    """

    name: str
    channels: int
    order: tuple[int, ...] | None = None


def read_layout(context: Any) -> Layout:
    """Return the layout of a codec context, and set that one in a decoder not yet open.

    The library frees the list of channels of a custom layout twice, which ends the process: the
    object that shows it is kept for ever, and frames then come with a layout that has no list.
    """
    shown = context.layout
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(shown))
    layout = name_layout(shown.name, [channel.name for channel in shown.channels])
    if layout.channels and shown.name != layout.name and not context.is_open:
        context.layout = layout.name
    return layout


def name_layout(name: str, channels: list[str]) -> Layout:
    """Return the named layout that is nearest to one of these channels, in this order."""
    count = len(channels)
    if name in AUDIO_LAYOUTS:
        return Layout(name, count)
    if len(set(channels)) == count and set(channels) <= set(_NATIVE_ORDER):
        ordered = sorted(channels, key=_NATIVE_ORDER.index)
        for known in sorted(AUDIO_LAYOUTS):
            if [channel.name for channel in av.AudioLayout(known).channels] == ordered:
                order = tuple(channels.index(channel) for channel in ordered)
                return Layout(known, count, order)
    if count in _DEFAULTS:
        return Layout(_DEFAULTS[count], count)
    return Layout(name, count)
