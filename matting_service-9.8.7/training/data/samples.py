"""Sample number n of an epoch: the same picture whoever asks for it, in whatever order."""

import signal
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import DataConfig, StageConfig
from training.data.pairs import DataError, Pair
from training.data.photos import load_background, load_photo
from training.data.transforms import make_sample

NO_PHOTO = -1
# What a random generator is for: the first number of its seed.
SAMPLE, SIZE, ORDER = range(3)

Key = tuple[int, int, int]  # seed, number of the stage, number of the epoch


class Batch(NamedTuple):
    """image (N, 3, H, W), alpha (N, 1, H, W) and trimap (N, 1, H, W) in {0, 1, 2}, all uint8.

    `photo` (N,) int64 is the number of the photo that was taken as it is, NO_PHOTO for a montage;
    `cpu_ms` (N,) float64 is what making the sample cost.
    """

    image: Tensor
    alpha: Tensor
    trimap: Tensor
    photo: Tensor
    cpu_ms: Tensor


class Samples(Dataset):
    """The samples of one epoch, numbered from 0 on.

    All that is random about a sample comes from the key and its number, the size of a batch from
    the key and the number of the batch.
    """

    def __init__(
        self,
        pairs: list[Pair],
        backgrounds: list[Path],
        config: DataConfig,
        stage: StageConfig,
        key: Key,
        order: np.ndarray,
    ) -> None:
        """`order` holds the photo of each sample, an index of `pairs`; see sampling.draw_order."""
        if not backgrounds and config.paste_share + config.empty_share > 0:
            raise DataError("no backgrounds: name a folder in data.backgrounds, or set shares to 0")
        self.pairs, self.backgrounds = pairs, backgrounds
        self.config, self.stage, self.key, self.order = config, stage, key, order

    def __getitem__(self, number: int) -> Batch:
        """Return a sample, each field without the first axis."""
        start = time.thread_time()
        rng = np.random.default_rng((SAMPLE, *self.key, number))
        photo = int(self.order[number])
        kind, has_second = rng.random(), rng.random() < self.config.second_person_share
        second = self.pairs[self.order[rng.integers(len(self.order))]]
        background, people = None, [self.pairs[photo]]
        if kind < self.config.paste_share + self.config.empty_share:
            background = self.backgrounds[rng.integers(len(self.backgrounds))]
            photo = NO_PHOTO
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
        alpha, trimap = torch.from_numpy(sample.alpha[None]), torch.from_numpy(sample.trimap[None])
        cpu_ms = (time.thread_time() - start) * 1e3
        return Batch(image, alpha, trimap, torch.tensor(photo), torch.tensor(cpu_ms).double())

    def choose_size(self, number: int) -> tuple[int, int]:
        """Return the (height, width) of the batch to which a sample belongs."""
        batch = number // self.stage.batch_size
        rng = np.random.default_rng((SIZE, *self.key, batch))
        return self.stage.sizes[rng.integers(len(self.stage.sizes))]


def make_loader(
    samples: Samples, first_step: int, last_step: int, is_pinned: bool, part: tuple[int, int]
) -> DataLoader:
    """Return the batches of steps `first_step` to `last_step` - 1 of an epoch.

    `part` is (number, count): of each batch the numbered one of so many equal parts.
    """
    size, workers = samples.stage.batch_size, samples.config.workers
    share = size // part[1]
    numbers = [
        step * size + part[0] * share + index
        for step in range(first_step, last_step)
        for index in range(share)
    ]
    cv2.setNumThreads(1)  # workers inherit or repeat it: many threads on busy cores wait
    return DataLoader(
        samples,
        batch_size=share,
        sampler=numbers,
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
    name = f"{DataError.__module__}.{DataError.__qualname__}: "
    return str(error).strip().splitlines()[-1].removeprefix(name)
