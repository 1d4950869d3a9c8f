"""From pixels to the network's input tensor."""

import cv2
import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidOption
from service.inference.models import ModelInfo, NetworkInput, Numbers
from service.matting.resize import resize_image

MIN_SIDE = 32
MAX_ENLARGED = 4


def choose_size(
    height: int, width: int, *, ref_size: int, stride: int, max_megapixels: float
) -> tuple[int, int]:
    """Return the network's (height, width) for a picture: multiples of `stride`.

    The shorter side becomes `ref_size`, the longer one keeps the ratio as nearly as the stride
    lets it; extreme shapes are shrunk until the area is at most `max_megapixels`, each side at
    least 32. A picture is not enlarged beyond MAX_ENLARGED times `ref_size`: a thread of pixels
    has nothing to show for it.
    """
    scale = ref_size / min(height, width)
    if scale > 1:
        scale = max(1.0, min(scale, MAX_ENLARGED * ref_size / max(height, width)))
    area = height * scale * width * scale
    if area > max_megapixels * 1e6:
        scale *= (max_megapixels * 1e6 / area) ** 0.5

    def fit(side: int, room: float) -> int:
        return max(MIN_SIDE, stride * round(min(side * scale, room) / stride))

    short = fit(min(height, width), np.inf)
    # Rounding up both sides could pass the limit, and a side at its floor leaves the other less.
    longest = stride * int(max_megapixels * 1e6 / short / stride)
    long = min(fit(max(height, width), longest), max(longest, MIN_SIDE))
    return (short, long) if height <= width else (long, short)


def make_tensor(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    *,
    mean: Numbers,
    std: Numbers,
    channel_order: str = "rgb",
) -> NDArray[np.float32]:
    """Return (3, h, w) float32 for an (H, W, 3) uint8 RGB picture.

    Values are (x / 255 - mean) / std, [-1, 1] for MODNet's 0.5 and 0.5; the channels lie in
    `channel_order`, and `mean` and `std` with them.
    """
    step = -1 if channel_order == "bgr" else 1
    scale, offset = (np.array(values, np.float64).reshape(-1, 1, 1) for values in (std, mean))
    tensor = np.empty((3, *size), np.float32)
    pixels = resize_image(image, size).transpose(2, 0, 1)[::step]
    np.multiply(pixels, 1 / (255 * scale), out=tensor, casting="same_kind")
    tensor -= np.float32(offset / scale)
    return tensor


def fit_to_network(
    image: NDArray[np.uint8],
    info: ModelInfo,
    ref_size: int | None,
    max_megapixels: float,
    trimap: NDArray[np.uint8] | None = None,
) -> NetworkInput:
    """Return the network's input for an (H, W, 3) uint8 RGB picture: (C, h, w) float32.

    Where `info.takes_pixels` it is (h, w, 3) uint8.

    `ref_size` None takes the model's own. `trimap` is (H, W) uint8, dark: background, bright:
    foreground, between: unknown; for a model that takes one.
    """
    return prepare_input(image, info, ref_size, max_megapixels, trimap)[0]


def choose_input_size(
    shape: tuple[int, ...],
    info: ModelInfo,
    ref_size: int | None,
    max_megapixels: float,
    pixel_shape: float = 1,
) -> tuple[int, int]:
    """Return the network's (height, width) for a picture of a shape; raises InvalidOption.

    `pixel_shape`: how wide a pixel is for its height; the network sees people as they are shown.
    """
    check_ref_size(info, ref_size)
    height, width = shape
    return info.fixed_size or choose_size(
        round(height * max(1.0, 1 / pixel_shape)),
        round(width * max(1.0, pixel_shape)),
        ref_size=ref_size or info.ref_size,
        stride=info.stride,
        max_megapixels=max_megapixels,
    )


def check_ref_size(info: ModelInfo, ref_size: int | None) -> None:
    """Refuse a size where the network takes one alone; raises InvalidOption."""
    if info.fixed_size is not None and ref_size is not None:
        height, width = info.fixed_size
        raise InvalidOption(
            f"the model `{info.name}` takes {width} x {height} pixels and no other size",
            hint="leave out ref_size",
        )


def prepare_input(
    image: NDArray[np.uint8],
    info: ModelInfo,
    ref_size: int | None,
    max_megapixels: float,
    trimap: NDArray[np.uint8] | None = None,
    pixel_shape: float = 1,
) -> tuple[NetworkInput, NDArray[np.uint8]]:
    """Return what `fit_to_network` does and the picture (h, w, 3) uint8 that it was made of.

    `pixel_shape`: how wide a pixel of `image` is for its height. Raises InvalidOption for a
    `ref_size` where the network takes one size alone.
    """
    size = choose_input_size(image.shape[:2], info, ref_size, max_megapixels, pixel_shape)
    return prepare_at(image, info, size, trimap)


def prepare_at(
    image: NDArray[np.uint8],
    info: ModelInfo,
    size: tuple[int, int],
    trimap: NDArray[np.uint8] | None = None,
) -> tuple[NetworkInput, NDArray[np.uint8]]:
    """Do what `prepare_input` does for a size (h, w)."""
    network_image = resize_image(image, size)
    tensor = normalise(network_image, info)
    if trimap is not None:
        tensor = np.concatenate([tensor, make_trimap_channel(trimap, size)])
    return tensor, network_image


def normalise(network_image: NDArray[np.uint8], info: ModelInfo) -> NetworkInput:
    """Return (3, h, w) float32 for an (h, w, 3) uint8 RGB picture of the network's size.

    Where `info.takes_pixels` the network does that itself, and gets the picture.
    """
    if info.takes_pixels:
        return network_image
    height, width = network_image.shape[:2]
    return make_tensor(
        network_image,
        (height, width),
        mean=info.mean,
        std=info.std,
        channel_order=info.channel_order,
    )


def make_trimap_channel(trimap: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (1, h, w) float32: -1 background, 0 unknown, 1 foreground, as in training.

    Each pixel counts as the nearest of 0, 128 and 255: an editor may have smoothed the edges.
    """
    height, width = size
    small = cv2.resize(trimap, (width, height), interpolation=cv2.INTER_NEAREST)
    channel: NDArray[np.float32] = np.rint(small[np.newaxis] / np.float32(127.5)) - 1
    return channel
