"""Which photo is drawn how often: by kind, by data set, and by how hard it is."""

import difflib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from training.data.pairs import DataError, Pair

UNSEEN = -1.0


def make_shares(pairs: list[Pair], weights: Mapping[str, float], balance: float) -> np.ndarray:
    """Return the share of each photo in the draws, (N,) float64, sum 1.

    The draws of a kind grow with the number of its photos to the power of `balance` (1: every photo
    alike, 0: every kind alike), times the weights named after the kind and after its data set.
    Raises DataError for a weight of nothing that is there.
    """
    names = {name for pair in pairs for name in (pair.kind, pair.data_set)}
    for name in weights:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
            problem = f"data.weights: no kind and no data set {name}, did you mean {nearest}?"
            raise DataError(problem)
    shares = np.zeros(len(pairs))
    for members in group_kinds(pairs):
        pair = pairs[members[0]]
        total = len(members) ** balance * weights.get(pair.kind, 1.0)
        if pair.data_set != pair.kind:
            total *= weights.get(pair.data_set, 1.0)
        shares[members] = total / len(members)
    if not shares.sum() > 0:
        raise DataError("data.weights: at least one must be above 0")
    return shares / shares.sum()


def group_kinds(pairs: list[Pair]) -> list[np.ndarray]:
    """Return the indices of the photos of each kind of each data set."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault((pair.data_set, pair.kind), []).append(index)
    return [np.array(group) for group in groups.values()]


def favour_hard(
    shares: np.ndarray, errors: np.ndarray, pairs: list[Pair], cap: float
) -> np.ndarray:
    """Return the shares with hard photos drawn up to `cap` times as often as easy ones.

    `errors` (N,) are UNSEEN of photos that were not drawn yet, which weigh 1. Each other photo
    weighs as much as its error over the median error of its kind, from 1 to `cap`; the kinds keep
    their shares.
    """
    result = shares.copy()
    for members in group_kinds(pairs):
        own = errors[members]
        seen = own[own != UNSEEN]
        if cap <= 1 or not len(seen):
            continue
        weight = np.clip(own / max(float(np.median(seen)), 1e-6), 1.0, cap)
        result[members] *= weight * shares[members].sum() / (shares[members] * weight).sum()
    return result


def draw_order(shares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` photos in random order, each as often as its share says, to within one."""
    shuffled = rng.permutation(len(shares))
    edges = np.cumsum(shares[shuffled])
    # One point in each of `count` equal parts: no photo is left to luck.
    points = (np.arange(count) + rng.random()) / count * edges[-1]
    drawn = shuffled[np.searchsorted(edges, points, side="right").clip(max=len(shares) - 1)]
    return rng.permutation(drawn)


class PhotoErrors:
    """How wrong the network was on each photo when it last saw it.

    `drawn` are the errors by which the present epoch was drawn, `latest` those known by now.
    """

    def __init__(self, pairs: list[Pair]) -> None:
        self.key = zlib.crc32("\n".join(pair.id for pair in pairs).encode())
        self.latest = self.drawn = np.full(len(pairs), UNSEEN)

    def forget(self) -> None:
        """Begin anew."""
        self.latest = self.drawn = np.full(len(self.latest), UNSEEN)

    def begin_epoch(self) -> None:
        self.drawn = self.latest

    def note(self, photos: np.ndarray, errors: np.ndarray) -> None:
        """Take the errors of a batch; a negative number stands for no photo."""
        is_photo = photos >= 0
        self.latest = self.latest.copy()
        self.latest[photos[is_photo]] = errors[is_photo]

    def state_dict(self) -> dict[str, Any]:
        """Return what load_state_dict takes."""
        arrays = {"latest": torch.from_numpy(self.latest), "drawn": torch.from_numpy(self.drawn)}
        return {"key": self.key, **arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the errors of the same photos; those of others are of no use."""
        if state["key"] == self.key:
            self.latest, self.drawn = (state[name].numpy() for name in ("latest", "drawn"))
