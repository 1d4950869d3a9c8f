"""Guided upsampling of the alpha of a clip's frame by its luma alone."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.matting.cleanup import settle_ends
from service.matting.refine import find_band
from service.matting.resize import resize_alpha

Floats = NDArray[np.float32]
Luma = NDArray[np.uint8]

WINDOW = 3, 3  # pixels of the matte; wider ones serve three colours better, and luma worse
EPSILON = 1e-4  # variance of luma in [0, 1] below which a window counts as flat


def refine_on_luma(luma: Luma, alpha: Floats, small: Luma) -> Floats:
    """Return the settled matte at the size of a frame, its edges where the luma has them.

    `luma` is (H, W) uint8, `small` the same at the size of the matte, `alpha` (h, w) float32 in
    [0, 1]; the result is (H, W) float32 in [0, 1], its faint remains gone (`settle_ends`). Fast
    guided filter (He and Sun, arXiv:1505.00996) as in `refine_alpha`, with one channel in place of
    three: a quarter of the work. A frame no larger than the matte gets the resized matte.
    """
    height, width = luma.shape
    band = find_band(alpha)
    if height * width <= alpha.size or not band.any():
        return settle_ends(resize_alpha(alpha, height, width))
    slope, constant = fit_luma(small.astype(np.float32) / np.float32(255), alpha)
    # Beside the band the matte stays as it is; the luma of the frame goes to 255.
    fade = cv2.blur(band.astype(np.float32), (3, 3))
    slope *= fade / np.float32(255)
    constant = alpha + fade * (constant - alpha)
    refined = cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR)
    refined *= luma
    refined += cv2.resize(constant, (width, height), interpolation=cv2.INTER_LINEAR)
    np.clip(refined, 0, 1, out=refined)
    return settle_ends(refined, out=refined)


def fit_luma(luma: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Return the slope and the constant, (h, w) each, that give alpha from luma in [0, 1].

    Least squares in each window with a ridge of EPSILON, then the mean over the windows that hold
    the pixel (He et al., "Guided Image Filtering", 2013, section 3.1).
    """

    def mean(x: Floats) -> Floats:
        return cv2.blur(x, WINDOW, borderType=cv2.BORDER_REFLECT_101)

    mean_luma, mean_alpha = mean(luma), mean(alpha)
    variance: Floats = mean(luma * luma) - mean_luma * mean_luma
    np.maximum(variance, 0, out=variance)  # its rounding errors
    variance += np.float32(EPSILON)
    covariance: Floats = mean(luma * alpha) - mean_luma * mean_alpha
    slope: Floats = covariance / variance
    return mean(slope), mean(mean_alpha - slope * mean_luma)
