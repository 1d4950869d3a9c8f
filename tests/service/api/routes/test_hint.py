"""`roi` and `hint_file` of `POST /v1/image`."""

import base64

import numpy as np
import pytest

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image


@pytest.fixture(scope="module")
def two_people(portrait: np.ndarray) -> np.ndarray:
    return np.concatenate([portrait, portrait[:, ::-1]], axis=1)


def test_roi_finds_one_of_two_people(client, two_people: np.ndarray, portrait_jpeg) -> None:
    png = encode(two_people, "PNG")
    alpha = decode(post_image(client, png, roi="0,0,512,512").content)
    alone = decode(post_image(client, encode(two_people[:, :512], "PNG")).content)
    assert alpha.shape == (512, 1024) and not alpha[:, 512:].any()
    assert np.abs(alpha[:, :512].astype(int) - alone).mean() < 1.5
    both = decode(post_image(client, png).content)
    assert both[:, 512:].mean() > 50


def test_small_roi_is_seen_in_full_detail(client, two_people: np.ndarray) -> None:
    """The network sees the part alone, at its own size: no less than that part cut out."""
    png = encode(two_people, "PNG")
    box = (120, 10, 220, 260)
    left, top, width, height = box
    alpha = decode(post_image(client, png, roi=",".join(map(str, box))).content)
    part = np.ascontiguousarray(two_people[top : top + height, left : left + width])
    alone = decode(post_image(client, encode(part, "PNG")).content)
    inside = alpha[top : top + height, left : left + width]
    assert np.abs(inside.astype(int) - alone).mean() < 4
    assert alpha.sum() == inside.sum()


@pytest.fixture
def strokes() -> np.ndarray:
    """A canvas of nothing with a stroke that removes and one that keeps."""
    hint = np.full((512, 512), 128, np.uint8)
    hint[100:200, 200:300] = 0
    hint[400:500, 20:60] = 255
    return hint


def test_strokes_keep_and_remove(client, portrait_jpeg, strokes) -> None:
    plain = decode(post_image(client, portrait_jpeg).content)
    files = {"file": portrait_jpeg, "hint_file": encode(strokes, "PNG")}
    response = client.post("/v1/image", files=files)
    alpha = decode(response.content)
    assert not alpha[100:200, 200:300].any() and plain[100:200, 200:300].mean() > 150
    assert (alpha[400:500, 20:60] == 255).all()
    untouched = strokes == 128
    assert (alpha[untouched] == plain[untouched]).all()
    members = {
        "image_b64": base64.b64encode(portrait_jpeg).decode(),
        "hint_b64": base64.b64encode(files["hint_file"]).decode(),
    }
    assert client.post("/v1/image", json=members).content == response.content


def test_roi_in_percent_is_the_same_box(client, two_people: np.ndarray) -> None:
    png = encode(two_people, "PNG")
    shares = post_image(client, png, roi="0%,0%,50%,100%").content
    assert shares == post_image(client, png, roi="0,0,512,512").content


def test_strokes_go_with_crop_and_size(make_client, portrait_jpeg, strokes) -> None:
    client = make_client(FakeEngine())
    files = {"file": portrait_jpeg, "hint_file": encode(strokes, "PNG")}
    small = decode(client.post("/v1/image", files=files, params={"size": "256x256"}).content)
    assert small.shape == (256, 256) and not small[55:95, 105:145].any() and small[10, 10] == 255
    roi = {"roi": "64,32,200,100", "crop": "true"}
    cropped = client.post("/v1/image", files={"file": portrait_jpeg}, params=roi)
    assert decode(cropped.content).shape == (100, 200)


@pytest.mark.parametrize("roi", [{}, {"roi": "60,10,400,480"}], ids=["whole", "roi"])
@pytest.mark.parametrize("has_hint", [True, False])
def test_kept_result_keeps_both(client, portrait_jpeg, strokes, roi: dict, has_hint: bool) -> None:
    files = {"file": portrait_jpeg}
    if has_hint:
        files["hint_file"] = encode(strokes, "PNG")
    first = client.post("/v1/image", files=files, params={"keep_s": 60} | roi)
    look = {"output": "cutout", "crop": "true", "size": "300x300"}
    again = client.post(f"/v1/image/{first.headers['x-result-id']}", data=look)
    fresh = client.post("/v1/image", files=files, params=look | roi)
    assert again.status_code == 200 and again.content == fresh.content
    plain = client.post("/v1/image", files={"file": portrait_jpeg}, params=look)
    assert not (roi or has_hint) or again.content != plain.content


def test_hint_that_does_not_fit_is_refused(make_client, portrait_jpeg, strokes) -> None:
    client = make_client(FakeEngine())
    hint = encode(strokes, "PNG")
    for files, options, text in (
        ({"hint_file": encode(strokes[:100], "PNG")}, {}, "512 x 100"),
        ({}, {"roi": "500,0,64,64"}, "564, 64"),
        ({}, {"roi": "80%,0%,30%,50%"}, "ends at 110 %"),
        ({}, {"roi": "10,10"}, "left,top,width,height"),
    ):
        answer = client.post("/v1/image", files={"file": portrait_jpeg} | files, params=options)
        assert text in assert_problem(answer, 422, "invalid-option")["detail"]
    broken = {"file": portrait_jpeg, "hint_file": b"no picture"}
    assert "hint_file" in client.post("/v1/image", files=broken).json()["detail"]
    two = [("file", portrait_jpeg), ("file", portrait_jpeg), ("hint_file", hint)]
    assert_problem(client.post("/v1/image", files=two), 422, "invalid-option")
