"""Reduction factors for wide blurs."""


def choose_blur_size(
    height: int, width: int, sigma: float, fine_sigma: float
) -> tuple[tuple[int, int], float]:
    """Return ((w, h), scale) of the picture to blur instead, whose sigma is `sigma * scale`.

    The scaled sigma is not below `fine_sigma` pixels, nor the shorter side below 64: there the
    picture's border would weigh too much.
    """
    scale = min(1.0, max(fine_sigma / sigma, 64 / min(height, width)))
    return (max(1, round(width * scale)), max(1, round(height * scale))), scale
