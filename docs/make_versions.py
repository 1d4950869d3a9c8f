"""Make docs/versions.jpg: free photos by several networks, over green as the service refines them.

python docs/make_versions.py OLD.onnx service/weights/modnet.onnx service/weights/modnet-fast.onnx \
  --photos FACE_RECOGNITION/tests/test_images/{obama,biden,obama3}.jpg

OLD.onnx is an older version, from the history of the repository. The first three photos come with
packages: an astronaut (NASA) and a cameraman (CC0) of scikit-image, Grace Hopper (US Navy) of
Matplotlib. The others are in the source of the package face_recognition 1.3.0, made by
photographers of the White House. All are in the public domain.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from matplotlib import get_data_path
from PIL import Image
from skimage import data

from service.inference.engine import OnnxEngine
from service.inference.photos import run_photo
from service.matting.cleanup import settle_ends
from service.matting.composite import composite_over_colour
from service.matting.foreground import estimate_foreground
from service.matting.refine import refine_alpha
from service.settings import Settings
from training.evaluation.sheet import draw_sheet

GREEN = (0, 177, 64)
OUT = Path(__file__).parent / "versions.jpg"


def matte(engine: OnnxEngine, photo: np.ndarray) -> np.ndarray:
    """Return the person over green, (H, W, 3) uint8."""
    alpha = run_photo(engine, photo, Settings().network_max_megapixels)
    alpha = settle_ends(refine_alpha(photo, alpha))
    return composite_over_colour(estimate_foreground(photo, alpha), alpha, GREEN)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    photos = [data.astronaut(), cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB)]
    photos.append(read(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    photos += [read(path) for path in options.photos]
    rows = [("photo", photos)]
    for path in options.models:
        engine = OnnxEngine(Settings(device="cpu", model_path=path))
        mattes = [matte(engine, photo) for photo in photos]
        rows.append((f"{engine.info.name} {engine.info.version}", mattes))
    draw_sheet(rows).save(OUT, quality=85)
    print(OUT)


if __name__ == "__main__":
    main()
