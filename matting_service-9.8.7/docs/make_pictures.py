"""Make docs/portrait.jpg: the example photo, and what `POST /v1/image` answers to it.

python docs/make_pictures.py
"""

import io
import tempfile
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image, ImageDraw

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "examples" / "portrait.jpg"
GAP = 8
LOOKS = ({"output": "alpha"}, {"output": "cutout"}, {"output": "composite", "background": "teal"})


def ask(client: TestClient, look: dict[str, str]) -> Image.Image:
    """Return the picture that the service answers."""
    answer = client.post("/v1/image", files={"file": PHOTO.read_bytes()}, data=look)
    answer.raise_for_status()
    return Image.open(io.BytesIO(answer.content))


def lay_over_checkers(cutout: Image.Image) -> Image.Image:
    """Return an RGBA picture over the grey squares that stand for transparency."""
    board = Image.new("RGB", cutout.size, "white")
    draw = ImageDraw.Draw(board)
    step = 10
    for y in range(0, cutout.height, step):
        for x in range(step * (y // step % 2), cutout.width, 2 * step):
            draw.rectangle((x, y, x + step - 1, y + step - 1), "#d0d0d0")
    board.paste(cutout, mask=cutout)
    return board


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with TestClient(create_app(Settings(device="cpu", data_dir=folder))) as client:
            alpha, cutout, composite = (ask(client, look) for look in LOOKS)
    photo = Image.open(PHOTO)
    pictures = [photo, alpha.convert("RGB"), lay_over_checkers(cutout), composite]
    width, height = photo.size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index * (width + GAP), 0))
    sheet.save(ROOT / "docs" / "portrait.jpg", quality=90)


if __name__ == "__main__":
    main()
