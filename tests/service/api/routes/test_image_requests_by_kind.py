"""Requests that clients really send, and options that have to do what they say."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image

TYPE = "multipart/form-data; boundary=XX"


@pytest.fixture(scope="module")
def square() -> bytes:
    """A picture of 256 x 256; the network of `square_client` sees a square in its middle."""
    return encode(np.full((256, 256, 3), 90, np.uint8), "PNG")


def find_square(batch: np.ndarray) -> np.ndarray:
    height, width = batch.shape[2:]
    alpha = np.full((len(batch), height, width), 1.4 / 255, np.float32)
    rows, columns = slice(height // 4, height * 3 // 4), slice(width // 4, width * 3 // 4)
    alpha[:, rows, columns] = 1 - 1.4 / 255
    return alpha


@pytest.fixture(scope="module")
def square_client():
    from tests.conftest import open_client

    with open_client(FakeEngine(find_square), cors_origins="https://a.example") as opened:
        yield opened


def make_part(head: str, data: bytes, end: bytes = b"\r\n--XX--\r\n") -> bytes:
    return b"--XX\r\n" + head.encode() + b"\r\n\r\n" + data + end


def post_part(client, body: bytes, path: str = "/v1/image"):
    return client.post(path, content=body, headers={"Content-Type": TYPE})


HEADS = {
    "type alone": 'Content-Disposition: form-data; name="file"\r\nContent-Type: image/jpeg',
    "zeros": 'Content-Disposition: form-data; name="file"\r\nContent-Type: application/x-zeros',
    "nothing": 'Content-Disposition: form-data; name="file"',
    "text": 'Content-Disposition: form-data; name="image"\r\nContent-Type: text/plain',
    "extended": "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''na%C3%AFve%22.jpg",
    "unquoted": "Content-Disposition: form-data; name=file; filename*=utf-8''a.jpg",
    "strange charset": "Content-Disposition: form-data; name=\"file\"; filename*=what''a.jpg",
    "both": 'Content-Disposition: form-data; name="file"; filename="a"; filename*=UTF-8\'\'b',
}


@pytest.mark.parametrize("name", HEADS)
def test_file_part_without_filename(square_client, name):
    noise = np.random.default_rng(0).integers(0, 256, (350, 350, 3), np.uint8)
    data = encode(noise, "PNG")
    assert len(data) > 350_000
    response = post_part(square_client, make_part(HEADS[name], data))
    assert response.status_code == 200, response.text
    assert response.headers["x-width"] == "350"


def test_file_part_without_filename_on_the_way_of_remove_bg(square_client, square):
    head = 'Content-Disposition: form-data; name="image_file"\r\nContent-Type: image/png'
    response = post_part(square_client, make_part(head, square), "/v1.0/removebg")
    assert response.status_code == 200, response.text


def test_field_that_is_too_long_is_named(square_client):
    body = make_part('Content-Disposition: form-data; name="background"', b"x" * 100_000)
    assert (
        "`background`"
        in assert_problem(post_part(square_client, body), 400, "bad-request")["detail"]
    )


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n--X", b"\r\n--XX"])
def test_body_that_ends_inside_a_part(square_client, square, end):
    body = make_part(HEADS["nothing"], square[: len(square) // 2], end)
    problem = assert_problem(post_part(square_client, body), 400, "bad-request")
    assert "the body ended" in problem["detail"]
    assert "`file`" in problem["detail"] or end == b"\r\n--XX"


@pytest.mark.parametrize("path", ["/v1/image", "/v1/video", "/api/remove"])
def test_curl_without_a_content_type_is_told_what_mends_it(square_client, square, path):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    problem = square_client.post(path, content=square, headers=headers)
    found = assert_problem(problem, 415, "unsupported-media")
    assert "x-www-form-urlencoded" in found["detail"]
    assert "-H 'Content-Type: " in found["hint"] and "-F file=@" in found["hint"]


def test_clip_sent_as_an_image_is_told_its_route(square_client, square):
    clip = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free"
    for kind in ("application/octet-stream", "video/mp4"):
        found = assert_problem(post_image(square_client, clip, kind), 415, "unsupported-media")
        assert "/v1/video" in found["detail"] + found.get("hint", "")
    headers = {"Content-Type": "image/png"}
    response = square_client.post("/v1/video", content=square, headers=headers)
    assert "/v1/image" in assert_problem(response, 415, "unsupported-media")["hint"]


def test_null_is_not_given(square_client, square):
    import base64

    body = {"image_b64": base64.b64encode(square).decode(), "quality": None, "threshold": None}
    response = square_client.post("/v1/image", json=body)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("accept", ["image/jpg", "image/pjpeg", "IMAGE/JPG;q=0.8"])
def test_misspelt_types_are_understood(square_client, square, accept):
    headers = {"Content-Type": "image/jpg", "Accept": accept}
    response = square_client.post("/v1/image", content=square, headers=headers)
    assert response.status_code == 200 and response.headers["content-type"] == "image/jpeg"


def test_pages_of_named_origins_may_call(square_client, square, make_client):
    ask = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key",
    }
    response = square_client.options("/v1/image", headers=ask)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    refused = square_client.options("/v1/image", headers=ask | {"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in refused.headers
    headers = {"Content-Type": "image/png", "Origin": "https://a.example"}
    response = square_client.post("/v1/image", content=square, headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert response.headers["access-control-expose-headers"] == "*"
    locked = make_client(FakeEngine(), api_keys="secret", cors_origins="*")
    assert locked.options("/v1/image", headers=ask).status_code == 200
    assert locked.post("/v1/image", headers=headers).status_code == 401
    closed = make_client(FakeEngine())
    assert "access-control-allow-origin" not in closed.options("/v1/image", headers=ask).headers


def test_paths_below_remove_bg_answer_as_it_does(square_client):
    for method, path, status in (
        ("GET", "/v1.0/account", 404),
        ("GET", "/v1.0/", 404),
        ("GET", "/v1.0/removebg", 405),
        ("DELETE", "/v1.0/removebg", 405),
    ):
        response = square_client.request(method, path)
        assert response.status_code == status
        (error,) = response.json()["errors"]
        assert error["title"] and error["code"] in ("not_found", "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_small_but_certain_person_is_somebody_to_clients(make_client):
    """A disc of 1 % of the picture."""

    def see_disc(batch: np.ndarray) -> np.ndarray:
        rows, columns = np.indices(batch.shape[2:])
        height, width = batch.shape[2:]
        distance = (rows - height / 2) ** 2 + (columns - width / 2) ** 2
        return (distance * np.pi < 0.01 * height * width).astype(np.float32)[np.newaxis]

    engine = FakeEngine(see_disc)
    engine.info = dataclasses.replace(engine.info, ref_size=512)
    client = make_client(engine)
    photo = encode(np.full((600, 600, 3), 90, np.uint8), "PNG")
    assert post_image(client, photo).headers["x-person"] == "yes"
    head = 'Content-Disposition: form-data; name="image_file"\r\nContent-Type: image/png'
    assert post_part(client, make_part(head, photo), "/v1.0/removebg").status_code == 200


def ask(client, data: bytes, **options) -> np.ndarray:
    response = post_image(client, data, **options)
    assert response.status_code == 200, response.text
    return decode(response.content)


def test_faint_remains_are_gone(square_client, square):
    for refine in ("auto", "off"):
        alpha = ask(square_client, square, refine=refine)
        assert (alpha[:40] == 0).all() and (alpha[100:150, 100:150] == 255).all()
        over = ask(square_client, square, output="composite", refine=refine)
        assert (over[:40] == 255).all()


@pytest.mark.parametrize("crop", ["false", "true"])
def test_brushes_are_in_pixels_of_the_result(square_client, square, crop):
    def width(**options) -> int:
        same = {"threshold": 0.5, "size": "128x128", "crop": crop}
        if crop == "true":
            same["crop_margin"] = "50%"
        alpha = ask(square_client, square, **same, **options)
        assert set(np.unique(alpha)) <= {0, 255}
        return int((alpha.max(0) > 127).sum())

    plain = width()
    scale = plain / 128
    assert width(erode=5) == pytest.approx(plain - 10, abs=1 + 30 * (crop == "true") * scale)
    assert width(dilate=5) == pytest.approx(plain + 10, abs=1 + 30 * (crop == "true") * scale)
    if crop == "false":
        soft = ask(square_client, square, threshold=0.5, size="64x64", feather=3)
        large = ask(square_client, square, threshold=0.5, feather=3)
        middles = [one[len(one) // 2] for one in (soft, large)]
        edges = [int(((middle > 12) & (middle < 243)).sum()) for middle in middles]
        assert edges[0] == pytest.approx(edges[1], abs=2)


def test_cropped_and_grown_person_is_whole(square_client, square):
    alpha = ask(square_client, square, threshold=0.5, crop="true", dilate=10)
    assert alpha.shape == pytest.approx((148, 148), abs=2)
    assert (alpha[len(alpha) // 2] == 255).all()
    alpha = ask(square_client, square, threshold=0.5, crop="true", erode=10)
    assert alpha.shape == pytest.approx((108, 108), abs=2)


def test_options_at_their_defaults_are_let_through(square_client, square):
    for options in (
        {"background": "white"},
        {"crop_margin": "0"},
        {"foreground": "auto", "icc": "keep"},
        {"quality": "90"},
        {"compression": "1", "format": "jpeg"},
        {"keep_s": "0"},
    ):
        assert post_image(square_client, square, **options).status_code == 200, options
    for options in ({"background": "red"}, {"quality": "91"}, {"crop_margin": "1"}):
        assert_problem(post_image(square_client, square, **options), 422, "invalid-option")


def test_own_alpha_of_a_kept_result_is_returned(square_client):
    own = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    data = encode(np.dstack([np.full((256, 256, 3), 90, np.uint8), own]), "PNG")
    response = post_image(square_client, data, keep_s=60)
    result_id = response.headers["x-result-id"]
    again = square_client.post(f"/v1/image/{result_id}", data={"existing_alpha": "return"})
    assert np.array_equal(decode(again.content), own)
    fresh = post_image(square_client, data, existing_alpha="return")
    assert np.array_equal(decode(fresh.content), own)
    multiplied = square_client.post(f"/v1/image/{result_id}", data={"model": "", "keep_s": "0"})
    assert multiplied.status_code in (200, 422)


def test_answer_of_a_batch_is_capped_and_says_so(make_client):
    client = make_client(FakeEngine(), image_result_max_mb=1)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    files = [("file", (f"{n}.png", encode(noise, "PNG"), "image/png")) for n in range(4)]
    response = client.post("/v1/image", files=files, data={"output": "cutout"})
    assert response.status_code == 200
    assert int(response.headers["content-length"]) == len(response.content) < 1 << 20
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        report = json.loads(archive.read("report.json"))
        names = archive.namelist()
    assert [entry["status"] for entry in report] == [200, 422, 422, 422]
    assert report[1]["problem"]["code"] == "media-limit-exceeded"
    assert names == ["001.png", "report.json"]


def test_fifty_megapixels_of_a_phone_are_taken(square_client):
    grey = Image.new("1", (8160, 6144))
    response = post_image(square_client, encode(grey, "PNG"), size="64x64")
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("size", [(1, 50), (2, 3000), (3000, 2), (1, 1)])
def test_thin_picture_is_not_enlarged_beyond_use(square_client, size):
    engine = square_client.app.state.services.runtime.models.default.engine
    before = len(engine.batches)
    response = post_image(square_client, encode(Image.new("RGB", size), "PNG"))
    assert response.status_code == 200
    assert len(engine.batches) == before + 1


def test_what_was_mended_is_told(square_client, square):
    from tests.hostile import chunk

    broken = chunk(b"pHYs", bytes(9))[:-4] + bytes(4)
    described = chunk(b"cICP", bytes([12, 13, 0, 1]))
    data = square[:33] + broken + described + square[33:]
    headers = post_image(square_client, data).headers
    assert "pHYs" in headers["x-notes"] and "Display P3" in headers["x-notes"]
    assert "x-truncated" not in headers
    told = post_image(square_client, data, format="json").json()
    assert len(told["notes"]) == 2 and "truncated" not in told
    plain = post_image(square_client, square)
    assert "x-notes" not in plain.headers
