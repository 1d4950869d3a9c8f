"""Sample number n of a stage: the same picture whoever asks for it, in whatever order."""

import signal
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import DataConfig, StageConfig
from training.data.pairs import DataError, Pair
from training.data.photos import load_background, load_photo
from training.data.transforms import make_sample


class Samples(Dataset):
    """The samples of one stage, numbered from 0 on without end.

    Epochs are permutations of the photos. All that is random about a sample comes from the seed,
    the stage, the epoch and its index there; the size of a batch from the number of the batch.
    """

    def __init__(
        self,
        pairs: list[Pair],
        backgrounds: list[Path],
        config: DataConfig,
        stage: StageConfig,
        key: tuple[int, int],
    ) -> None:
        """`key` is (seed, number of the stage)."""
        if not backgrounds and config.paste_share + config.empty_share > 0:
            raise DataError("no backgrounds: name a folder in data.backgrounds, or set shares to 0")
        self.pairs, self.backgrounds = pairs, backgrounds
        self.config, self.stage, self.key = config, stage, key

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return image (3, H, W), alpha (1, H, W) and trimap (1, H, W) in {0, 1, 2}, all uint8."""
        epoch, index = divmod(number, len(self.pairs))
        order = np.random.default_rng((*self.key, epoch)).permutation(len(self.pairs))
        rng = np.random.default_rng((*self.key, epoch, index))
        kind, has_second = rng.random(), rng.random() < self.config.second_person_share
        second = self.pairs[rng.integers(len(self.pairs))]
        background, people = None, [self.pairs[order[index]]]
        if kind < self.config.paste_share + self.config.empty_share:
            background = self.backgrounds[rng.integers(len(self.backgrounds))]
        if kind < self.config.empty_share:
            people = []
        elif background is not None and has_second:
            people = [second, *people]
        cache, max_side = Path(self.config.cache), self.config.max_side
        sample = make_sample(
            [load_photo(pair, cache, max_side) for pair in people],
            None if background is None else load_background(background, cache, max_side),
            self.choose_size(number),
            rng,
        )
        image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
        return image, torch.from_numpy(sample.alpha[None]), torch.from_numpy(sample.trimap[None])

    def choose_size(self, number: int) -> tuple[int, int]:
        """Return the (height, width) of the batch to which a sample belongs."""
        batch = number // self.stage.batch_size
        rng = np.random.default_rng((*self.key, batch))
        return self.stage.sizes[rng.integers(len(self.stage.sizes))]


def make_loader(samples: Samples, first_step: int, last_step: int, is_pinned: bool) -> DataLoader:
    """Return the batches of steps `first_step` to `last_step` - 1 of a stage."""
    size, workers = samples.stage.batch_size, samples.config.workers
    cv2.setNumThreads(1)  # workers inherit or repeat it: many threads on busy cores wait
    return DataLoader(
        samples,
        batch_size=size,
        sampler=range(first_step * size, last_step * size),
        num_workers=workers,
        worker_init_fn=start_worker,
        pin_memory=is_pinned,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # else each loader would draw from the one of the run
    )


def start_worker(worker: int) -> None:
    """Keep a worker to one core, and let the trainer decide when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def find_message(error: DataError) -> str:
    """Return the one line of an error that may have come out of a worker with its traceback."""
    return (
        str(error)
        .strip()
        .splitlines()[-1]
        .removeprefix(f"{DataError.__module__}.{DataError.__name__}: ")
    )
