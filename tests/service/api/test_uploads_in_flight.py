"""Bodies that have not come yet: what is promised for them, and what they cost until then."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from service.errors import Overloaded
from service.gate import ByteBudget
from service.metrics import Metrics
from tests.fakes import BlockedEngine, FakeEngine
from tests.helpers import (
    RawConnection,
    assert_problem,
    connect,
    post_image,
    read_metric,
    wait_until,
)
from tests.sockets import serve

MB = 2**20
JSON = {"Content_Type": "application/json"}


def test_budget_counts_what_is_promised() -> None:
    budget = ByteBudget(100, Metrics())
    first = budget.take(60)
    with pytest.raises(Overloaded) as caught:
        budget.take(41)
    assert (caught.value.limit, caught.value.actual) == (100, 101)
    second = budget.take(40)
    first.close()
    first.close()
    assert budget.bytes == 40
    second.close()
    budget.take(1000).close()  # alone
    assert budget.bytes == 0


def test_quarter_of_the_budget_is_for_keys_that_send_nothing_yet() -> None:
    budget = ByteBudget(100, Metrics())
    tickets = [budget.take(count, "one") for count in (50, 25)]
    with pytest.raises(Overloaded) as caught:
        budget.take(1, "one")
    assert (caught.value.limit, caught.value.actual) == (75, 76)
    tickets += [budget.take(20, "two"), budget.take(5)]
    with pytest.raises(Overloaded):
        budget.take(1, "three")
    for ticket in tickets:
        ticket.close()
    assert budget.bytes == 0 and not any(budget.own_bytes.values())


def test_slow_bodies_of_one_key_leave_room_for_another() -> None:
    with serve(FakeEngine(), uploads_max_mb=60, api_keys="one,two") as client:
        port = client.base_url.port
        with connect(port) as first, connect(port) as second, connect(port) as other:
            first.send_head("POST /v1/image", **JSON, X_API_Key="one", Content_Length=25 * MB)
            wait_until(lambda: read_metric(client, "matting_upload_bytes") == 25 * MB)
            asked = JSON | {"Content_Length": 25 * MB, "Expect": "100-continue"}
            second.send_head("POST /v1/image", **asked, X_API_Key="one")
            assert read_code(second) == "overloaded"
            other.send_head("POST /v1/image", **asked, X_API_Key="two")
            wait_until(lambda: read_metric(client, "matting_upload_bytes") == 50 * MB)


@pytest.fixture(scope="module")
def site():
    with serve(FakeEngine(), uploads_max_mb=60, uploads_memory_max_mb=40) as client:
        yield client


@pytest.fixture
def raws(site):
    """Open raw connections; all are closed at the end, and their shares come back."""
    opened: list[RawConnection] = []

    def open_one() -> RawConnection:
        opened.append(RawConnection(site.base_url.port))
        return opened[-1]

    yield open_one
    for raw in opened:
        raw.close()
    wait_until(lambda: read_metric(site, "matting_upload_bytes") == 0)


def read_code(raw: RawConnection) -> str:
    return json.loads(raw.receive_response().body)["code"]


def test_bodies_over_the_budget_are_429_before_a_byte(site, raws) -> None:
    for _ in range(2):
        raws().send_head("POST /v1/image", **JSON, Content_Length=25 * MB)
    wait_until(lambda: read_metric(site, "matting_upload_bytes") == 50 * MB)
    third = raws()
    third.send_head("POST /v1/image", **JSON, Content_Length=25 * MB, Expect="100-continue")
    response = third.receive_response()
    assert response.status == 429 and response.headers["retry-after"] == "1"
    small = site.post("/v1/image", content=b"hello", headers={"Content-Type": "image/png"})
    assert_problem(small, 415, "unsupported-media")


def test_body_without_a_length_counts_as_the_most_of_its_route(site, raws) -> None:
    for _ in range(2):
        raws().send_head("POST /v1/image", Content_Type="image/png", Transfer_Encoding="chunked")
    wait_until(lambda: read_metric(site, "matting_upload_bytes") > 50 * MB)
    third = raws()
    third.send_head("POST /v1/image", Content_Type="image/png", Transfer_Encoding="chunked")
    assert read_code(third) == "overloaded"


def test_bodies_that_are_held_in_memory_have_a_smaller_budget(site, raws) -> None:
    first = raws()
    first.send_head("POST /v1.0/removebg", **JSON, Content_Length=30 * MB)
    wait_until(lambda: read_metric(site, "matting_upload_bytes") == 30 * MB)
    second = raws()
    second.send_head("POST /v1.0/removebg", **JSON, Content_Length=30 * MB)
    assert json.loads(second.receive_response().body)["errors"][0]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    "path", ["/v1/image", "/v1/image/some-id", "/v1.0/removebg", "/api/remove"]
)
def test_body_that_there_is_no_room_for_is_429_before_a_byte(
    portrait_jpeg: bytes, path: str
) -> None:
    engine = BlockedEngine()
    with serve(engine, max_requests=1) as client, connect(client.base_url.port) as raw:
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(post_image, client, portrait_jpeg)
            assert engine.entered.wait(60)
            raw.send_head(f"POST {path}", Content_Type="image/png", Content_Length=5 * MB)
            response = raw.receive_response()
            engine.release.set()
            assert response.status == 429 and int(response.headers["retry-after"]) >= 1
            assert running.result().status_code == 200


def test_share_comes_back_when_the_client_leaves(site, raws) -> None:
    raw = raws()
    raw.send_head("POST /v1/image", **JSON, Content_Length=25 * MB)
    raw.send(b"x" * 1000)
    wait_until(lambda: read_metric(site, "matting_upload_bytes") == 25 * MB)
    raw._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: read_metric(site, "matting_upload_bytes") == 0)


def test_clip_that_the_disk_has_no_room_for_is_507_before_a_byte() -> None:
    settings = {"disk_min_free_bytes": 2**62}
    with serve(FakeEngine(), **settings) as client, connect(client.base_url.port) as raw:
        raw.send_head("POST /v1/video", Content_Type="video/mp4", Content_Length=5 * MB)
        assert read_code(raw) == "insufficient-storage"


@pytest.mark.parametrize("path", ["/v1/image", "/v1.0/removebg"])
def test_unfinished_json_bodies_cost_no_memory(live_server, path: str) -> None:
    server = live_server(max_requests=1, uploads_memory_max_mb=1024)
    process, size, count = psutil.Process(server.pid), 24 * MB, 6
    before = process.memory_info().rss
    opened = []
    try:
        for _ in range(count):
            raw = RawConnection(server.port)
            opened.append(raw)
            raw.send_head(f"POST {path}", **JSON, Content_Length=size + 1)
            raw.send(b'{"image_b64": "' + b"A" * (size - 15))
        # They have arrived: what is not read waits in the kernel, and is little.
        wait_until(lambda: count_spooled(process) > count * (size - 4 * MB), 60)
        assert process.memory_info().rss - before < count * size / 4
    finally:
        for raw in opened:
            raw.close()


def count_spooled(process: psutil.Process) -> int:
    """Return the bytes of all files of a process that are deleted already."""
    total = 0
    folder = f"/proc/{process.pid}/fd"
    for fd in os.listdir(folder):
        try:
            if "(deleted)" in os.readlink(f"{folder}/{fd}"):
                total += os.stat(f"{folder}/{fd}").st_size
        except FileNotFoundError:
            continue
    return total
