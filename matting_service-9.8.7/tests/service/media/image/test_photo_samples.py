"""Photos that packages ship: pillow-heif's own test data, and what scikit-image installs."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import skimage

from service.media.image.reader import decode_image, open_image
from service.media.image.types import UndecodableImage
from tests.stills import read

pytestmark = pytest.mark.slow
DOWNLOAD_S = 240
REFUSED = ("corrupted.heic", "corrupted.hif", "empty.heic")
TOO_LARGE = "200MP.heic"  # for the settings; its header is read
# Of the same picture in both folders: lossy HEIF against PNG, mean difference of 255.
PAIRS = [f"{mode}_{size}" for mode in ("RGB_8", "RGBA_8") for size in ("_128x128", "_29x100")]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Path:
    """The `tests/images` of the source distribution of the version that is installed."""
    folder = tmp_path_factory.mktemp("samples")
    name = f"pillow-heif=={pillow_heif.__version__}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", name]
    try:
        done = subprocess.run(
            [*command, "-d", str(folder)], capture_output=True, text=True, timeout=DOWNLOAD_S
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"the source distribution is not to be had: {done.stderr[-200:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
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
            assert picture.rows_there == 1, file.name


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
