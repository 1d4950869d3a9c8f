from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.pairs import LAYOUTS, DataError, find_backgrounds, find_images, find_pairs
from training.data.synthetic import draw_data_set

REAL = Path(__file__).parents[4] / "shared" / "matting-data"


def write_picture(path: Path, height: int = 8, width: int = 10, channels: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, channels) if channels > 1 else (height, width)
    assert cv2.imwrite(str(path), np.full(shape, 200, np.uint8))


def write_pair(photo: Path, alpha: Path) -> None:
    write_picture(photo)
    write_picture(alpha, channels=1)


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=str)
def test_pairs_are_found_in_each_layout(tmp_path, names):
    for stem in ("b", "a"):
        write_pair(tmp_path / names[0] / f"{stem}.jpg", tmp_path / names[1] / f"{stem}.png")
    pairs = find_pairs(tmp_path)
    assert [pair.id for pair in pairs] == [f"{names[0]}/a", f"{names[0]}/b"]
    assert pairs[0].alpha == tmp_path / names[1] / "a.png"


def test_p3m_is_found_as_it_is_unpacked(tmp_path):
    for folder, photos in (
        ("train", "blurred_image"),
        ("validation/P3M-500-P", "blurred_image"),
        ("validation/P3M-500-NP", "original_image"),
    ):
        root = tmp_path / folder
        write_pair(root / photos / "p_1.jpg", root / "mask" / "p_1.png")
        write_picture(root / "trimap" / "p_1.png", channels=1)
    splits = {pair.id: pair.split for pair in find_pairs(tmp_path)}
    assert splits == {
        "train/blurred_image/p_1": "train",
        "validation/P3M-500-P/blurred_image/p_1": "val",
        "validation/P3M-500-NP/original_image/p_1": "val",
    }


def test_photos_beside_their_alphas_are_found_and_one_in_ten_validates(tmp_path):
    for number in range(100):
        write_pair(tmp_path / "set" / f"{number}.jpg", tmp_path / "set" / f"{number}.png")
    write_picture(tmp_path / "backgrounds" / "wall.jpg")
    pairs = find_pairs(tmp_path)
    assert len(pairs) == 100
    assert 3 <= sum(pair.split == "val" for pair in pairs) <= 20
    assert find_pairs(tmp_path) == pairs
    assert find_backgrounds([tmp_path]) == [tmp_path / "backgrounds" / "wall.jpg"]


def test_webp_photos_pair_with_png_alphas_and_know_their_kind(tmp_path):
    for id in ("sports/1", "sports/2", "3"):
        write_pair(tmp_path / "new" / f"{id}.webp", tmp_path / "new" / f"{id}.png")
    pairs = find_pairs(tmp_path / "new")
    assert [(pair.photo.suffix, pair.kind, pair.data_set) for pair in pairs] == [
        (".webp", "new", "new"),
        (".webp", "sports", "new"),
        (".webp", "sports", "new"),
    ]


def test_manifest_decides_the_split(tmp_path):
    for stem in ("a", "b", "c"):
        write_pair(tmp_path / "set" / f"{stem}.jpg", tmp_path / "set" / f"{stem}.png")
    (tmp_path / "manifest.csv").write_text(
        "id,width,height,split\nset/b,10,8,val\nset/a,10,8,train\n"
    )
    assert [(pair.id, pair.split) for pair in find_pairs(tmp_path)] == [
        ("set/a", "train"),
        ("set/b", "val"),
    ]


def break_nothing_there(root: Path) -> str:
    return f"{root / 'no'}: no such folder"


def break_empty(root: Path) -> str:
    (root / "no").mkdir()
    return f"{root / 'no'}: no pictures"


def break_unpaired_photo(root: Path) -> str:
    write_pair(root / "no" / "a.jpg", root / "no" / "a.png")
    write_picture(root / "no" / "b.jpg")
    return f"{root / 'no' / 'b.jpg'}: has no alpha"


def break_unpaired_alpha(root: Path) -> str:
    write_pair(root / "no" / "image" / "a.jpg", root / "no" / "matte" / "a.png")
    write_picture(root / "no" / "matte" / "b.png")
    return f"{root / 'no' / 'matte' / 'b.png'}: has no photo"


def break_size(root: Path) -> str:
    write_picture(root / "no" / "a.jpg", 8, 10)
    write_picture(root / "no" / "a.png", 10, 8, channels=1)
    return f"{root / 'no' / 'a.png'}: is 8x10, its photo 10x8"


def break_header(root: Path) -> str:
    write_pair(root / "no" / "a.jpg", root / "no" / "a.png")
    (root / "no" / "a.jpg").write_bytes(b"not a picture")
    return f"{root / 'no' / 'a.jpg'}: not a readable picture"


def break_manifest_file(root: Path) -> str:
    (root / "no").mkdir()
    (root / "no" / "manifest.csv").write_text("id,split\na,train\n")
    return f"{root / 'no' / 'a.jpg'}: missing, though manifest.csv names it"


def break_manifest_columns(root: Path) -> str:
    (root / "no").mkdir()
    (root / "no" / "manifest.csv").write_text("name\na\n")
    return f"{root / 'no' / 'manifest.csv'}: needs columns id and split (train or val)"


def break_empty_manifest(root: Path) -> str:
    (root / "no").mkdir()
    (root / "no" / "manifest.csv").write_text("id,split\n")
    return f"{root / 'no'}: no photos with alpha"


@pytest.mark.parametrize(
    "break_data",
    [
        break_nothing_there,
        break_empty,
        break_unpaired_photo,
        break_unpaired_alpha,
        break_size,
        break_header,
        break_manifest_file,
        break_manifest_columns,
        break_empty_manifest,
    ],
)
def test_unusable_data_is_named_in_one_line(tmp_path, break_data):
    expected = break_data(tmp_path)
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path / "no")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_drawn_data_set_is_the_same_each_time(tmp_path):
    one, two = draw_data_set(tmp_path / "one", 7), draw_data_set(tmp_path / "two", 7)
    assert draw_data_set(tmp_path / "one", 7) == one
    assert [path.read_bytes() for path in find_images(one)] == [
        path.read_bytes() for path in find_images(two)
    ]
    assert {pair.split for pair in find_pairs(one)} == {"train", "val"}


@pytest.mark.skipif(not REAL.is_dir(), reason="the training photos are not here")
def test_training_photos_are_found():
    pairs = find_pairs(REAL)
    assert [sum(pair.split == split for pair in pairs) for split in ("train", "val")] == [1234, 150]
    assert len(find_backgrounds([REAL])) == 459


@pytest.mark.parametrize(("folder", "held_out"), [("", 1), ("train", 0)])
def test_one_of_a_few_photos_is_held_out_unless_a_folder_says_train(tmp_path, folder, held_out):
    for number in range(3):
        write_pair(tmp_path / folder / f"{number}.jpg", tmp_path / folder / f"{number}.png")
    assert sum(pair.split == "val" for pair in find_pairs(tmp_path)) == held_out
