"""Thousands of damaged files through one decoder child: pictures, clips, or refusals.

The same mutants go through a whole service in tests/gate, ten times as many.
"""

import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from service.errors import DecoderCrashed, MattingError
from service.media.decoder.client import Decoder
from service.settings import Settings
from tests.gate.mutants import damage, make_clips, make_images

IMAGES, CLIPS = 4000, 1000
MOST_CRASHES = 5  # each costs its sender a 422, and a new child half a second
# A clip of eight frames may claim more; no frame of these costs a second.
LIMITS = {"decoder_timeout_s": 60, "video_max_frames": 100}


class OneChild:
    """One child at a time, a new one when it has ended, and what came of each file."""

    def __init__(self) -> None:
        self.settings = Settings(**LIMITS)
        self.outcomes = Counter[str]()
        self.crashed: list[bytes] = []
        self.decoder = Decoder(self.settings)

    def try_file(self, data: bytes, *, is_clip: bool) -> None:
        if not self.decoder.is_alive():
            self.decoder.close()
            self.decoder = Decoder(self.settings)
        try:
            (self.read_clip if is_clip else self.read_image)(data)
            self.outcomes["read"] += 1
        except DecoderCrashed:
            self.crashed.append(data)
        except MattingError as error:
            assert error.status in (415, 422), error
            self.outcomes["refused"] += 1

    def read_image(self, data: bytes) -> None:
        if self.decoder.open_image(data).megapixels < 1:
            self.decoder.decode_image()

    def read_clip(self, data: bytes) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            info = self.decoder.open_video(file, max_s=100)
            for _ in self.decoder.read_video(info):
                pass


@pytest.fixture
def child():
    one = OneChild()
    yield one
    one.decoder.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind, count", [("images", IMAGES), ("clips", CLIPS)])
def test_damaged_files_are_read_or_refused(child, tmp_path: Path, kind: str, count: int) -> None:
    chance = random.Random(17)
    sources = [*(make_images() if kind == "images" else make_clips(tmp_path)).values()]
    for _ in range(count):
        child.try_file(damage(chance.choice(sources), chance), is_clip=kind == "clips")
    assert len(child.crashed) <= MOST_CRASHES
    assert child.outcomes.total() + len(child.crashed) == count
    assert min(child.outcomes["read"], child.outcomes["refused"]) > count // 20, child.outcomes
