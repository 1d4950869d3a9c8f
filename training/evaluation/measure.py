"""One photo or one clip through the network, measured at its own size."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError

from training.data.pairs import DataError, Pair
from training.data.photos import read_image
from training.data.transforms import make_trimap
from training.evaluation import metrics
from training.evaluation.predictor import (
    Predictor,
    PredictorError,
    choose_size,
    join_passes,
    make_tensor,
    resize_alpha,
    settle_ends,
)
from training.evaluation.results import Result

Measure = Callable[[np.ndarray, np.ndarray], float]
MEASURES: dict[str, Measure] = {
    "mse": metrics.mse,
    "mad": metrics.mad,
    "iou": metrics.iou,
    "sad": metrics.sad,
    "grad": metrics.grad,
    "conn": metrics.conn,
}
CLIP_FOLDERS = ("clip", "matte")


def predict_alpha(
    predictor: Predictor, image: np.ndarray, ref_size: int, trimap: np.ndarray | None = None
) -> np.ndarray:
    """Return the matte (H, W) float32 of an (H, W, 3) uint8 RGB picture at its own size.

    A trimap is (H, W) uint8 in {0, 1, 2}. Raises PredictorError for a matte that is not finite.
    """
    return resize_alpha(run_once(predictor, image, ref_size, trimap), *image.shape[:2])


def predict_photo(
    predictor: Predictor, image: np.ndarray, ref_size: int | None, trimap: np.ndarray | None = None
) -> np.ndarray:
    """Return the matte of a photo as it is served, but for refining.

    Without a `ref_size` it is the network's own, or a photo that is not small passes twice, where
    the network says so. Else see predict_alpha.
    """
    return resize_alpha(run_photo(predictor, image, ref_size, trimap), *image.shape[:2])


def run_photo(
    predictor: Predictor, image: np.ndarray, ref_size: int | None, trimap: np.ndarray | None = None
) -> np.ndarray:
    """Return what predict_photo does, (h, w) at the size that the network sees."""
    sizes = predictor.photo_ref_sizes
    if ref_size is None and sizes and min(image.shape[:2]) > sizes[0]:
        return join_passes(*(run_once(predictor, image, size, trimap) for size in sizes))
    return run_once(predictor, image, ref_size or predictor.ref_size, trimap)


def run_once(
    predictor: Predictor, image: np.ndarray, ref_size: int, trimap: np.ndarray | None
) -> np.ndarray:
    """Return the matte (h, w) of one pass, at the size that the network sees."""
    size = choose_size(*image.shape[:2], ref_size)
    tensor = make_tensor(image, size)
    if trimap is not None:
        trimap = cv2.resize(trimap, size[::-1], interpolation=cv2.INTER_NEAREST)
        tensor = np.concatenate([tensor, np.float32(trimap)[None] - 1])  # in [-1, 1] as well
    matte = predictor.run(tensor[None])[0]
    if not np.isfinite(matte).all():
        raise PredictorError(f"{predictor.path}: gives values that are not numbers")
    return matte


def predict_pair(
    predictor: Predictor, pair: Pair, ref_size: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the photo (H, W, 3) uint8, its true alpha and its matte, both (H, W) float32.

    A network of four channels is given a trimap made from the true alpha, of the same widths for
    every photo. The matte is settled at its ends as that of a still is.
    """
    image, label = read_photo(pair)
    trimap = make_trimap(label, np.random.default_rng(0)) if predictor.in_channels == 4 else None
    alpha = settle_ends(predict_photo(predictor, image, ref_size, trimap))
    return image, np.float32(label) / 255, alpha


def read_photo(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the photo (H, W, 3) and its true alpha (H, W), both uint8."""
    image, label = read_image(pair.photo), read_image(pair.alpha, "L")
    if image.shape[:2] != label.shape:
        raise DataError(f"{pair.alpha}: is turned differently from its photo (EXIF orientation)")
    return image, label


def measure_photo(predictor: Predictor, pair: Pair, ref_size: int | None) -> Result:
    """Return the MEASURES of one photo; `ref_size` None: as it is served (see predict_photo)."""
    image, label, alpha = predict_pair(predictor, pair, ref_size)
    values = {name: measure(alpha, label) for name, measure in MEASURES.items()}
    return Result(pair.id, image.shape[1], image.shape[0], values)


def draw_case(
    predictor: Predictor, pair: Pair, result: Result, ref_size: int | None
) -> tuple[str, list[np.ndarray]]:
    """Return a row for draw_sheet: photo, true alpha, matte, and their difference."""
    image, label, alpha = predict_pair(predictor, pair, ref_size)
    caption = f"{pair.id}   MAD {result.values['mad']:.4f}   IoU {result.values['iou']:.3f}"
    return caption, [image, label, alpha, np.abs(alpha - label)]


def find_clip_pairs(folder: Path) -> list[Pair]:
    """Return the clips of `clip/` with those of equal stem in `matte/`; raises DataError."""
    clips, mattes = (list_files(folder / name) for name in CLIP_FOLDERS)
    for stem in clips.keys() ^ mattes.keys():
        path, lacks = (clips[stem], "matte") if stem in clips else (mattes[stem], "clip")
        raise DataError(f"{path}: has no {lacks}")
    return [Pair(stem, path, mattes[stem], "val") for stem, path in clips.items()]


def list_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by stem, sorted; hidden ones are left out."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (clips lie in clip/, their mattes in matte/)")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.is_file() and p.name[0] != "."}
    if not found:
        raise DataError(f"{folder}: no clips")
    return found


def measure_clip(predictor: Predictor, pair: Pair, ref_size: int) -> Result:
    """Return MSE and MAD (means over frames), dtSSD, MESSDdt and flicker of one clip.

    The motion is estimated from the frames of the clip. Two frames are held at a time.
    """
    stills: list[tuple[float, float]] = []
    changes: list[tuple[float, float, float]] = []

    def walk() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        frames = zip_clips(pair)
        for image, matte in frames:
            if image.shape != matte.shape:
                raise DataError(f"{pair.alpha}: its frames are not the size of the clip's")
            label = np.float32(matte[..., 1]) / 255  # grey: any channel
            alpha = predict_alpha(predictor, image, ref_size)
            stills.append((metrics.mse(alpha, label), metrics.mad(alpha, label)))
            yield image, alpha, label

    height = width = 0
    for (image, *mattes), (following, *following_mattes) in pairwise(walk()):
        height, width = image.shape[:2]
        flows = [metrics.estimate_flow(image, following)]
        alphas, labels = zip(mattes, following_mattes, strict=True)
        changes.append(
            (
                metrics.dtssd(alphas, labels),
                metrics.messddt(alphas, labels, flows),
                metrics.flicker(alphas, flows),
            )
        )
    if not changes:
        raise DataError(f"{pair.photo}: fewer than two frames")
    values = np.concatenate([np.mean(stills, axis=0), np.mean(changes, axis=0)]).tolist()
    names = ("mse", "mad", "dtssd", "messddt", "flicker")
    return Result(pair.id, width, height, dict(zip(names, values, strict=True)))


def zip_clips(pair: Pair) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the frames of clip and matte together; DataError if one ends first."""
    clip, matte = read_frames(pair.photo), read_frames(pair.alpha)
    try:
        yield from zip(clip, matte, strict=True)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{pair.alpha}: not as many frames as {pair.photo.name}") from error


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, (H, W, 3) uint8 RGB; raises DataError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: has no video")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except FFmpegError as error:
        raise DataError(f"{path}: not a readable clip") from error
