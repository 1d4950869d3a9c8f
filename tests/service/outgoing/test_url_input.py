"""Input by URL: fetched with bounds, through redirects that are checked, and only when allowed."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.outgoing.calls import MAX_FETCHES, OWN_FETCHES
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, decode, encode, post_image, read_metric, wait_until
from tests.receiver import Received, Receiver, Reply, open_receiver
from tests.videos import Clip

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
HERE = {"url_input": True, "outgoing_allow": "127.0.0.0/8"}
WAITS = HERE | {"outgoing_timeout_s": 60}


@pytest.fixture
def files(portrait_jpeg: bytes, clip: bytes) -> Iterator[Receiver]:
    """A server with a photo, a clip, and ways that lead elsewhere."""

    def answer(request: Received) -> Reply:
        base = f"http://{request.headers['host']}"
        replies = {
            "/photo.jpg": Reply(body=portrait_jpeg),
            "/clip.mp4": Reply(body=clip),
            "/unknown-length": Reply(body=portrait_jpeg, has_length=False),
            "/moved": Reply(302, headers={"Location": "/photo.jpg"}),
            "/loop": Reply(302, headers={"Location": f"{base}/loop"}),
            "/inside": Reply(302, headers={"Location": "http://169.254.169.254/latest/meta-data"}),
            "/file": Reply(302, headers={"Location": "file:///etc/passwd"}),
        }
        return replies.get(request.path.partition("?")[0], Reply(404))

    with open_receiver() as receiver:
        receiver.answer = answer
        yield receiver


@pytest.mark.parametrize("path", ["/photo.jpg", "/moved", "/unknown-length"])
def test_photo_at_a_url_is_matted(make_client, files: Receiver, path: str) -> None:
    client = make_client(FakeEngine(), **HERE)
    url = files.url + path
    answers = [
        client.post("/v1/image", params={"url": url}),
        client.post("/v1/image", data={"url": url}),
        client.post("/v1/image", json={"url": url}),
        client.post("/v1/image", files={"url": (None, url)}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert decode(answer.content).shape == (512, 512)


def test_clip_at_a_url_is_matted_and_becomes_a_job(make_client, files, clip: bytes) -> None:
    client = make_client(FakeEngine(), **HERE)
    answer = client.post("/v1/video", params={"url": f"{files.url}/clip.mp4"})
    assert Clip(answer.content).times == Clip(clip).times
    job = client.post(
        "/v1/video", data={"url": f"{files.url}/clip.mp4"}, headers={"Prefer": "respond-async"}
    )
    assert job.status_code == 202 and "url" not in job.json()["options"]


def test_url_is_refused_unless_the_operator_wants_it(make_client, files) -> None:
    client = make_client(FakeEngine())
    refused = client.post("/v1/image", params={"url": f"{files.url}/photo.jpg"})
    assert "MATTING_URL_INPUT" in assert_problem(refused, 422, "invalid-option")["hint"]
    capabilities = client.get("/v1/capabilities").json()["outgoing"]
    assert not any(capabilities[name] for name in ("url_input", "webhooks", "put_results"))
    assert not files.requests


def test_address_of_the_inside_is_refused_before_it_is_called(make_client, files) -> None:
    client = make_client(FakeEngine(), url_input=True)
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        url = f"http://{host}:{files.port}/photo.jpg"
        assert_problem(client.post("/v1/image", params={"url": url}), 422, "invalid-option")
    assert not files.requests


@pytest.mark.parametrize("path", ["/inside", "/file"])
def test_redirect_is_checked_like_the_first_address(make_client, files, path: str) -> None:
    client = make_client(FakeEngine(), **HERE)
    refused = client.post("/v1/image", params={"url": files.url + path})
    assert_problem(refused, 422, "invalid-option")
    assert len(files.requests) == 1


def test_name_is_resolved_once_and_that_address_is_called(make_client, files, monkeypatch) -> None:
    """A second answer of the name server, to another address, is never asked for."""
    real, asked = socket.getaddrinfo, []

    def answer(host, *arguments, **options):
        if host != "files.example":
            return real(host, *arguments, **options)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    client = make_client(FakeEngine(), **HERE)
    url = f"http://files.example:{files.port}/photo.jpg"
    assert client.post("/v1/image", params={"url": url}).status_code == 200
    assert len(asked) == 1
    assert files.requests[0].headers["host"] == f"files.example:{files.port}"


def test_what_cannot_be_fetched_is_said_without_the_secret(make_client, files) -> None:
    client = make_client(FakeEngine(), **HERE)
    for path, why in (("/none?secret=1", "answers 404"), ("/loop?secret=1", "leads on")):
        refused = client.post("/v1/image", params={"url": files.url + path})
        detail = assert_problem(refused, 422, "fetch-failed")["detail"]
        assert why in detail and "secret" not in detail
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert_problem(client.post("/v1/image", params={"url": url}), 422, "fetch-failed")


@pytest.mark.parametrize("path", ["/photo.jpg", "/unknown-length"])
def test_file_over_the_limit_is_not_read_to_its_end(make_client, files, path: str) -> None:
    client = make_client(FakeEngine(), image_max_bytes=1000, **HERE)
    refused = client.post("/v1/image", params={"url": files.url + path})
    assert assert_problem(refused, 413, "payload-too-large")["limit"] == 1000


def test_slow_server_is_not_waited_for(make_client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = make_client(FakeEngine(), url_timeout_s=0.2, **HERE)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        refused = client.post("/v1/image", params={"url": url})
    assert assert_problem(refused, 422, "fetch-failed")["limit"] == 0.2


def test_file_and_url_do_not_go_together(make_client, files, portrait_jpeg: bytes) -> None:
    client = make_client(FakeEngine(), **HERE)
    both = client.post("/v1/image", files={"file": portrait_jpeg}, data={"url": files.url})
    assert_problem(both, 400, "bad-request")
    assert_problem(client.post("/v1/image", files={"x": (None, "1")}), 400, "bad-request")
    document = client.get("/openapi.json").json()["paths"]["/v1/image"]["post"]
    form = document["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert "url" in form["properties"] and not form["required"]
    assert json.dumps(document)


def test_file_that_the_disk_has_no_room_for_is_not_fetched(make_client, files) -> None:
    client = make_client(FakeEngine(), disk_min_free_bytes=2**60, **HERE)
    refused = client.post("/v1/image", params={"url": f"{files.url}/photo.jpg"})
    assert_problem(refused, 507, "insufficient-storage")


def test_more_fetches_than_may_run_wait_for_their_turn(make_client, files) -> None:
    client = make_client(FakeEngine(), **HERE)
    url = {"url": f"{files.url}/photo.jpg"}
    with ThreadPoolExecutor(7) as pool:
        answers = [*pool.map(lambda _: client.post("/v1/image", params=url), range(7))]
    assert [answer.status_code for answer in answers] == [200] * 7


def test_name_server_without_an_answer_holds_up_nobody_else(make_client, portrait, monkeypatch):
    real, answered = socket.getaddrinfo, threading.Event()

    def answer(host, *arguments, **options):
        if str(host).endswith(".example"):
            answered.wait(60)
            raise socket.gaierror
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    client = make_client(FakeEngine(), webhook_secret=SECRET, outgoing_timeout_s=50)
    large = encode(portrait, "BMP") + bytes(2**20)  # more than is held in memory
    with ThreadPoolExecutor(41) as pool:
        urls = [{"webhook": f"http://{number}.example/"} for number in range(40)]
        files = {"file": b"a clip"}
        waiting = [pool.submit(client.post, "/v1/video", params=url, files=files) for url in urls]
        wait_until(lambda: read_metric(client, "matting_requests_in_progress") > 40)
        try:
            assert pool.submit(post_image, client, large).result(30).status_code == 200
        finally:
            answered.set()
        assert {one.result().status_code for one in waiting} == {422}


def test_slow_servers_of_one_key_hold_up_no_other_key(make_client, files) -> None:
    client = make_client(FakeEngine(), api_keys="one,two", url_timeout_s=20, **WAITS)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(MAX_FETCHES) as pool:
        slow = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        one, two = ({"X-API-Key": key} for key in ("one", "two"))
        for _ in range(MAX_FETCHES):
            pool.submit(client.post, "/v1/image", params=slow, headers=one)
        held = [silent.accept()[0] for _ in range(OWN_FETCHES)]
        photo = {"url": f"{files.url}/photo.jpg"}
        assert client.post("/v1/image", params=photo, headers=two).status_code == 200
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()
        silent.close()
        for connection in held:
            connection.close()


def test_name_that_is_not_found_in_time_is_refused(make_client, monkeypatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60))
    client = make_client(FakeEngine(), url_input=True, outgoing_timeout_s=0.1)
    try:
        refused = client.post("/v1/image", params={"url": "http://slow.example/"})
    finally:
        answered.set()
    assert "within 0.1 s" in assert_problem(refused, 422, "invalid-option")["detail"]
