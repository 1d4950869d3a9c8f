"""The passes of a network over a photo: one, or two where the model says so."""

import numpy as np
from numpy.typing import NDArray

from service.inference.engine import Engine
from service.inference.models import ModelInfo
from service.inference.preprocessing import fit_to_network
from service.matting.passes import join_passes


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


def run_photo(
    engine: Engine, photo: NDArray[np.uint8], max_megapixels: float, ref_size: int | None = None
) -> NDArray[np.float32]:
    """Return the matte (h, w) of an (H, W, 3) uint8 RGB photo, as it is served but for refining."""
    mattes = []
    for size in list_photo_sizes(engine.info, photo.shape, ref_size):
        tensor = fit_to_network(photo, engine.info, size, max_megapixels)
        mattes.append(engine.run(tensor[np.newaxis])[0])
    return join_passes(*mattes) if len(mattes) > 1 else mattes[0]
