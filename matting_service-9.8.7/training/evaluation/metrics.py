"""Measures of a matte's error, the usual ones of the matting literature.

Stills: `alpha` is the matte under test and `label` the true one, both (H, W) float in [0, 1]. All
pixels count, not only those unknown to a trimap: a trimap-free network can be wrong anywhere.
Clips: iterables of such arrays, one per frame; generators will do, two frames are held at a time.

SAD, Grad and Conn are sums in thousands, dtSSD, MESSDdt and flicker are times 100, as papers print
them. Lower is better everywhere but for the IoU.

Rhemann et al. 2009: "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009.
Erofeev et al. 2015: "Perceptually Motivated Benchmark for Video Matting", BMVC 2015.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Matte = NDArray[np.floating]
Flow = NDArray[np.float32]

GRADIENT_SIGMA = 1.4
CONNECTIVITY_STEPS = 10
CONNECTIVITY_THETA = 0.15


def mse(alpha: Matte, label: Matte) -> float:
    """Return the mean squared error: mean (a - g)^2, in [0, 1]."""
    return float(np.mean(np.square(subtract(alpha, label))))


def mad(alpha: Matte, label: Matte) -> float:
    """Return the mean absolute difference: mean |a - g|, in [0, 1]."""
    return float(np.mean(np.abs(subtract(alpha, label))))


def sad(alpha: Matte, label: Matte) -> float:
    """Return the sum of absolute differences in thousands: sum |a - g| / 1000."""
    return float(np.sum(np.abs(subtract(alpha, label)))) / 1000


def iou(alpha: Matte, label: Matte, threshold: float = 0.5) -> float:
    """Return |A and G| / |A or G|, A = a > threshold, G = g > threshold; 1 if empty."""
    check_shapes(alpha, label)
    found, true = alpha > threshold, label > threshold
    union = np.count_nonzero(found | true)
    return np.count_nonzero(found & true) / union if union else 1.0


def grad(alpha: Matte, label: Matte, sigma: float = GRADIENT_SIGMA) -> float:
    """Return the gradient error in thousands: sum (|grad a| - |grad g|)^2 / 1000.

    The gradient is the response to first-order Gaussian derivatives (Rhemann et al. 2009, q = 2).
    Their benchmark's code scales the two filters to unit energy and cuts them where the Gaussian
    falls below 0.01 (9 x 9 for sigma 1.4); both are done here, borders are repeated.
    """
    check_shapes(alpha, label)
    difference = measure_gradient(alpha, sigma) - measure_gradient(label, sigma)
    return float(np.sum(np.square(difference))) / 1000


def measure_gradient(alpha: Matte, sigma: float) -> Matte:
    """Return the magnitude of the smoothed gradient, (H, W)."""
    radius = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    smooth = np.exp(-(x**2) / (2 * sigma**2))
    derive = x * smooth
    # The energy of the 2-D filter is the product of the two.
    smooth /= np.linalg.norm(smooth)
    derive /= np.linalg.norm(derive)
    alpha = np.asarray(alpha, np.float64)
    along_x = cv2.sepFilter2D(alpha, cv2.CV_64F, derive, smooth, borderType=cv2.BORDER_REPLICATE)
    along_y = cv2.sepFilter2D(alpha, cv2.CV_64F, smooth, derive, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(along_x, along_y)


def conn(alpha: Matte, label: Matte) -> float:
    """Return the connectivity error in thousands: sum |phi(a) - phi(g)| / 1000.

    The source region at threshold t is the largest 4-connected part of {a >= t and g >= t}. With
    l the last threshold (steps of 0.1) up to which a pixel belongs to the source regions of all
    thresholds, d = a - l and phi(a) = 1 - d where d >= theta = 0.15, else 1 (Rhemann et al. 2009,
    p = 1, as in the evaluation code published with "Deep Image Matting", Xu et al. 2017; a known
    Python translation of it takes the background for a region where that is larger, and differs
    by a few per cent).
    """
    check_shapes(alpha, label)
    alpha, label = np.asarray(alpha, np.float64), np.asarray(label, np.float64)
    connected = np.ones(alpha.shape)
    is_open = np.ones(alpha.shape, bool)  # pixels still connected at every threshold so far
    common = np.minimum(alpha, label)
    for step in range(1, CONNECTIVITY_STEPS + 1):
        source = find_largest_region(common >= step / CONNECTIVITY_STEPS)
        leaves = is_open & ~source
        connected[leaves] = (step - 1) / CONNECTIVITY_STEPS
        is_open &= source
    error = np.abs(connectedness(alpha - connected) - connectedness(label - connected))
    return float(np.sum(error)) / 1000


def connectedness(distance: Matte) -> Matte:
    """Return phi: 1 where the distance to the source is below theta, 1 - distance elsewhere."""
    return np.where(distance >= CONNECTIVITY_THETA, 1 - distance, 1.0)


def find_largest_region(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 4-connected region of the set, empty if the set is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        inside.astype(np.uint8), connectivity=4
    )
    if count == 1:  # the background alone
        return np.zeros_like(inside)
    return labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def dtssd(alphas: Iterable[Matte], labels: Iterable[Matte]) -> float:
    """Return the error of the change from frame to frame, times 100.

    dtSSD = mean over t of sqrt(mean over pixels of ((a_t+1 - a_t) - (g_t+1 - g_t))^2) (Erofeev et
    al. 2015). They sum over the pixels; the mean, as in "Robust High-Resolution Video Matting"
    (Lin et al. 2022), makes clips of different sizes comparable. 0 for fewer than two frames.
    """
    errors = (subtract(alpha, label) for alpha, label in zip(alphas, labels, strict=True))
    changes = (after - before for before, after in pairwise(errors))
    return average(math.sqrt(np.mean(np.square(change))) for change in changes) * 100


def messddt(alphas: Iterable[Matte], labels: Iterable[Matte], flows: Iterable[Flow]) -> float:
    """Return how much the squared error changes along the motion, times 100.

    MESSDdt = mean over t and pixels p of |(a_t(p) - g_t(p))^2 - (a_t+1(q) - g_t+1(q))^2|, where
    q = p + v_t(p) is where the motion takes p, rounded to a whole pixel (Erofeev et al. 2015; they
    sum over the pixels). Pixels that leave the picture do not count. `flows` holds one (H, W, 2)
    array (dx, dy in pixels) per pair of frames: see estimate_flow. 0 for fewer than two frames.
    """
    errors = (
        np.square(subtract(alpha, label)) for alpha, label in zip(alphas, labels, strict=True)
    )
    changes = (np.abs(before - after) for before, after in follow(errors, flows) if before.size)
    return average(np.mean(change) for change in changes) * 100


def flicker(alphas: Iterable[Matte], flows: Iterable[Flow]) -> float:
    """Return how much a matte changes along the motion, times 100; it needs no label.

    mean over t of sqrt(mean over pixels of (a_t+1(p + v_t(p)) - a_t(p))^2): dtSSD against a label
    that moves with the picture. Flows as in messddt. A matte that is wrong and steady scores 0, so
    this says something only beside a measure of how right the matte is.
    """
    pairs = (pair for pair in follow(alphas, flows) if pair[0].size)
    return average(math.sqrt(np.mean(np.square(after - before))) for before, after in pairs) * 100


def estimate_flow(image: NDArray[np.uint8], following: NDArray[np.uint8]) -> Flow:
    """Return the motion from one RGB frame to the next: (H, W, 2) float32, dx and dy in pixels.

    Dense inverse search (Kroeger et al., ECCV 2016) on the grey frames, preset `medium`.
    """
    grey, following_grey = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (image, following))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(grey, following_grey, None)


def follow(values: Iterable[Matte], flows: Iterable[Flow]) -> Iterator[tuple[Matte, Matte]]:
    """Yield for each pair of frames the values of the pixels that stay, before and after: 1-D."""
    for (before, after), flow in zip(pairwise(values), flows, strict=True):
        height, width = before.shape
        if flow.shape != (height, width, 2) or after.shape != before.shape:
            raise ValueError(f"flow {flow.shape} between frames {before.shape} and {after.shape}")
        y, x = np.mgrid[:height, :width]
        x = x + np.rint(flow[..., 0]).astype(np.intp)
        y = y + np.rint(flow[..., 1]).astype(np.intp)
        stays = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        yield before[stays], after[y[stays], x[stays]]


def average(values: Iterable[float]) -> float:
    """Return the mean, 0 of nothing."""
    found = list(values)
    return float(sum(found) / len(found)) if found else 0.0


def subtract(alpha: Matte, label: Matte) -> Matte:
    """Return a - g in float64: float32 sums over 10^7 pixels lose digits."""
    check_shapes(alpha, label)
    return np.subtract(alpha, label, dtype=np.float64)


def check_shapes(alpha: Matte, label: Matte) -> None:
    """Raise ValueError unless both are (H, W) floats of one size, H and W at least 1."""
    if alpha.shape != label.shape or alpha.ndim != 2 or not alpha.size:
        raise ValueError(f"the matte has shape {alpha.shape}, the label {label.shape}")
    for array in (alpha, label):
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"mattes are floats in [0, 1], not {array.dtype}")
