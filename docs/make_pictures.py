"""Make docs/portrait.jpg: the example photo, and what `POST /v1/image` answers to it.

And docs/fine.jpg: the head of scikit-image's astronaut, its matte and the person over green with
`refine=auto` and with `refine=fine`. Needs the extra `fine`.

python docs/make_pictures.py
"""

import io
import tempfile
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from skimage.data import astronaut

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "examples" / "portrait.jpg"
GAP = 8
LOOKS = ({"output": "alpha"}, {"output": "cutout"}, {"output": "composite", "background": "teal"})


HEAD = (130, 0, 330, 170)  # left, top, right, bottom
HEAD_LOOKS = [
    {"output": output, "refine": refine} | ({"background": "#2f9e44"} if output != "alpha" else {})
    for refine in ("auto", "fine")
    for output in ("alpha", "composite")
]


def ask(client: TestClient, photo: bytes, look: dict[str, str]) -> Image.Image:
    """Return the picture that the service answers."""
    answer = client.post("/v1/image", files={"file": photo}, data=look)
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
            alpha, cutout, composite = (ask(client, PHOTO.read_bytes(), look) for look in LOOKS)
            person = Image.fromarray(astronaut())
            buffer = io.BytesIO()
            person.save(buffer, "PNG")
            heads = [person, *(ask(client, buffer.getvalue(), look) for look in HEAD_LOOKS)]
    save([Image.open(PHOTO), alpha, lay_over_checkers(cutout), composite], "portrait.jpg")
    save(
        [head.crop(HEAD).resize((300, 255), Image.Resampling.LANCZOS) for head in heads], "fine.jpg"
    )


def save(pictures: list[Image.Image], name: str) -> None:
    """Write pictures of one size side by side."""
    width, height = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (width + GAP) - GAP, height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture.convert("RGB"), (index * (width + GAP), 0))
    sheet.save(ROOT / "docs" / name, quality=90)


if __name__ == "__main__":
    main()
