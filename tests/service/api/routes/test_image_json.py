"""Images and options as one JSON document, and answers as JSON."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image

SMALL = {"ref_size": 64}


@pytest.fixture(scope="module")
def photo(portrait) -> bytes:
    return encode(portrait[::4, ::4], "PNG")


def to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_json_body_gives_what_raw_bytes_give(client, photo):
    options = {"output": "composite", "background": "teal", "ref_size": 64, "keep_largest": True}
    by_json = client.post("/v1/image", json={"image_b64": to_text(photo), **options})
    assert by_json.status_code == 200, by_json.text
    assert by_json.content == post_image(client, photo, **options).content


@pytest.mark.parametrize("wrap", ["data:image/png;base64,{}", " {}\n", "{}"])
def test_data_urls_and_white_space_are_taken(client, photo, wrap):
    body = {"image_b64": wrap.format(to_text(photo)), **SMALL}
    assert client.post("/v1/image", json=body).status_code == 200


def test_background_comes_in_base64_too(client, photo):
    blue = encode(Image.new("RGB", (10, 10), (0, 0, 200)), "PNG")
    body = {"image_b64": to_text(photo), "background_b64": to_text(blue), "output": "composite"}
    pixels = decode(client.post("/v1/image", json={**body, **SMALL}).content)
    wanted = post_image(client, photo, output="composite", background="#0000c8", **SMALL)
    np.testing.assert_allclose(pixels.astype(int), decode(wanted.content).astype(int), atol=1)


def test_query_and_members_must_agree(client, photo):
    body = {"image_b64": to_text(photo), "ref_size": 64, "crop": True}
    assert client.post("/v1/image?ref_size=64&crop=true", json=body).status_code == 200
    problem = assert_problem(client.post("/v1/image?ref_size=96", json=body), 422, "invalid-option")
    assert "twice" in problem["detail"]


def test_member_given_twice_with_different_values_is_refused(client, photo):
    text = json.dumps({"image_b64": to_text(photo), "ref_size": 64})
    text = text.replace("}", ', "ref_size": 96}')
    headers = {"Content-Type": "application/json"}
    response = client.post("/v1/image", content=text, headers=headers)
    assert_problem(response, 422, "invalid-option")


@pytest.mark.parametrize(
    "text, words",
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[" + b"[]," * 1000 + b"1" * 5000 + b"]", "not JSON"),
        (b"[" + b"[]," * 1001 + b"1" * 5000 + b"]", "more than 1000 commas"),
        (b"[1]", "not an object"),
        (b'"text"', "not an object"),
        (b"{}", "image_b64"),
        (b'{"image_b64": 3}', "not a string"),
        (b'{"image_b64": "a*b="}', "not base64"),
        (b'{"image_b64": "\xc3\xa4"}', "not base64"),
        (b'{"image_b64": "AA==", "image_b64": "AA=="}', "twice"),
        (b'{"image_b64": "AA==", "ref_size": 1e999}', "ref_size"),
        (b'{"image_b64": "AA==", "feather": NaN}', "feather"),
        (b'{"image_b64": "AA==", "output": ["alpha"]}', "output"),
        (b'{"image_b64": "AA==", "outptu": "alpha"}', "outptu"),
    ],
)
def test_broken_document_is_refused_with_the_reason(client, text, words):
    response = client.post("/v1/image", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert words in response.json()["detail"]


def test_image_over_the_limit_is_refused_as_its_bytes_would_be(make_client):
    client = make_client(FakeEngine(), image_max_bytes=1000)
    body = {"image_b64": to_text(b"x" * 1001)}
    problem = assert_problem(client.post("/v1/image", json=body), 413, "payload-too-large")
    assert problem["limit"] == 1000
    body = {"image_b64": to_text(b"x" * 100_000)}
    assert_problem(client.post("/v1/image", json=body), 413, "payload-too-large")


@pytest.mark.parametrize("ask", [{"format": "json"}, {}])
def test_json_answer_has_the_picture_and_the_facts_of_the_headers(client, portrait_jpeg, ask):
    headers = {"Accept": "application/json", "Content-Type": "application/octet-stream"}
    plain = post_image(client, portrait_jpeg, output="cutout")
    response = client.post(
        "/v1/image",
        content=portrait_jpeg,
        headers=headers if not ask else headers | {"Accept": "*/*"},
        params={"output": "cutout", **ask},
    )
    assert response.headers["content-type"] == "application/json"
    facts = response.json()
    assert base64.b64decode(facts["image_b64"]) == plain.content
    assert facts["content_type"] == "image/png"
    for name in ("width", "height", "model", "provider"):
        assert str(facts[name]) == plain.headers[f"x-{name}"] == response.headers[f"x-{name}"]
    assert facts["person"] is (plain.headers["x-person"] == "yes")
    assert f"{facts['confidence']:.3f}" == plain.headers["x-matte-confidence"]
    box = {name: int(plain.headers[f"x-foreground-{name}"]) for name in facts["foreground"]}
    assert facts["foreground"] == box and set(box) == {"left", "top", "width", "height"}
    assert set(facts["timings_ms"]) == {"decode", "queue", "inference", "refine", "encode"}


def test_json_of_a_bundle_has_both_pictures(client, photo):
    facts = post_image(client, photo, output="bundle", format="json", **SMALL).json()
    alpha = post_image(client, photo, **SMALL).content
    assert base64.b64decode(facts["alpha_b64"]) == alpha
    assert decode(base64.b64decode(facts["color_b64"])).shape == (128, 128, 3)
    assert json.dumps(facts)
