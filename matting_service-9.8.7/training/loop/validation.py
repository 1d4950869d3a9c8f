"""How good the network is on photos it does not learn from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Config
from training.data.pairs import Pair
from training.data.photos import load_photo
from training.data.transforms import make_trimap
from training.evaluation.metrics import iou, mad, mse
from training.evaluation.predictor import choose_size, make_tensor, resize_alpha
from training.network.networks import Network


class Scores(NamedTuple):
    """Means over photos; see training/metrics.py."""

    mad: float
    mse: float
    iou: float


class Prediction(NamedTuple):
    """image (H, W, 3) uint8; alpha and matte (H, W) float32 in [0, 1]."""

    id: str
    image: np.ndarray
    alpha: np.ndarray
    matte: np.ndarray


def validate(
    model: Network, pairs: list[Pair], config: Config, is_semantic: bool = False
) -> tuple[dict[str, Scores], list[Prediction]]:
    """Return the scores on `pairs` and the predictions of a few of them, for the sheet.

    The scores are those of all pairs under "", and, where there are several data sets, of each
    under its name. The model is in evaluation mode. With `is_semantic` its low-resolution
    prediction is judged, while the others do not learn.
    """
    scores, predictions = [], []
    shown = np.linspace(0, len(pairs) - 1, min(len(pairs), config.validation.sheet_photos))
    for index, pair in enumerate(pairs):
        photo = load_photo(pair, Path(config.data.cache), config.data.max_side)[0]
        image, stored = np.array(photo[:, :, :3]), np.array(photo[:, :, 3])
        alpha = np.float32(stored) / 255
        size = choose_size(*alpha.shape, config.validation.ref_size)
        x = torch.from_numpy(make_tensor(image, size))[None]
        if model.architecture["in_channels"] == 4:
            # The same trimap each time, as if somebody had drawn it.
            trimap = make_trimap(stored, np.random.default_rng(index))
            x = append_trimap(x, torch.from_numpy(np.float32(trimap) / 2)[None, None])
        matte = resize_alpha(predict(model, x, is_semantic), *alpha.shape)
        scores.append((mad(matte, alpha), mse(matte, alpha), iou(matte, alpha)))
        if index in np.rint(shown):
            predictions.append(Prediction(pair.id, image, alpha, matte))
    return average_by_data_set(pairs, np.array(scores)), predictions


def average_by_data_set(pairs: list[Pair], scores: np.ndarray) -> dict[str, Scores]:
    """Return the means of (N, 3) scores: of all under "", of each data set where there are more."""
    means = {"": Scores(*scores.mean(axis=0).tolist())}
    names = np.array([pair.data_set for pair in pairs])
    found = list(dict.fromkeys(names.tolist()))
    for name in found if len(found) > 1 else []:
        means[name] = Scores(*scores[names == name].mean(axis=0).tolist())
    return means


def append_trimap(image: Tensor, trimap: Tensor) -> Tensor:
    """Return (N, 4, H, W): an image in [-1, 1], then a trimap (0, 0.5, 1) brought to [-1, 1]."""
    trimap = F.interpolate(trimap, image.shape[2:], mode="nearest")
    return torch.cat([image, trimap * 2 - 1], dim=1)


@torch.no_grad()
def predict(model: Network, x: Tensor, is_semantic: bool) -> np.ndarray:
    """Return the matte, or the semantic prediction at a sixteenth of its size, (h, w) float32."""
    x = x.to(next(model.parameters()).device)
    matte = model.lr_branch(x, inference=False)[0] if is_semantic else model(x, inference=True)[2]
    return matte[0, 0].float().clamp(0, 1).cpu().numpy()
