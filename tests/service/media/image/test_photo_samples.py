"""Photos that packages ship: the test data of pillow-heif and Pillow, those of scikit-image."""

import io
import struct
from pathlib import Path

import numpy as np
import PIL
import pillow_heif
import pytest
import skimage
from PIL import Image, ImageOps

from service.media.image.damage import DAMAGED
from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage, UnknownFormat
from tests.samples import download
from tests.stills import read

pytestmark = pytest.mark.slow
REFUSED = ("corrupted.heic", "corrupted.hif", "empty.heic")
TOO_LARGE = "200MP.heic"  # for the settings; its header is read
SUFFIXES = (".jpg", ".jpeg", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif")
# Of Pillow's samples: what it reads and we refuse, and where it does not look at a profile, at
# gAMA, takes alpha that is 0 everywhere for alpha, or skipped pixels of a BMP for the first colour.
NOT_READ = {"8bit.s.tif", "separate_planar_extra_samples.tiff"}
OTHER_COLOURS = {
    *("icc_profile_big.jpg", "pil123p.png", "pil123rgba.png", "rgb32bf-abgr.bmp"),
    *("xmp_tags_orientation.avif", "xmp_tags_orientation.png"),
    *("badrle.bmp", "pal4rletrns.bmp", "pal8rletrns.bmp"),
}
# As anybody can see, or, the last one, with runs of pixels beyond its edge.
DAMAGED_SAMPLES = {"badrle.bmp", "hopper_bad_exif.jpg", "hopper_rle8_row_overflow.bmp"}
# Of the same picture in both folders: lossy HEIF against PNG, mean difference of 255.
PAIRS = [f"{mode}_{size}" for mode in ("RGB_8", "RGBA_8") for size in ("_128x128", "_29x100")]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """The `tests/images` of the source distribution of the version that is installed."""
    name = f"pillow-heif=={pillow_heif.__version__}"
    folder = download(name, tmp_path_factory.mktemp("heif"), source=True)
    return next(folder.glob("pillow_heif-*/tests/images"))


def test_every_sample_of_heif_is_read_or_refused(samples):
    files = sorted(one for one in samples.rglob("*") if one.suffix in (".heic", ".heif", ".hif"))
    assert len(files) > 40
    for file in files:
        data = file.read_bytes()
        if file.name in REFUSED:
            with pytest.raises(UndecodableImage):
                decode_image(open_image(data))
        elif file.name == TOO_LARGE:
            assert open_image(data).info.megapixels > 150
        else:
            picture = read(data)
            assert picture.rows_there == 1 and DAMAGED not in picture.notes, file.name


@pytest.mark.parametrize("name", PAIRS)
def test_sample_of_heif_is_its_png(samples, name):
    heif = read((samples / "heif" / f"{name}.heif").read_bytes())
    png = read((samples / "non_heif" / f"{name}.png").read_bytes())
    assert np.abs(heif.image.astype(int) - png.image).mean() < 3
    assert (heif.alpha is None) == (png.alpha is None)
    if heif.alpha is not None and png.alpha is not None:
        assert np.abs(heif.alpha.astype(int) - png.alpha).mean() < 3


def test_photos_of_scikit_image_are_read():
    folder = Path(skimage.__file__).parent / "data"
    files = [one for one in folder.iterdir() if one.suffix in (".png", ".jpg", ".gif", ".tif")]
    assert len(files) > 20
    for file in files:
        if file.name == "multipage_rgb.tif":  # floats of 64 bits
            with pytest.raises(UndecodableImage, match="64 bits, float"):
                open_image(file.read_bytes())
        else:
            assert read(file.read_bytes()).rows_there == 1, file.name


@pytest.fixture(scope="module")
def pillow_samples(tmp_path_factory) -> Path:
    folder = download(f"pillow=={PIL.__version__}", tmp_path_factory.mktemp("pil"), source=True)
    return next(folder.glob("pillow-*/Tests/images"))


@pytest.mark.filterwarnings("ignore")
def test_every_sample_of_pillow_is_read_as_pillow_reads_it_or_refused(pillow_samples):
    files = sorted(one for one in pillow_samples.rglob("*") if one.suffix in SUFFIXES)
    refused, others, damaged, count = set(), set(), set(), 0
    for file in files:
        data = file.read_bytes()
        try:
            opened = open_image(data)
            if opened.info.megapixels > 51:
                continue
            picture = decode_image(opened)
        except (UndecodableImage, UnknownFormat):
            picture = None
        wanted = decode_by_pillow(data) if picture is None or picture.rows_there == 1 else None
        if wanted is None:
            continue
        count += 1
        if picture is None:
            refused.add(file.name)
            continue
        if DAMAGED in picture.notes:
            damaged.add(file.name)
        if picture.flat.shape != wanted.shape or np.abs(picture.flat - wanted).mean() > 2:
            others.add(file.name)
    assert count > 500
    assert refused == NOT_READ and others == OTHER_COLOURS and damaged == DAMAGED_SAMPLES


def decode_by_pillow(data: bytes) -> np.ndarray | None:
    """Return (H, W, 3) over white, None where Pillow does not read it, or not with all its bits."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > 51_000_000 or image.mode.startswith(("I", "F")):
                return None
            layers = np.asarray(ImageOps.exif_transpose(image).convert("RGBA")).astype(float)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        return None
    share = layers[:, :, 3:] / 255
    return layers[:, :, :3] * share + 255 * (1 - share)
