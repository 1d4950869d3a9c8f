"""How an image comes to the route for remove.bg's clients, and how many bytes it may have."""

import base64
import json

import numpy as np
import pytest

from tests.compat_helpers import REMOVEBG, ask, assert_removebg_error, see_person
from tests.fakes import FakeEngine
from tests.helpers import encode

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def to_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Ways to send an image.


@pytest.mark.parametrize("way", ["multipart text", "form", "json", "data url", "wrapped"])
def test_base64_is_the_same_as_the_file(fake, small, way):
    text = to_text(small)
    if way == "multipart text":
        parts = {"image_file_b64": (None, text), "size": (None, "full")}
        response = fake.post(REMOVEBG, files=parts)
    elif way == "form":
        response = fake.post(REMOVEBG, data={"image_file_b64": text, "size": "full"})
    else:
        if way == "data url":
            text = f"data:image/png;base64,{text}"
        elif way == "wrapped":
            text = base64.encodebytes(small).decode()
        response = fake.post(REMOVEBG, json={"image_file_b64": text, "size": "full"})
    assert response.status_code == 200, response.text
    assert response.content == ask(fake, small, size="full").content


@pytest.mark.parametrize("way", ["multipart", "form", "json"])
def test_base64_of_several_megabytes_is_taken(fake, way):
    noise = np.random.default_rng(1).integers(0, 256, (1200, 1400, 3), np.uint8)
    data = encode(noise, "PNG", compress_level=0)
    text = to_text(data)
    assert len(text) > 6e6
    if way == "form":
        response = fake.post(REMOVEBG, data={"image_file_b64": text, "channels": "alpha"})
    elif way == "json":
        response = fake.post(REMOVEBG, json={"image_file_b64": text, "channels": "alpha"})
    else:
        parts = {"image_file_b64": (None, text), "channels": (None, "alpha")}
        response = fake.post(REMOVEBG, files=parts)
    assert response.status_code == 200, response.text
    assert response.content == ask(fake, data, channels="alpha").content


def test_json_values_may_have_their_own_types(fake, small):
    body = {"image_file_b64": to_text(small), "crop": True, "crop_margin": 10, "type_level": 2}
    nulls = {"bg_color": None, "image_url": None, "scale": None, "add_shadow": False}
    response = fake.post(REMOVEBG, json=body | nulls)
    assert response.status_code == 200, response.text
    assert response.content == ask(fake, small, crop="true", crop_margin="10").content


def test_empty_file_field_beside_base64_is_not_a_second_source(fake, small):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="image_file"; filename=""\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n\r\n"
        b'--x\r\nContent-Disposition: form-data; name="image_file_b64"\r\n\r\n'
        + to_text(small).encode()
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert fake.post(REMOVEBG, content=body, headers=headers).status_code == 200


def test_no_image_is_missing_source(fake, small):
    for request in (
        {"data": {"size": "auto"}},
        {"json": {"size": "auto"}},
        {"json": {}},
        {"files": {"size": (None, "auto")}},
        {"files": {"image_file": (None, "photo.jpg")}},
        {"content": small, "headers": {"Content-Type": "image/png"}},
        {"content": b""},
    ):
        error = assert_removebg_error(fake.post(REMOVEBG, **request), 400, "missing_source")
        assert error["title"].startswith("No image given") and "image_file" in error["detail"]


def test_two_images_are_refused(fake, small):
    text = to_text(small)
    both = fake.post(REMOVEBG, files={"image_file": small}, data={"image_file_b64": text})
    twice = fake.post(REMOVEBG, files=[("image_file", small), ("image_file", small)])
    members = f'{{"image_file_b64": "{text}", "image_file_b64": "{text}"}}'
    json_twice = fake.post(REMOVEBG, content=members, headers={"Content-Type": "application/json"})
    for response in (both, twice, json_twice):
        assert_removebg_error(response, 400, "multiple_sources")


def test_parameter_given_twice_with_different_values_is_refused(fake, small):
    response = fake.post(f"{REMOVEBG}?size=full", files={"image_file": small}, data={"size": "hd"})
    assert "`size`" in assert_removebg_error(response, 400, "invalid_parameter")["title"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"a"', b"\xff", b"[" * 100_000])
def test_broken_json_is_a_bad_request(fake, body):
    headers = {"Content-Type": "application/json"}
    assert_removebg_error(fake.post(REMOVEBG, content=body, headers=headers), 400, "bad_request")


def test_broken_forms_are_bad_requests(fake):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = fake.post(REMOVEBG, content=b"no boundary", headers=headers)
    assert_removebg_error(response, 400, "bad_request")
    response = fake.post(REMOVEBG, content="a=1&" * 100, headers=FORM)
    assert "fields" in assert_removebg_error(response, 400, "bad_request")["title"]


# Limits.


@pytest.fixture(scope="module")
def tight():
    """A service for images of 1 MB, which is much more than what framing may add."""
    from tests.conftest import open_client

    with open_client(FakeEngine(see_person), image_max_bytes=1_000_000) as opened:
        yield opened


def make_file(size: int) -> bytes:
    """Return a PNG of about `size` bytes."""
    side = round((size / 3) ** 0.5)
    noise = np.random.default_rng(2).integers(0, 256, (side, side, 3), np.uint8)
    return encode(noise, "PNG", compress_level=0)


@pytest.mark.parametrize("size, fits", [(970_000, True), (1_050_000, False), (4_000_000, False)])
@pytest.mark.parametrize("way", ["file", "multipart", "form", "json", "escaped json"])
def test_limit_is_one_for_all_ways(tight, way, size, fits):
    data = make_file(size)
    if way == "file":
        response = ask(tight, data)
    elif way == "multipart":
        response = tight.post(REMOVEBG, files={"image_file_b64": (None, to_text(data))})
    elif way == "form":
        response = tight.post(REMOVEBG, data={"image_file_b64": to_text(data)})
    else:
        text = json.dumps({"image_file_b64": to_text(data)})
        text = text.replace("/", "\\/") if way == "escaped json" else text
        response = tight.post(REMOVEBG, content=text, headers={"Content-Type": "application/json"})
    if fits:
        assert response.status_code == 200, response.text
    else:
        error = assert_removebg_error(response, 400, "file_too_large")
        assert error["title"] == "File too large" and "bytes" in error["detail"]


def test_image_and_background_may_each_have_the_limit(tight):
    files = {"image_file": make_file(970_000), "bg_image_file": make_file(970_000)}
    assert tight.post(REMOVEBG, files=files).status_code == 200
    files["bg_image_file"] = make_file(1_050_000)
    assert_removebg_error(tight.post(REMOVEBG, files=files), 400, "file_too_large")


def test_body_without_a_length_is_bounded_too(tight):
    def send():
        for _ in range(300):
            yield b"image_file_b64=" + b"A" * 10_000

    response = tight.post(REMOVEBG, content=send(), headers=FORM)
    assert_removebg_error(response, 400, "file_too_large")
