"""What a job sends when it has ended: results by PUT, and a signed webhook."""

import base64
import hashlib
import hmac
import json
import re
import socket
from collections.abc import Iterator

import pytest

from service.jobs.deliveries import AT_ONCE, OWN_AT_ONCE
from tests.fakes import FakeEngine
from tests.helpers import ROOT, assert_problem, read_metric, wait_until
from tests.job_requests import bring, wait_for_end
from tests.receiver import Receiver, Reply, open_receiver

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
SETTINGS = {
    "webhook_secret": SECRET,
    "put_results": True,
    "outgoing_allow": "127.0.0.0/8",
    "delivery_retry_s": 0.01,
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with open_receiver() as opened:
        yield opened


def submit(client, clip: bytes, **options) -> str:
    response = bring(client, clip, **options)
    assert response.status_code == 202, response.text
    return response.headers["location"]


def wait_for_deliveries(client, url: str) -> list[dict]:
    return wait_until(
        lambda: (
            (sent := client.get(url).json()["deliveries"])
            and all(one["state"] != "pending" for one in sent)
            and sent
        ),
        60,
    )


def test_webhook_is_signed_and_carries_the_job(make_client, receiver, clip) -> None:
    client = make_client(FakeEngine(), **SETTINGS)
    url = submit(client, clip, webhook=f"{receiver.url}/hook?token=1")
    (sent,) = wait_for_deliveries(client, url)
    assert sent["kind"] == "webhook" and sent["state"] == "delivered"
    assert sent["url"] == f"{receiver.url}/hook?…" and sent["tries"][0]["status"] == 200
    (request,) = receiver.requests
    assert request.method == "POST" and request.path == "/hook?token=1"
    told = request.headers
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + request.body
    digest = hmac.new(KEY, signed, hashlib.sha256).digest()
    assert told["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    examples = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/jobs.md").read_text(), re.M | re.S
    )
    (check,) = (text for text in examples if "def is_genuine(" in text)
    exec(check, scope := {})  # the recipe of the documents
    assert scope["is_genuine"](SECRET, told, request.body)
    assert not scope["is_genuine"](SECRET, told, request.body + b" ")
    event, job = json.loads(request.body), client.get(url).json()
    assert event["type"] == "job.succeeded" and event["timestamp"].endswith("Z")
    assert event["data"]["results"] == job["results"] and event["data"]["id"] == job["id"]
    assert "token" not in json.dumps(job)
    labels = {"kind": "webhook", "state": "delivered"}
    assert read_metric(client, "matting_deliveries_total", **labels) == 1


def test_webhook_is_sent_again_under_the_same_id(make_client, receiver, clip) -> None:
    replies = iter([Reply(500), Reply(301, headers={"Location": "/x"}), Reply(204)])
    receiver.answer = lambda request: next(replies)
    client = make_client(FakeEngine(), **SETTINGS)
    (sent,) = wait_for_deliveries(client, submit(client, clip, webhook=receiver.url))
    assert [one["status"] for one in sent["tries"]] == [500, 301, 204]
    assert sent["state"] == "delivered"
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@pytest.mark.parametrize("status, tries", [(410, 1), (503, 3)])
def test_webhook_is_given_up(make_client, receiver, clip, status: int, tries: int) -> None:
    receiver.answer = lambda request: Reply(status)
    client = make_client(FakeEngine(), **SETTINGS, delivery_tries=3)
    (sent,) = wait_for_deliveries(client, submit(client, clip, webhook=receiver.url))
    assert sent["state"] == "failed" and len(sent["tries"]) == tries == len(receiver.requests)


def test_slow_receivers_of_one_key_hold_up_no_other_key(make_client, receiver, clip) -> None:
    client = make_client(FakeEngine(), **SETTINGS, api_keys="one,two", outgoing_timeout_s=600)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client.headers["X-API-Key"] = "one"
        slow = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for _ in range(AT_ONCE):
            submit(client, clip, webhook=slow)
        held = [silent.accept()[0] for _ in range(OWN_AT_ONCE)]
        client.headers["X-API-Key"] = "two"
        url = submit(client, clip, webhook=receiver.url)
        (sent,) = wait_for_deliveries(client, url)
        assert sent["state"] == "delivered"
        for connection in held:
            connection.close()


def test_failed_job_is_told_too(make_client, receiver, clip) -> None:
    client = make_client(FakeEngine(), **SETTINGS)
    url = submit(client, clip[:2000], webhook=receiver.url, put_urls=f"{receiver.url}/put")
    wait_for_deliveries(client, url)
    (request,) = receiver.requests
    event = json.loads(request.body)
    assert event["type"] == "job.failed" and event["data"]["error"]["code"]


def test_results_are_sent_by_put_before_the_webhook(make_client, receiver, clip) -> None:
    client = make_client(FakeEngine(), **SETTINGS)
    puts = [f"{receiver.url}/one?signature=a", f"{receiver.url}/two?signature=b"]
    url = submit(client, clip, outputs="alpha,webm", put_urls=" ".join(puts), webhook=receiver.url)
    sent = wait_for_deliveries(client, url)
    assert [one["name"] for one in sent] == ["alpha.mp4", "cutout.webm", None]
    assert [request.method for request in receiver.requests] == ["PUT", "PUT", "POST"]
    job = client.get(url).json()
    for result, request in zip(job["results"], receiver.requests, strict=False):
        assert hashlib.sha256(request.body).hexdigest() == result["sha256"]
        assert request.headers["content-type"] == result["content_type"]
    told = json.loads(receiver.requests[2].body)["data"]["deliveries"]
    assert [one["state"] for one in told] == ["delivered", "delivered", "pending"]
    assert "signature" not in json.dumps(job) and "signature" not in json.dumps(told)


def test_pending_webhook_is_sent_by_the_next_process(make_client, receiver, clip, tmp_path) -> None:
    receiver.answer = lambda request: Reply(500)
    slow = SETTINGS | {"data_dir": tmp_path, "delivery_retry_s": 600}
    client = make_client(FakeEngine(), **slow)
    url = submit(client, clip, webhook=receiver.url)
    wait_for_end(client, url)
    wait_until(lambda: client.get(url).json()["deliveries"], 30)
    client.__exit__(None, None, None)
    receiver.answer = lambda request: Reply(200)
    again = make_client(FakeEngine(), **SETTINGS | {"data_dir": tmp_path})
    (sent,) = wait_for_deliveries(again, url)
    assert [one["status"] for one in sent["tries"]] == [500, 200]


def test_what_cannot_be_sent_is_refused_at_submit(make_client, receiver, clip) -> None:
    client = make_client(FakeEngine(), **SETTINGS)
    for options, headers in (
        ({"webhook": receiver.url}, {}),  # no job
        ({"webhook": "http://10.0.0.1/"}, None),
        ({"webhook": "ftp://example.com/"}, None),
        ({"put_urls": receiver.url, "outputs": "alpha,webm"}, None),
    ):
        more = {} if headers is None else {"headers": headers}
        assert_problem(bring(client, clip, **more, **options), 422, "invalid-option")
    plain = make_client(FakeEngine())
    for options in ({"webhook": receiver.url}, {"put_urls": receiver.url}):
        problem = assert_problem(bring(plain, clip, **options), 422, "invalid-option")
        assert "MATTING_" in problem["hint"]
    assert not receiver.requests
