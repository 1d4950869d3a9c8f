"""Drawn figures with exact alpha: a data set for tests and a first try, no photos needed."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

SIZE = 160
SCALE = 4  # drawn larger, then reduced: soft edges
VALIDATION_EVERY = 6


def draw_data_set(parent: Path, count: int) -> Path:
    """Return a folder under `parent` with `count` figures and as many backgrounds.

    The layout is that of a real data set with manifest.csv. Drawn once; the same each time.
    """
    folder = parent / f"synthetic-{count}"
    if folder.is_dir():
        return folder
    part = parent / f"{folder.name}.{os.getpid()}.part"
    (part / "backgrounds").mkdir(parents=True)
    rows = ["id,width,height,split"]
    for number in range(count):
        rng = np.random.default_rng((0, number))
        foreground, alpha = draw_figure(rng)
        a = alpha[:, :, None]
        photo = np.rint(foreground * a + draw_background(rng) * (1 - a)).astype(np.uint8)
        write(part / f"{number}.jpg", photo)
        cv2.imwrite(str(part / f"{number}.png"), np.rint(alpha * 255).astype(np.uint8))
        write(part / "backgrounds" / f"{number}.jpg", draw_background(rng).astype(np.uint8))
        split = "val" if number % VALIDATION_EVERY == 0 else "train"
        rows.append(f"{number},{SIZE},{SIZE},{split}")
    (part / "manifest.csv").write_text("\n".join(rows) + "\n")
    try:
        os.replace(part, folder)
    except OSError:  # another process was faster, with the same pictures
        shutil.rmtree(part)
    return folder


def write(path: Path, image: np.ndarray) -> None:
    cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])


def draw_figure(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (colours (S, S, 3) 0..255, alpha (S, S) 0..1): hair, head, shoulders, a jumper."""
    big = SIZE * SCALE
    x, y = big * rng.uniform(0.4, 0.6), big * rng.uniform(0.28, 0.4)
    head = big * rng.uniform(0.09, 0.13)
    shoulders = head * rng.uniform(1.8, 2.6)
    skin = rng.uniform(0.35, 1.0) * np.array([240, 195, 165])
    parts = [  # centre, half axes, colour; the hair lies behind the head
        ((x, y - 0.2 * head), (1.25 * head, 1.5 * head), rng.uniform(10, 120, 3)),
        ((x, big), (shoulders, big - y - 1.3 * head), rng.uniform(20, 235, 3)),
        ((x, y + head), (0.45 * head, 0.9 * head), 0.85 * skin),
        ((x, y), (head, 1.3 * head), skin),
    ]
    colour, alpha = np.full((big, big, 3), 128, np.float32), np.zeros((big, big), np.float32)
    for center, axes, value in parts:
        box = (center, (2 * axes[0], 2 * axes[1]), 0.0)
        cv2.ellipse(colour, box, value.tolist(), cv2.FILLED)
        cv2.ellipse(alpha, box, 1.0, cv2.FILLED)
    colour = cv2.resize(colour, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    colour += rng.normal(0, 6, colour.shape)
    alpha = cv2.resize(alpha, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.clip(colour, 0, 255), alpha


def draw_background(rng: np.random.Generator) -> np.ndarray:
    """Return (S, S, 3) 0..255: a gradient with some boxes, noise on top."""
    steps = np.linspace(0, 1, SIZE)[:, None, None]
    image = rng.uniform(0, 255, 3) * steps + rng.uniform(0, 255, 3) * (1 - steps)
    image = np.ascontiguousarray(np.broadcast_to(image, (SIZE, SIZE, 3)), np.float32)
    for _ in range(rng.integers(2, 7)):
        corners = rng.integers(0, SIZE, (2, 2))
        cv2.rectangle(
            image,
            corners[0].tolist(),
            corners[1].tolist(),
            rng.uniform(0, 255, 3).tolist(),
            cv2.FILLED,
        )
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255)
