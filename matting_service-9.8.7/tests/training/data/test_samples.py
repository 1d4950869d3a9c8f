import dataclasses
import itertools

import numpy as np
import pytest
import torch

from training.config import DataConfig, StageConfig
from training.data.pairs import DataError, find_backgrounds, find_pairs
from training.data.samples import Samples, find_message, make_loader
from training.data.synthetic import draw_data_set

STAGE = StageConfig(
    name="all", epochs=1, batch_size=4, sizes=((64, 64), (96, 32), (32, 96)), lr=1e-3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_data_set(tmp_path_factory.mktemp("samples"), 6)


def make_samples(folder, key=(0, 0, 0), **changes) -> Samples:
    config = DataConfig(cache=str(folder.parent / "cache"), workers=0)
    config = dataclasses.replace(config, **changes)
    pairs = find_pairs(folder)
    order = np.arange(80) % len(pairs)
    return Samples(pairs, find_backgrounds([folder]), config, STAGE, key, order)


def list_batches(samples, first, last, part=(0, 1)):
    loader = make_loader(samples, first, last, is_pinned=False, part=part)
    return [batch[:4] for batch in loader]


def are_equal(one, two) -> bool:
    pairs = zip(itertools.chain(*one), itertools.chain(*two), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_do_not_depend_on_the_workers(folder, workers):
    one = list_batches(make_samples(folder), 0, 5)
    assert are_equal(one, list_batches(make_samples(folder, workers=workers), 0, 5))


def test_a_later_start_gives_the_same_batches(folder):
    whole = list_batches(make_samples(folder), 0, 6)
    assert are_equal(whole[4:], list_batches(make_samples(folder), 4, 6))


@pytest.mark.parametrize("key", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_other_seeds_and_stages_give_other_samples(folder, key):
    one, other = make_samples(folder)[0], make_samples(folder, key)[0]
    assert one[0].shape != other[0].shape or not torch.equal(one[0], other[0])


def test_samples_are_new_in_each_epoch(folder):
    samples = make_samples(folder, paste_share=0.0, empty_share=0.0)
    images = [samples[number][0] for number in range(2 * len(samples.pairs))]
    for one, two in itertools.combinations(images, 2):
        assert one.shape != two.shape or not torch.equal(one, two)


def test_each_batch_has_one_of_the_sizes(folder):
    batches = list_batches(make_samples(folder), 0, 20)
    shapes = {tuple(image.shape[2:]) for image, *_ in batches}
    assert shapes == set(STAGE.sizes)
    for image, alpha, trimap, _ in batches:
        assert image.shape[:2] == (4, 3) and alpha.shape == trimap.shape == (4, 1, *image.shape[2:])
        assert {tensor.dtype for tensor in (image, alpha, trimap)} == {torch.uint8}
        assert set(trimap.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 12), (0.5, 6)])
def test_share_of_pictures_without_people(folder, share, expected):
    samples = make_samples(folder, empty_share=share, paste_share=0.0)
    empty = sum(not samples[number][1].any() for number in range(12))
    assert abs(empty - expected) <= (3 if 0 < share < 1 else 0)


def test_photos_alone_suffice_where_nothing_is_pasted(folder):
    config = DataConfig(cache=str(folder.parent / "cache"), paste_share=0.0, empty_share=0.0)
    order = np.arange(6)
    assert Samples(find_pairs(folder), [], config, STAGE, (0, 0, 0), order)[3][1].any()
    with pytest.raises(DataError, match="^no backgrounds: name a folder"):
        Samples(find_pairs(folder), [], DataConfig(), STAGE, (0, 0, 0), order)


def test_error_in_a_worker_is_one_line(tmp_path):
    broken = draw_data_set(tmp_path, 2)
    samples = make_samples(broken, workers=1, paste_share=0.0, empty_share=0.0)
    for pair in samples.pairs:
        pair.photo.write_bytes(pair.photo.read_bytes()[:-1000])
    with pytest.raises(DataError) as caught:
        list_batches(samples, 0, 1)
    message = find_message(caught.value)
    assert message.startswith(str(broken)) and message.endswith(".jpg: not a readable picture")
