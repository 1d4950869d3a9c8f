"""Render a matted frame: refine, estimate foreground, composite."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.frames.background_clip import BackgroundClip, LoopedClip
from service.frames.options import SmoothedOptions
from service.frames.planes import PlaneBackground, compose_planes
from service.frames.segment import MattedFrame
from service.matting import crop
from service.matting.cleanup import clean_alpha, settle_ends
from service.matting.composite import (
    Background,
    Blur,
    composite_over_colour,
    cover,
    cut_out,
    draw_background,
    quantise_alpha,
)
from service.matting.foreground import estimate_foreground, estimate_frame_means
from service.matting.hint import Region
from service.matting.placement import PlacedPerson, Placement, place_frame
from service.matting.refine import refine_alpha
from service.matting.refine_planes import refine_planes
from service.matting.resize import resize_alpha
from service.matting.shadow import ShadowName
from service.media.colour.planes import YuvPicture
from service.media.video.types import Box

PictureName = Literal["composite", "grey", "green", "cutout"]


Alpha = NDArray[np.float32]
Pixels = NDArray[np.uint8]
# The foreground's colour is estimated on smaller pictures than a still's: a third of the time, for
# a mean difference of 0.5 of 255 where the person is half transparent.
COLOUR_SIDE = 192
# Chroma-key green as studios paint it, which keyers know by name.
GREEN = (0, 177, 64)
SQUARE = Fraction(1)


@dataclass(frozen=True, eq=False)
class RenderOptions:
    """How frames are rendered: refined mattes, estimated colours, and what is behind a composite.

    A picture or clip as `background` covers the frame. `existing_alpha` says what the clip's own
    does, `cleanup` are the corrections of `clean_alpha`. `placement` moves the whole frame with the
    person, None leaves it. Nothing outside `region` is the person.
    """

    background: Background | BackgroundClip = (255, 255, 255)
    refines: bool = True
    estimates_foreground: bool = True
    existing_alpha: Literal["multiply", "ignore", "return"] = "multiply"
    cleanup: Mapping[str, Any] = field(default_factory=dict)
    shadow: ShadowName = "none"
    placement: Placement | None = None
    region: Region | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the person stays where it is, whole, before a colour or a picture."""
        is_still = self.placement is None and self.shadow == "none"
        return is_still and not isinstance(self.background, Blur)


def make_render_options(
    options: SmoothedOptions, background: Background | BackgroundClip
) -> RenderOptions:
    """Return how frames are rendered with these options before a background."""
    return RenderOptions(
        background=background,
        refines=options.refine == "auto",
        estimates_foreground=options.foreground == "auto",
        existing_alpha=options.existing_alpha,
        cleanup=options.cleanup,
        shadow=options.shadow,
        placement=options.placement,
        region=options.region,
    )


class Renderer:
    """Renders frames of one clip, (height, width) each; from one thread.

    `looped`: the pictures of the background where it is a clip. `pixel_shape`: how wide a pixel of
    the frames is for its height; a background keeps its shape where they are shown.
    """

    def __init__(
        self,
        options: RenderOptions,
        height: int,
        width: int,
        looped: LoopedClip | None = None,
        pixel_shape: Fraction = SQUARE,
    ) -> None:
        self._options = options
        self._pixel_shape = pixel_shape
        self._size = height, width
        self._looped = looped
        self._looped_picture: Pixels | None = None
        self._in_planes = PlaneBackground()
        self._background: Background = (0, 0, 0)
        if isinstance(options.background, np.ndarray):
            self._background = cover(options.background, height, width, float(1 / pixel_shape))
        elif not isinstance(options.background, BackgroundClip):
            self._background = options.background

    def render(self, item: MattedFrame) -> "RenderedFrame":
        if self._looped is not None:
            picture = self._looped.get(item.frame.pts)
            if picture is not self._looped_picture:
                shape = float(self._looped.pixel_shape / self._pixel_shape)
                self._looped_picture, self._background = picture, cover(picture, *self._size, shape)
        return RenderedFrame(item, self._options, self._background, self._in_planes)


class RenderedFrame:
    """The pictures of one frame: each is made when it is first asked for, what they share once."""

    def __init__(
        self,
        item: MattedFrame,
        options: RenderOptions,
        background: Background,
        in_planes: PlaneBackground,
    ) -> None:
        self._frame = item.frame
        self._network_image = item.network_image
        self._matte = item.alpha
        self._options = options
        self._background = background
        self._in_planes = in_planes

    def draw(self, name: PictureName) -> Pixels | YuvPicture:
        """Return what `get` does, or the same in planes where the frame came so."""
        if name == "composite" and self._frame.planes is not None and self._stays_in_planes:
            return self._compose_planes(self._frame.planes)
        return self.get(name)

    def get(self, name: PictureName) -> Pixels:
        """Return (H, W, 3) uint8 RGB, `cutout` (H, W, 4) straight RGBA, `grey` (H, W)."""
        picture: Pixels = getattr(self, name)
        return picture

    @cached_property
    def _true_alpha(self) -> Alpha | None:
        """The person's share of the colours; None where the clip's alpha is the matte."""
        if self._frame.alpha is not None and self._options.existing_alpha == "return":
            return None
        if not self._options.refines:
            return settle_ends(resize_alpha(self._matte, *self._frame.size))
        planes = self._frame.planes
        if planes is None:
            return settle_ends(refine_alpha(self._frame.flat, self._matte, self._network_image))
        return self._refined_grey.astype(np.float32) / np.float32(255)

    @cached_property
    def _refined_grey(self) -> Pixels:
        """The refined matte of a frame in planes, (H, W) uint8."""
        planes = self._frame.planes
        assert planes is not None
        samples = (planes.luma, *planes.chroma)
        return refine_planes(samples, planes.to_rgb, self._matte, self._network_image)

    @cached_property
    def alpha(self) -> Alpha:
        """(H, W) float32 in [0, 1]; 0 in the bars beside a picture of another shape."""
        frame, options, alpha = self._frame, self._options, self._true_alpha
        if frame.alpha is not None and options.existing_alpha != "ignore":
            own = frame.alpha.astype(np.float32) / np.float32(255)
            alpha = own if alpha is None else alpha * own
        assert alpha is not None
        if options.region is not None:
            alpha = _clear_outside(alpha, options.region.find_box(alpha.shape))
        alpha = clean_alpha(alpha, **options.cleanup)
        return alpha if frame.box is None else _clear_outside(alpha, frame.box)

    @cached_property
    def colour(self) -> Pixels:
        """The person's own colour, (H, W, 3), smooth where alpha is 0: no rim there can show."""
        if self._options.estimates_foreground and self._true_alpha is not None:
            return estimate_foreground(self._frame.image, self._true_alpha, COLOUR_SIDE)
        return self._frame.image

    @cached_property
    def person(self) -> PlacedPerson:
        """The person where the options put it; the matte by itself stays as it is."""
        options = self._options
        if options.placement is None:
            return PlacedPerson(self.colour, self.alpha, options.shadow)
        placed = place_frame(self.colour, self.alpha, options.placement)
        return PlacedPerson(*placed, options.shadow)

    @cached_property
    def composite(self) -> Pixels:
        behind = draw_background(self._background, self.alpha, self._frame.flat)
        return self.person.compose(behind)

    @property
    def _stays_in_planes(self) -> bool:
        """Whether the composite can be made of planes."""
        is_whole = self._is_as_refined or self.alpha is self._true_alpha
        return self._options.is_plain and is_whole

    @cached_property
    def _is_as_refined(self) -> bool:
        """Whether nothing is done to the refined matte of a frame in planes."""
        frame, options = self._frame, self._options
        has_no_part = frame.alpha is None and frame.box is None and options.region is None
        is_kept = not any(value not in (None, 0) for value in options.cleanup.values())
        return frame.planes is not None and options.refines and has_no_part and is_kept

    def _compose_planes(self, frame: YuvPicture) -> YuvPicture:
        assert not isinstance(self._background, Blur)
        means = None
        if self._options.estimates_foreground:
            means = estimate_frame_means(self._network_image, self.grey, COLOUR_SIDE)
        background = self._in_planes.get(self._background, frame.size, frame.matrix)
        return compose_planes(frame, self.grey, background, means)

    @cached_property
    def green(self) -> Pixels:
        """Without a shadow: a keyer would take it for the person or for nothing."""
        return composite_over_colour(self.person.colour, self.person.alpha, GREEN)

    @cached_property
    def grey(self) -> Pixels:
        """The matte, (H, W)."""
        return self._refined_grey if self._is_as_refined else quantise_alpha(self.alpha)

    @cached_property
    def cutout(self) -> Pixels:
        return cut_out(*self.person.cut_out())


def _clear_outside(alpha: Alpha, box: Box | crop.Box) -> Alpha:
    cleared = np.zeros_like(alpha)
    rows = slice(box.top, box.top + box.height)
    columns = slice(box.left, box.left + box.width)
    cleared[rows, columns] = alpha[rows, columns]
    return cleared
