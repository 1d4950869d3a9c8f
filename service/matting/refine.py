"""Guided upsampling of the network's alpha to the full-size image."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.resize import resize_alpha, resize_image
from service.matting.runs import find_runs

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

RADIUS = 2  # of the windows, in pixels of the matte
EPSILON = 1e-4  # variance of colours in [0, 1] below which a window counts as flat
DECIDED = 0.02  # alpha this near to 0 or 1 is left alone
REACH = 2  # pixels of the matte by which the undecided band is widened
CELL = 16  # pixels of the matte: the photo is worked on in cells of that size
LARGE = 1 << 22  # pixels of a photo that are worth more than one thread: below, two are slower


def refine_alpha(
    image: Image, alpha: Floats, small: Image | None = None, *, threads: int = 1
) -> Floats:
    """Return the matte at the size of the image, its edges where the image has them.

    `image` is (H, W, 3) uint8 RGB, `alpha` (h, w) float32 in [0, 1]; the result is (H, W) float32
    in [0, 1]. Fast guided filter (He and Sun, arXiv:1505.00996) guided by colour: around each pixel
    of the matte alpha is fitted as a linear function of colour, and the function is applied to the
    colours of the photo. Only where the network has not decided, so that nothing of the photo's
    texture gets into the solid inside. An image no larger than the matte gets the resized matte.
    `small` is the image at the size of the matte, (h, w, 3) uint8, for who has it already. The
    result does not depend on the number of `threads`.
    """
    height, width = image.shape[:2]
    refined = resize_alpha(alpha, height, width)
    band = find_band(alpha)
    if height * width <= alpha.size or not band.any():
        return refined
    if small is None:
        small = resize_image(image, alpha.shape)
    model = fit_colours(small.astype(np.float32) / np.float32(255), alpha, band)
    model[:, :, 3] -= alpha  # what is to be added to the resized matte
    # It fades out beside the band; the colours of the photo go to 255.
    fade = cv2.blur(band.astype(np.float32), (3, 3)) / np.float32(255)
    model *= cv2.merge([fade] * 4)
    scale = alpha.shape[0] / height, alpha.shape[1] / width
    ones = np.ones(4, np.float32)

    def refine_cell(cell: tuple[slice, slice]) -> None:
        rows, columns = cell
        tile = image[rows, columns]
        shift = ((rows.start + 0.5) * scale[0] - 0.5, (columns.start + 0.5) * scale[1] - 0.5)
        linear = sample(model, scale, shift, tile.shape[:2])
        colours = cv2.cvtColor(tile, cv2.COLOR_RGB2RGBA)  # a fourth channel of 255 for the constant
        products = cv2.multiply(linear, colours, dtype=cv2.CV_32F).reshape(-1, 4)
        target = refined[rows, columns]
        # A product with ones sums the four in a fifth of the time of any sum along that axis.
        np.clip(target + (products @ ones).reshape(target.shape), 0, 1, out=target)

    def refine_cells(cells: list[tuple[slice, slice]]) -> None:
        for cell in cells:
            refine_cell(cell)

    cells = list(find_cells(band, (height, width)))
    if threads > 1 and height * width > LARGE:
        # A task for each thread: one for each cell takes a sixth longer.
        with ThreadPoolExecutor(threads) as pool:
            # A list, which raises what a cell has raised.
            list(pool.map(refine_cells, (cells[i::threads] for i in range(threads))))
    else:
        refine_cells(cells)
    return refined


def find_band(alpha: Floats) -> NDArray[np.bool_]:
    """Return where the network has not decided, and a little around it, (h, w)."""
    undecided = ((alpha > DECIDED) & (alpha < 1 - DECIDED)).astype(np.uint8)
    # A hard edge has no undecided pixel: neighbours far apart count too.
    kernel = np.ones((3, 3), np.uint8)
    undecided |= (cv2.dilate(alpha, kernel) - cv2.erode(alpha, kernel) > 0.5).astype(np.uint8)
    side = 2 * REACH + 1
    return cv2.dilate(undecided, np.ones((side, side), np.uint8)).astype(np.bool_)


def fit_colours(image: Floats, alpha: Floats, band: NDArray[np.bool_]) -> Floats:
    """Return (h, w, 4): factors of red, green and blue and a constant that give alpha.

    Least squares in each window with a ridge of EPSILON, then the mean over the windows that hold
    the pixel (He et al., "Guided Image Filtering", 2013, section 3.4). Colours are in [0, 1]. True
    in the `band` and one pixel beside it; what lies further away is of no use.
    """
    # Whole planes: twice as fast as an axis of three.
    return cv2.merge(fit_planes(cv2.split(image), alpha, band))


def fit_planes(
    channels: Sequence[Floats], alpha: Floats, band: NDArray[np.bool_], basis: Floats | None = None
) -> list[Floats]:
    """Do what `fit_colours` does, for red, green and blue by themselves; return its four planes.

    `basis` (4, 4) makes other factors and another constant of them.
    """
    side = 2 * RADIUS + 1
    reach = side + 2
    wide = cv2.dilate(band.view(np.uint8), np.ones((reach, reach), np.uint8))
    # Beside the band there is nothing to do; windows reach out by a radius.
    left, top, width, height = cv2.boundingRect(wide)
    rows = slice(max(0, top - RADIUS), top + height + RADIUS)
    columns = slice(max(0, left - RADIUS), left + width + RADIUS)
    whole = alpha.shape
    channels = [np.ascontiguousarray(x[rows, columns]) for x in channels]
    alpha = np.ascontiguousarray(alpha[rows, columns])
    needed = np.flatnonzero(wide[rows, columns].view(np.bool_))

    kernel = np.full(side, 1 / side, np.float32)  # a filter takes two thirds of a blur's time

    def mean(x: Floats) -> Floats:
        return cv2.sepFilter2D(x, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)

    def pick_mean(x: Floats) -> Floats:
        return mean(x).reshape(-1).take(needed)

    means, mean_alpha = [pick_mean(x) for x in channels], pick_mean(alpha)
    covariance = [
        pick_mean(x * alpha) - m * mean_alpha for x, m in zip(channels, means, strict=True)
    ]
    guide_covariance = [
        pick_mean(channels[i] * channels[j]) - means[i] * means[j]
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    ]
    factors = solve_symmetric(guide_covariance, covariance)
    factors.append(mean_alpha - sum(f * m for f, m in zip(factors, means, strict=True)))
    if basis is not None:
        factors = list(basis @ np.stack(factors))
    planes = [np.zeros(whole, np.float32) for _ in range(4)]
    part = np.zeros_like(alpha)
    for plane, values in zip(planes, factors, strict=True):
        part.reshape(-1)[needed] = values
        plane[rows, columns] = mean(part)
    return planes


def solve_symmetric(matrix: Sequence[Floats], right: Sequence[Floats]) -> list[Floats]:
    """Solve (M + EPSILON I) x = right for every pixel, by Cramer's rule.

    `matrix` has rr, rg, rb, gg, gb and bb of all pixels, `right` and the result have three. In
    float64: the determinant of a flat window is near EPSILON cubed.
    """
    rr, rg, rb, gg, gb, bb = (plane.astype(np.float64) for plane in matrix)
    rr, gg, bb = rr + EPSILON, gg + EPSILON, bb + EPSILON
    a, b, c = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    d, e, f = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * a + rg * b + rb * c
    x, y, z = right
    sums = a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z
    return [(total / determinant).astype(np.float32) for total in sums]


def find_cells(band: NDArray[np.bool_], shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of the photo's parts that the band touches, next to each other."""
    h, w = band.shape
    edges = [
        [round(min(start, size) * full / size) for start in range(0, size + CELL, CELL)]
        for size, full in ((h, shape[0]), (w, shape[1]))
    ]
    for i in range(len(edges[0]) - 1):
        if edges[0][i] == edges[0][i + 1]:  # the photo is narrower than the matte has cells
            continue
        # Two pixels more on each side: one by which the change fades out beside the band, and one
        # because a pixel of the photo reads two of the matte.
        columns = np.any(band[max(0, i * CELL - 2) : (i + 1) * CELL + 2], axis=0)
        for first, last in find_runs(columns, CELL, margin=2):
            if edges[1][first] < edges[1][last]:
                yield slice(*edges[0][i : i + 2]), slice(edges[1][first], edges[1][last])


def sample(
    model: Floats, scale: tuple[float, float], shift: tuple[float, float], size: tuple[int, int]
) -> Floats:
    """Return the model at the pixels of a part of the photo, interpolated linearly."""
    matrix = np.array([[scale[1], 0, shift[1]], [0, scale[0], shift[0]]])
    return cv2.warpAffine(
        model,
        matrix,
        size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
