"""Render a matted still: refine, clean up, crop, resize, composite."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from service.matting.cleanup import clean_alpha, keep_largest_piece, settle_ends
from service.matting.composite import draw_background
from service.matting.crop import Box, cut, expand_box, find_subject, parse_margin
from service.matting.fine import refine_strands
from service.matting.foreground import estimate_foreground
from service.matting.hint import apply_hint
from service.matting.placement import PlacedPerson, parse_placement, place_person
from service.matting.refine import refine_alpha
from service.matting.resize import resize_alpha
from service.matting.sizes import fit_size
from service.stills.matte import MattedStill
from service.stills.options import ImageOptions
from service.stills.strands import solve_strands
from service.threads import IsLate, check_time, never

THREADS = 2  # of one photo: more would take the cores from other requests
Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FinishedStill:
    """What is to be encoded: `colour` (H, W, 3) uint8 with its profile, `alpha` (H, W) float32.

    `colour` is the composite for output=composite, else the person's straight colour. A cutout's
    shadow is part of both. `photo` is the picture itself, of the same size.
    """

    colour: Pixels
    alpha: Alpha
    icc: bytes
    exif: bytes
    subject: Box | None
    photo: Pixels


@dataclass(eq=False)
class _Layers:
    """Pictures of one size that are cropped and shrunk together.

    `true_alpha` is the share of the person in `colour`, None where that holds nothing else;
    clean-up changes `alpha` alone.
    """

    guide: Pixels
    colour: Pixels
    own_alpha: Pixels | None
    alpha: Alpha | None = None
    true_alpha: Alpha | None = None
    hint: Pixels | None = None

    def crop(self, box: Box) -> None:
        for name, layer in vars(self).items():
            if layer is not None:
                setattr(self, name, cut(layer, box))

    def shrink(self, width: int, height: int) -> None:
        if self.guide.shape[:2] == (height, width):
            return
        if self.own_alpha is not None:
            # Straight colours are averaged by their weight, else the white under alpha 0 shows.
            self.colour = shrink_straight(self.colour, self.own_alpha, (width, height))
        for name, layer in vars(self).items():
            if layer is not None and layer.shape[:2] != (height, width):
                small = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
                setattr(self, name, small)


def finish_still(
    still: MattedStill, options: ImageOptions, is_late: IsLate = never
) -> FinishedStill:
    """Return the result of a still at its final size.

    What the options say in pixels is done at that size, at the end. Raises TooLate when `is_late`
    says so.
    """
    picture = still.picture
    keeps_profile = options.icc == "keep" and options.output != "composite"
    colour = picture.own if keeps_profile and picture.own is not None else picture.image
    layers = _Layers(picture.flat, colour, picture.alpha, hint=still.hint)
    height, width = colour.shape[:2]
    if not options.crop:
        # Nothing below depends on the size, and less costs less.
        layers.shrink(*fit_size(width, height, options.size))
    set_alpha(layers, still, options, is_late)
    assert layers.alpha is not None
    if options.crop:
        box = find_subject(clean_alpha(layers.alpha, threshold=options.threshold))
        if box is not None:
            layers.crop(choose_crop(box, (height, width), options))
        height, width = layers.alpha.shape
        layers.shrink(*fit_size(width, height, options.size))
    alpha = clean_alpha(
        layers.alpha,
        threshold=options.threshold,
        erode=options.erode,
        dilate=options.dilate,
        feather=options.feather,
        is_late=is_late,
    )
    check_time(is_late)
    layers.alpha = alpha
    person = place(layers, choose_colour(layers, options), options)
    shown, shown_alpha = compose(layers, person, still, options)
    return FinishedStill(
        colour=shown,
        alpha=shown_alpha,
        icc=choose_profile(still, options),
        exif=picture.exif if options.keep_metadata else b"",
        subject=find_subject(person.alpha),
        photo=layers.colour,
    )


def choose_crop(box: Box, shape: tuple[int, int], options: ImageOptions) -> Box:
    """Return what is cut out around a person in pixels of the picture.

    `dilate` and `erode` move the person's outline by pixels of the result, which is smaller by a
    factor that the box decides.
    """
    whole = expand_box(box, parse_margin(options.crop_margin), shape)
    scale = fit_size(whole.width, whole.height, options.size)[0] / whole.width
    moved = round((options.dilate - options.erode) / scale)
    if moved < 0:
        moved = -min(-moved, (box.width - 1) // 2, (box.height - 1) // 2)
    box = Box(
        max(0, box.left - moved),
        max(0, box.top - moved),
        min(shape[1], box.left + box.width + moved) - max(0, box.left - moved),
        min(shape[0], box.top + box.height + moved) - max(0, box.top - moved),
    )
    return expand_box(box, parse_margin(options.crop_margin), shape)


def set_alpha(layers: _Layers, still: MattedStill, options: ImageOptions, is_late: IsLate) -> None:
    """Fill in both alphas: the matte at the size of the layers, and what the options make of it."""
    own: Alpha | None = None
    if layers.own_alpha is not None:
        own = layers.own_alpha.astype(np.float32) / np.float32(255)
    alpha: Alpha
    if still.matte is None:
        assert own is not None
        alpha = own  # and the file's colours are straight already
    else:
        if options.refine != "off":
            # A shrunk guide is not what the network saw shrunk, to the last digit.
            network_image = (
                still.network_image if layers.guide.shape == still.picture.image.shape else None
            )
            alpha = refine_alpha(layers.guide, still.matte, network_image, threads=THREADS)
            if options.refine == "fine":
                alpha = refine_strands(layers.guide, alpha, is_late, solve_strands)
        else:
            alpha = resize_alpha(still.matte, *layers.guide.shape[:2])
        # In place but for the network's own matte, which others look at.
        alpha = settle_ends(alpha, None if alpha is still.matte else alpha)
        layers.true_alpha = alpha
        if own is not None and options.existing_alpha == "multiply":
            alpha = alpha * own
    if layers.hint is not None:
        alpha = apply_hint(alpha, layers.hint)
    layers.alpha = keep_largest_piece(alpha, is_late) if options.keep_largest else alpha


def choose_colour(layers: _Layers, options: ImageOptions) -> Pixels:
    """Return the person's colour where the output shows it, else the picture's own, unused."""
    if options.has_colour and options.foreground == "auto" and layers.true_alpha is not None:
        return estimate_foreground(layers.colour, layers.true_alpha)
    return layers.colour


def place(layers: _Layers, colour: Pixels, options: ImageOptions) -> PlacedPerson:
    """Return the person where `position` and `scale` put it."""
    alpha = layers.alpha
    assert alpha is not None
    placement = parse_placement(options.scale, options.position)
    box = None if placement is None else find_subject(alpha)
    if placement is not None and box is not None:
        colour, alpha = place_person(colour, alpha, box, placement)
    return PlacedPerson(colour, alpha, options.shadow)


def compose(
    layers: _Layers, person: PlacedPerson, still: MattedStill, options: ImageOptions
) -> tuple[Pixels, Alpha]:
    """Return colour and alpha of what the output shows; output=alpha does not use the colour."""
    if options.output != "composite":
        return person.cut_out()
    assert layers.alpha is not None
    background = options.choose_background(still.background)
    return person.compose(draw_background(background, layers.alpha, layers.guide)), person.alpha


def shrink_straight(colour: Pixels, alpha: Pixels, size: tuple[int, int]) -> Pixels:
    """Return straight colours (h, w, 3) averaged over areas, each pixel by its alpha."""
    weight = alpha[:, :, np.newaxis].astype(np.float32) + np.float32(1e-3)
    total = cv2.resize(colour * weight, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)[:, :, np.newaxis]
    return np.rint(total / share).astype(np.uint8)


def choose_profile(still: MattedStill, options: ImageOptions) -> bytes:
    """Return the ICC profile of the result's colours, empty for none."""
    picture = still.picture
    if options.icc == "strip" or not options.has_colour:
        return b""
    if options.icc == "keep" and (picture.own is None or options.output != "composite"):
        return picture.icc
    return make_srgb_profile()


@cache
def make_srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
