"""Several images in one request."""

import io
import json
import zipfile

import numpy as np
import pytest

from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import Exchange, assert_problem, decode, encode, post_image, wait_until

SMALL = {"ref_size": "64"}


@pytest.fixture(scope="module")
def photos(portrait) -> list[bytes]:
    return [encode(portrait[::4, ::4], "PNG"), encode(portrait[::5, ::4], "JPEG")]


def post(client, files: list[tuple[str, bytes]], **options):
    parts = [("file", (name, data)) for name, data in files]
    return client.post("/v1/image", files=parts, data=options)


def unpack(response) -> tuple[dict[str, bytes], list[dict]]:
    """Return the files of the ZIP and its report."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    return files, json.loads(files.pop("report.json"))


def test_results_come_in_input_order_as_single_requests_give_them(client, photos):
    files, report = unpack(post(client, [("b.png", photos[0]), ("a.jpg", photos[1])], **SMALL))
    assert list(files) == ["001.png", "002.png"]
    for data, content in zip(photos, files.values(), strict=True):
        assert content == post_image(client, data, **SMALL).content
    assert [entry["file"] for entry in report] == ["b.png", "a.jpg"]
    assert [entry["results"] for entry in report] == [["001.png"], ["002.png"]]
    assert [(entry["width"], entry["height"]) for entry in report] == [(128, 128), (128, 103)]


def test_bad_file_does_not_fail_the_others_and_the_report_says_why(client, photos):
    broken = photos[0][:200]
    named = [("a", photos[0]), ("b", b"hello"), ("c", broken), ("d", photos[1])]
    files, report = unpack(post(client, named, output="cutout", format="webp", **SMALL))
    assert list(files) == ["001.webp", "004.webp"]
    assert [entry["status"] for entry in report] == [200, 415, 422, 200]
    assert report[1]["problem"]["code"] == "unsupported-media"
    assert report[2]["problem"]["code"] == "undecodable-media"
    assert decode(files["004.webp"]).shape == (103, 128, 4)


def test_bundles_lie_in_folders(client, photos):
    files, report = unpack(
        post(client, [("a", photos[0]), ("b", photos[1])], output="bundle", **SMALL)
    )
    assert list(files) == ["001/color.jpg", "001/alpha.png", "002/color.jpg", "002/alpha.png"]
    assert report[1]["results"] == ["002/color.jpg", "002/alpha.png"]


def test_one_background_serves_all(client, photos):
    background = encode(np.full((8, 8, 3), (0, 0, 200), np.uint8), "PNG")
    parts = [("file", photos[0]), ("file", photos[0]), ("background_file", background)]
    files, _ = unpack(client.post("/v1/image", files=parts, data={"output": "composite", **SMALL}))
    first, second = files.values()
    assert first == second and decode(first)[0, 64].tolist() != [255, 255, 255]


def test_file_names_reach_only_the_report(client, photos):
    files, report = unpack(post(client, [("../../x", photos[0]), ("001.png", photos[1])], **SMALL))
    assert list(files) == ["001.png", "002.png"]
    assert report[0]["file"] == "../../x"


@pytest.mark.parametrize("options", [{"format": "json"}, {"output": "cutout", "format": "jpeg"}])
def test_format_that_no_entry_can_have_is_refused(client, photos, options):
    response = post(client, [("a", photos[0]), ("b", photos[1])], **options)
    assert response.status_code == 422


def test_trimap_for_several_images_is_refused(client, photos):
    parts = [("file", photos[0]), ("file", photos[0]), ("trimap_file", photos[0])]
    assert_problem(client.post("/v1/image", files=parts), 422, "invalid-option")


def test_more_files_than_allowed_are_refused(make_client, photos):
    client = make_client(FakeEngine(), batch_max_files=2)
    assert post(client, [("a", photos[0])] * 2).status_code == 200
    problem = assert_problem(post(client, [("a", photos[0])] * 3), 400, "bad-request")
    assert "3 files" in problem["detail"] and "2" in problem["detail"]
    assert_problem(post(client, [("a", photos[0])] * 9), 400, "bad-request")


def test_batch_may_have_more_bytes_than_one_image(make_client, photos):
    size = max(map(len, photos))
    client = make_client(FakeEngine(), image_max_bytes=size, batch_max_bytes=10 * size)
    assert post(client, [("a", photos[0])] * 5).status_code == 200
    large = [("a", photos[0]), ("b", b"x" * (size + 1))]
    assert_problem(post(client, large), 413, "payload-too-large")
    over = [("a", b"x" * size)] * 30
    problem = assert_problem(post(client, over), 413, "payload-too-large")
    assert problem["limit"] > 10 * size


def test_batch_counts_as_one_request_and_leaves_the_gate_empty(make_client, photos):
    client = make_client(FakeEngine())
    post(client, [("a", photos[0]), ("b", b"hello")])
    gate = client.app.state.services.runtime.gate
    assert (gate.requests, gate.pixels) == (0, 0)


def test_client_that_leaves_ends_the_batch(make_client, photos):
    engine = BlockedEngine()
    client = make_client(engine)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = b"".join(head + data + b"\r\n" for data in photos * 2) + b"--x--\r\n"
    exchange = Exchange(client, "/v1/image", body, content_type=b"multipart/form-data; boundary=x")
    assert engine.entered.wait(10)
    exchange.disconnect()
    exchange.wait()
    engine.release.set()
    wait_until(lambda: client.app.state.services.runtime.gate.requests == 0)
    assert len(engine.batches) == 1, "the others are not matted for nobody"
