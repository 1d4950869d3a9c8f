"""From a matted frame to the pictures of the results: refine, colour, compose."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.frames.background_clip import BackgroundClip, LoopedClip
from service.frames.options import SmoothedOptions
from service.frames.segment import MattedFrame
from service.matting.composite import (
    Background,
    composite_over,
    composite_over_colour,
    cover,
    cut_out,
    quantise_alpha,
)
from service.matting.foreground import estimate_foreground
from service.matting.refine import refine_alpha
from service.matting.resize import resize_alpha

PictureName = Literal["composite", "grey", "green", "cutout"]


Pixels = NDArray[np.uint8]
# The foreground's colour is estimated on smaller pictures than a still's: a third of the time, for
# a mean difference of 0.5 of 255 where the person is half transparent.
COLOUR_SIDE = 192
# Chroma-key green as studios paint it, which keyers know by name.
GREEN = (0, 177, 64)


@dataclass(frozen=True, eq=False)
class RenderOptions:
    """How frames are rendered: refined mattes, estimated colours, and what is behind a composite.

    A picture or clip as `background` covers the frame.
    """

    background: Background | BackgroundClip = (255, 255, 255)
    refines: bool = True
    estimates_foreground: bool = True


def make_render_options(
    options: SmoothedOptions, background: Background | BackgroundClip
) -> RenderOptions:
    """Return how frames are rendered with these options before a background."""
    return RenderOptions(
        background=background,
        refines=options.refine == "auto",
        estimates_foreground=options.foreground == "auto",
    )


class Renderer:
    """Renders frames of one clip, (height, width) each; from one thread.

    `looped`: the pictures of the background where it is a clip.
    """

    def __init__(
        self, options: RenderOptions, height: int, width: int, looped: LoopedClip | None = None
    ) -> None:
        self._options = options
        self._size = height, width
        self._looped = looped
        self._looped_picture: Pixels | None = None
        self._background: Background = (0, 0, 0)
        if isinstance(options.background, np.ndarray):
            self._background = cover(options.background, height, width)
        elif not isinstance(options.background, BackgroundClip):
            self._background = options.background

    def render(self, item: MattedFrame) -> "RenderedFrame":
        if self._looped is not None:
            picture = self._looped.get(item.frame.pts)
            if picture is not self._looped_picture:
                self._looped_picture, self._background = picture, cover(picture, *self._size)
        return RenderedFrame(item, self._options, self._background)


class RenderedFrame:
    """The pictures of one frame: each is made when it is first asked for, what they share once."""

    def __init__(self, item: MattedFrame, options: RenderOptions, background: Background) -> None:
        self._image = item.frame.image
        self._network_image = item.network_image
        self._matte = item.alpha
        self._options = options
        self._background = background

    def get(self, name: PictureName) -> Pixels:
        """Return (H, W, 3) uint8 RGB, `cutout` (H, W, 4) straight RGBA, `grey` (H, W)."""
        picture: Pixels = getattr(self, name)
        return picture

    @cached_property
    def alpha(self) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]."""
        if self._options.refines:
            return refine_alpha(self._image, self._matte, self._network_image)
        return resize_alpha(self._matte, *self._image.shape[:2])

    @cached_property
    def colour(self) -> Pixels:
        """The person's own colour, (H, W, 3), smooth where alpha is 0: no rim there can show."""
        if self._options.estimates_foreground:
            return estimate_foreground(self._image, self.alpha, COLOUR_SIDE)
        return self._image

    @cached_property
    def composite(self) -> Pixels:
        return composite_over(self._background, self.colour, self.alpha, self._image)

    @cached_property
    def green(self) -> Pixels:
        return composite_over_colour(self.colour, self.alpha, GREEN)

    @cached_property
    def grey(self) -> Pixels:
        """The matte, (H, W)."""
        return quantise_alpha(self.alpha)

    @cached_property
    def cutout(self) -> Pixels:
        return cut_out(self.colour, self.alpha)
