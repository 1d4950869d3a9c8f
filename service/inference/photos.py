"""The passes of a network over a photo: one, or two where the model says so."""

import numpy as np
from numpy.typing import NDArray

from service.inference.engine import Engine
from service.inference.models import ModelInfo, NetworkInput
from service.inference.preprocessing import choose_input_size, prepare_at
from service.matting.passes import join_passes
from service.matting.resize import halve

# What the network is given, and the picture (h, w, 3) uint8 that it was made of.
NetworkPicture = tuple[NetworkInput, NDArray[np.uint8]]


def list_photo_sizes(
    info: ModelInfo, shape: tuple[int, ...], ref_size: int | None
) -> tuple[int | None, ...]:
    """Return the shorter side at the network for each pass over a photo of a shape (H, W, ...).

    None: the model's own. A photo that is smaller than a pass passes once: it has no more to show.
    """
    sizes = info.photo_ref_sizes
    if ref_size is None and sizes is not None and min(shape[:2]) > sizes[0]:
        return sizes
    return (ref_size,)


def prepare_passes(
    photo: NDArray[np.uint8],
    info: ModelInfo,
    max_megapixels: float,
    ref_size: int | None = None,
    trimap: NDArray[np.uint8] | None = None,
) -> list[NetworkPicture]:
    """Return what the network is given for each pass over an (H, W, 3) uint8 RGB photo.

    The largest is the last. `trimap` is (H, W) uint8. Raises InvalidOption.
    """
    sizes = [
        choose_input_size(photo.shape[:2], info, side, max_megapixels)
        for side in list_photo_sizes(info, photo.shape, ref_size)
    ]
    halved = halve(photo, sizes[-1])  # what all begin with
    return [prepare_at(halved, info, size, trimap) for size in sizes]


def run_passes(engine: Engine, passes: list[NetworkPicture]) -> NDArray[np.float32]:
    """Return the matte (h, w) of a photo by what `prepare_passes` made of it."""
    mattes = [engine.run(tensor[np.newaxis])[0] for tensor, _ in passes]
    return join_passes(*mattes) if len(mattes) > 1 else mattes[0]


def run_photo(
    engine: Engine, photo: NDArray[np.uint8], max_megapixels: float, ref_size: int | None = None
) -> NDArray[np.float32]:
    """Return the matte (h, w) of an (H, W, 3) uint8 RGB photo, as it is served but for refining."""
    return run_passes(engine, prepare_passes(photo, engine.info, max_megapixels, ref_size))
