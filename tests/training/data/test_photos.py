import os
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from training.data.pairs import DataError, Pair, find_images, find_pairs
from training.data.photos import load_background, load_photo
from training.data.synthetic import SIZE, draw_data_set


@pytest.fixture
def pair(tmp_path) -> Pair:
    folder = draw_data_set(tmp_path, 2)
    return find_pairs(folder)[0]


def test_prepared_photo_holds_photo_foreground_and_alpha(tmp_path, pair):
    layers = load_photo(pair, tmp_path / "cache", 1000)
    assert layers.shape == (2, SIZE, SIZE, 4) and layers.dtype == np.uint8
    photo, alpha = cv2.imread(str(pair.photo))[:, :, ::-1], cv2.imread(str(pair.alpha), 0)
    assert np.abs(layers[0, :, :, :3].astype(int) - photo).max() <= 2  # two JPEG decoders
    assert (layers[..., 3] == alpha).all()
    assert (layers[1, alpha == 255, :3] == layers[0, alpha == 255, :3]).mean() > 0.99
    with pytest.raises(ValueError, match="read-only"):
        layers[0, 0, 0, 0] = 1


def test_broken_pixels_are_named_when_they_are_read(tmp_path, pair):
    pair.photo.write_bytes(pair.photo.read_bytes()[:-1000])
    assert find_pairs(pair.photo.parent)  # the header is whole
    with pytest.raises(DataError, match=r"\.jpg: not a readable picture$"):
        load_photo(pair, tmp_path / "cache", 64)
    assert not list((tmp_path / "cache").iterdir())


def test_large_photos_are_kept_smaller(tmp_path, pair):
    assert load_photo(pair, tmp_path / "cache", 80).shape == (2, 80, 80, 4)
    background = find_images(pair.photo.parent / "backgrounds")[0]
    assert load_background(background, tmp_path / "cache", 40).shape == (40, 40, 3)


def test_photo_is_prepared_once_and_again_when_its_file_changes(tmp_path, pair, monkeypatch):
    cache, first = tmp_path / "cache", None
    first = np.array(load_photo(pair, cache, 160))
    with monkeypatch.context() as patch:
        patch.setattr("training.data.photos.prepare_photo", None)  # would be called in vain
        assert (load_photo(pair, cache, 160) == first).all()
    assert cv2.imwrite(str(pair.photo), np.full((SIZE, SIZE, 3), 200, np.uint8))
    os.utime(pair.photo, ns=(1, 1))
    assert not (load_photo(pair, cache, 160)[0] == first[0]).all()


def test_data_set_that_is_copied_or_unpacked_again_keeps_its_cache(tmp_path, pair, monkeypatch):
    cache = tmp_path / "cache"
    first = np.array(load_photo(pair, cache, 160))
    os.utime(pair.photo, ns=(1, 1))
    elsewhere = tmp_path / "elsewhere.jpg"
    elsewhere.write_bytes(pair.photo.read_bytes())
    monkeypatch.setattr("training.data.photos.prepare_photo", None)  # would be called in vain
    for photo in (pair.photo, elsewhere):
        assert (load_photo(replace(pair, photo=photo), cache, 160) == first).all()


def test_broken_cache_entry_is_made_again(tmp_path, pair):
    cache = tmp_path / "cache"
    first = np.array(load_photo(pair, cache, 160))
    (entry,) = cache.glob("*.npy")
    entry.write_bytes(entry.read_bytes()[:100])
    assert (load_photo(pair, cache, 160) == first).all()
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


def test_many_may_prepare_one_photo_at_once(tmp_path, pair):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_photo(pair, tmp_path / "cache", 160)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all((layers == found[0]).all() for layers in found)
