"""Make the pictures of the README from answers of a running service.

python docs/make_pictures.py http://localhost:8000
"""

import http.client
import io
import sys
import urllib.parse
from pathlib import Path

from PIL import Image, ImageDraw
from skimage import data

SIDE = 320
GAP = 8


def post(base: str, body: bytes, query: str) -> Image.Image:
    """Return the picture that `POST /v1/image` answers."""
    address = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    connection.request("POST", f"/v1/image?{query}", body, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(content.decode())
    return Image.open(io.BytesIO(content))


def lay_over_checkers(cutout: Image.Image) -> Image.Image:
    """Return an RGBA picture over the grey squares that stand for transparency."""
    board = Image.new("RGB", cutout.size, "white")
    draw = ImageDraw.Draw(board)
    step = cutout.width // 32
    for y in range(0, cutout.height, step):
        for x in range(step * (y // step % 2), cutout.width, 2 * step):
            draw.rectangle((x, y, x + step - 1, y + step - 1), "#d0d0d0")
    board.paste(cutout, mask=cutout)
    return board


def main() -> None:
    photo = Image.fromarray(data.astronaut())
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    png = buffer.getvalue()
    pictures = [
        photo,
        post(sys.argv[1], png, "output=alpha").convert("RGB"),
        lay_over_checkers(post(sys.argv[1], png, "output=cutout")),
        post(sys.argv[1], png, "output=composite&background=%231e6f5c"),
    ]
    sheet = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture.resize((SIDE, SIDE), Image.LANCZOS), (index * (SIDE + GAP), 0))
    sheet.save(Path(__file__).with_name("portrait.jpg"), quality=88)


if __name__ == "__main__":
    main()
