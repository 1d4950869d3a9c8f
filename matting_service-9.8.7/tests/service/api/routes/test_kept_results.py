"""Other output options for an image that was sent once: `keep_s`, `POST /v1/image/{result_id}`."""

import numpy as np
import pytest

from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image, read_metric

SMALL = {"ref_size": 64}


@pytest.fixture(scope="module")
def photo(portrait) -> bytes:
    return encode(portrait[::4, ::4], "JPEG")


def keep(client, photo: bytes, **options) -> str:
    response = post_image(client, photo, keep_s=60, **SMALL, **options)
    assert response.status_code == 200, response.text
    return response.headers["x-result-id"]


def rerender_stored(client, result_id: str, **options):
    return client.post(f"/v1/image/{result_id}", data=options)


def test_result_is_kept_only_on_request(client, photo):
    assert "x-result-id" not in post_image(client, photo, **SMALL).headers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"output": "cutout", "format": "webp"},
        {"output": "composite", "background": "teal"},
        {"output": "composite", "background": "blur", "blur_radius": "3"},
        {"output": "foreground", "format": "jpeg", "quality": "70"},
        {"output": "bundle"},
        {"crop": "true", "crop_margin": "5%", "size": "40x40"},
        {"refine": "off", "threshold": "0.5", "feather": "2"},
    ],
    ids=str,
)
def test_restyled_result_is_that_of_the_image_sent_again(client, photo, options):
    result_id = keep(client, photo)
    again = rerender_stored(client, result_id, **options)
    assert again.status_code == 200, again.text
    fresh = post_image(client, photo, **SMALL, **options)
    if options.get("output") != "bundle":  # a ZIP has the time in it
        assert again.content == fresh.content
    for name in ("x-width", "x-height", "x-person", "x-matte-confidence", "x-model"):
        assert again.headers[name] == fresh.headers[name]


def test_network_does_not_run_again(make_client, photo):
    engine = FakeEngine()
    client = make_client(engine)
    result_id = keep(client, photo)
    for background in ("red", "green", "blue"):
        assert (
            rerender_stored(
                client, result_id, output="composite", background=background
            ).status_code
            == 200
        )
    assert len(engine.batches) == 1
    assert read_metric(client, "matting_batch_size_count") == 1
    assert read_metric(client, "matting_frames_total", kind="image") == 1


def test_options_come_from_query_form_and_json(client, photo):
    result_id = keep(client, photo)
    url = f"/v1/image/{result_id}"
    wanted = rerender_stored(client, result_id, output="cutout").content
    assert client.post(f"{url}?output=cutout").content == wanted
    assert client.post(url, json={"output": "cutout"}).content == wanted
    assert client.post(url, files={"output": (None, "cutout")}).content == wanted


def test_other_background_picture(client, photo, portrait):
    result_id = keep(client, photo)
    background = encode(np.full((9, 9, 3), (10, 200, 30), np.uint8), "PNG")
    response = client.post(
        f"/v1/image/{result_id}",
        files={"background_file": background},
        data={"output": "composite"},
    )
    wanted = rerender_stored(client, result_id, output="composite", background="#0ac81e")
    np.testing.assert_allclose(
        decode(response.content).astype(int), decode(wanted.content).astype(int), atol=1
    )


@pytest.mark.parametrize("name", ["model", "ref_size", "keep_s"])
def test_what_the_network_has_done_cannot_change(client, photo, name):
    problem = assert_problem(
        rerender_stored(client, keep(client, photo), **{name: "64"}), 422, "invalid-option"
    )
    assert name in problem["detail"]


def test_file_beside_the_options_is_refused(client, photo):
    url = f"/v1/image/{keep(client, photo)}"
    assert_problem(client.post(url, files={"file": photo}), 422, "invalid-option")
    headers = {"Content-Type": "image/jpeg"}
    assert_problem(client.post(url, content=photo, headers=headers), 415, "unsupported-media")


@pytest.mark.parametrize("result_id", ["nothing", "x" * 500, "..%2f..%2fetc"])
def test_unknown_id_is_not_found(client, result_id):
    assert_problem(client.post(f"/v1/image/{result_id}"), 404, "not-found")


def test_result_of_another_key_is_not_found(make_client, photo):
    client = make_client(FakeEngine(), api_keys="one,two")
    headers = {"X-API-Key": "one", "Content-Type": "image/jpeg"}
    response = client.post("/v1/image?keep_s=60", content=photo, headers=headers)
    url = f"/v1/image/{response.headers['x-result-id']}"
    assert client.post(url, headers={"X-API-Key": "one"}).status_code == 200
    assert_problem(client.post(url, headers={"X-API-Key": "two"}), 404, "not-found")


def test_result_that_made_room_is_gone(make_client, portrait):
    large = encode(np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8), "PNG")
    client = make_client(FakeEngine(), result_store_mb=1)
    first, second = keep(client, large), keep(client, large)
    problem = assert_problem(rerender_stored(client, first), 410, "gone")
    assert "keep_s" in problem["hint"]
    assert rerender_stored(client, second).status_code == 200


def test_own_alpha_that_was_returned_stays_the_matte(client, portrait):
    alpha = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    data = encode(np.dstack([portrait[::4, ::4], alpha]), "PNG")
    result_id = keep(client, data, existing_alpha="return")
    response = rerender_stored(client, result_id)
    np.testing.assert_array_equal(decode(response.content), alpha)
    assert "x-person" not in response.headers and "x-model" not in response.headers
    problem = assert_problem(
        rerender_stored(client, result_id, existing_alpha="ignore"), 422, "invalid-option"
    )
    assert "network" in problem["detail"]


def test_upload_that_is_too_large_for_the_store_is_said(make_client):
    large = encode(np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8), "PNG")
    client = make_client(FakeEngine(), result_store_mb=1)
    response = post_image(client, large, keep_s=60)
    assert_problem(response, 507, "insufficient-storage")
