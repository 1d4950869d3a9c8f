"""What the tests of the compatibility routes share: a picture, a network, a reader of errors."""

import numpy as np

REMOVEBG, REMBG = "/v1.0/removebg", "/api/remove"


def see_person(batch: np.ndarray) -> np.ndarray:
    """Return the matte of a person-sized ellipse a little left of the middle, with a soft edge."""
    height, width = batch.shape[2:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot((x / width - 0.45) / 0.25, (y / height - 0.55) / 0.4)
    alpha = np.clip((1.1 - radius) * 5, 0, 1)
    return np.repeat(alpha[np.newaxis], len(batch), axis=0)


def see_nobody(batch: np.ndarray) -> np.ndarray:
    return np.zeros((batch.shape[0], *batch.shape[2:]), np.float32)


def see_speck(batch: np.ndarray) -> np.ndarray:
    """Return a matte that is solid in one corner and too small to be anybody."""
    alpha = see_nobody(batch)
    alpha[:, :3, :3] = 1
    return alpha


def make_picture(width: int, height: int) -> np.ndarray:
    """Return (height, width, 3) uint8 of smooth colours."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([x * 255 // width, y * 255 // height, (x + y) % 256]).astype(np.uint8)


def ask(client, data: bytes, path: str = REMOVEBG, headers=None, **options):
    """Send an image as clients do, with options as form fields."""
    name = "image_file" if path == REMOVEBG else "file"
    files = {name: ("a.png", data)}
    return client.post(path, files=files, data=options, headers=headers or {})


def assert_removebg_error(response, status: int, code: str) -> dict:
    """Assert that a response is an error as remove.bg writes it, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["errors"] and len(body["errors"]) == 1
    error = body["errors"][0]
    assert error["code"] == code, error
    assert error["title"] and set(error) <= {"title", "code", "detail"}
    return error
