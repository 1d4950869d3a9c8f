"""`image_url` of remove.bg and `url` of rembg, where the operator lets the service fetch."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.helpers import decode, encode
from tests.receiver import Receiver, Reply, open_receiver

HERE = {"url_input": True, "outgoing_allow": "127.0.0.0/8"}


@pytest.fixture
def photo(portrait_jpeg: bytes) -> Iterator[Receiver]:
    blue = encode(np.full((8, 8, 3), (0, 0, 255), np.uint8), "PNG")
    with open_receiver() as receiver:
        receiver.answer = lambda request: {
            "/photo.jpg": Reply(body=portrait_jpeg),
            "/blue.png": Reply(body=blue),
        }.get(request.path, Reply(404))
        yield receiver


def test_image_at_an_address_is_cut_out_as_remove_bg_does(make_client, engine, photo) -> None:
    client = make_client(engine, **HERE)
    given = {"image_url": f"{photo.url}/photo.jpg", "size": "full"}
    for answer in (
        client.post("/v1.0/removebg", data=given),
        client.post("/v1.0/removebg", json=given),
    ):
        assert answer.status_code == 200, answer.text
        assert decode(answer.content).shape == (512, 512, 4)
    before = given | {"bg_image_url": f"{photo.url}/blue.png"}
    shown = decode(client.post("/v1.0/removebg", data=before).content)
    assert shown[:60, -60:, :3].mean(axis=(0, 1)) == pytest.approx((0, 0, 255), abs=20)


def test_address_that_cannot_be_fetched_is_an_error_of_remove_bg(
    make_client, engine, photo, portrait_jpeg: bytes
) -> None:
    client = make_client(engine, **HERE)
    for url in (f"{photo.url}/none", "http://10.0.0.1/a.jpg", "file:///etc/passwd"):
        refused = client.post("/v1.0/removebg", data={"image_url": url})
        assert refused.status_code == 400, refused.text
        assert refused.json()["errors"][0]["code"] == "invalid_image_url"
    both = {"files": {"image_file": portrait_jpeg}, "data": {"image_url": f"{photo.url}/photo.jpg"}}
    refused = client.post("/v1.0/removebg", **both)
    assert refused.json()["errors"][0]["code"] == "multiple_sources"


def test_image_at_an_address_is_cut_out_as_rembg_does(make_client, engine, photo) -> None:
    client = make_client(engine, **HERE)
    answer = client.get("/api/remove", params={"url": f"{photo.url}/photo.jpg", "om": "true"})
    assert answer.status_code == 200 and decode(answer.content).shape == (512, 512)
    assert client.get("/api/remove").status_code == 400
