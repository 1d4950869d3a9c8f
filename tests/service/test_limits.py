"""The admission gate, alone and through HTTP with a network that a test holds back."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from service.errors import Overloaded
from service.gate import AdmissionGate
from service.metrics import Metrics
from tests.fakes import BlockedEngine, BrokenEngine, FakeEngine
from tests.helpers import Exchange, assert_problem, encode, post_image, read_metric, wait_until
from tests.hostile import make_flat_png, make_png


def make_gate(**limits) -> AdmissionGate:
    defaults = {"max_requests": 3, "max_megapixels": 100, "queue_s": 1}
    return AdmissionGate(**(defaults | limits), metrics=Metrics())


def test_gate_counts_requests_and_frees_them():
    gate = make_gate(max_requests=2)
    with gate.try_enter():
        with gate.try_enter():
            with pytest.raises(Overloaded) as caught:
                gate.try_enter()
            assert (caught.value.limit, caught.value.actual) == (2, 2)
        with gate.try_enter():
            pass
    assert gate.requests == 0


def test_gate_counts_megapixels_and_frees_them():
    gate = make_gate(max_megapixels=10)
    with gate.try_enter() as first:
        first.add_megapixels(6)
        with gate.try_enter() as second:
            second.add_megapixels(4)
            with pytest.raises(Overloaded) as caught:
                with gate.try_enter() as third:
                    third.add_megapixels(0.5)
            assert caught.value.limit == 10 and caught.value.actual == 10.5
        assert gate.megapixels == 6 and gate.requests == 1
    assert gate.megapixels == 0 and gate.requests == 0


def test_gate_is_empty_again_after_any_fractions():
    """0.8 + 0.01 - 0.8 - 0.01 is not zero, and an image would not be alone ever again."""
    gate = make_gate(max_megapixels=1)
    first, second = gate.try_enter(), gate.try_enter()
    first.add_megapixels(0.8)
    second.add_megapixels(0.01)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert gate.megapixels == 0


def test_image_alone_in_the_gate_always_passes():
    gate = make_gate(max_megapixels=10)
    with gate.try_enter() as only:
        only.add_megapixels(50)
        with gate.try_enter() as second, pytest.raises(Overloaded):
            second.add_megapixels(0.1)
    assert gate.megapixels == 0


def test_key_without_a_request_enters_though_others_fill_the_gate():
    gate = make_gate(max_requests=3, queue_s=0)
    gate.observe(1)
    tickets = [gate.try_enter("flood") for _ in range(2)]
    with pytest.raises(Overloaded):
        gate.try_enter("flood")
    with pytest.raises(Overloaded):
        gate.try_enter()  # nobody's
    for owner in ("one", "two"):
        tickets.append(gate.try_enter(owner))
        with pytest.raises(Overloaded):
            gate.try_enter(owner)
    for ticket in tickets:
        ticket.__exit__(None, None, None)
    assert gate.requests == 0 and not any(gate.own_requests.values())


def test_megapixels_are_left_for_keys_that_have_none_in_progress():
    gate = make_gate(max_requests=9, max_megapixels=200, reserved_megapixels=50)
    flood = [gate.try_enter("flood") for _ in range(4)]
    for ticket in flood[:3]:
        ticket.add_megapixels(50)
    with pytest.raises(Overloaded) as caught:
        flood[3].share().add_megapixels(1)
    assert (caught.value.limit, caught.value.actual) == (150, 151)
    with gate.try_enter("other") as other:
        other.add_megapixels(50)
        with gate.try_enter("third") as third, pytest.raises(Overloaded):
            third.add_megapixels(1)  # what all have together stays within the bound
    for ticket in flood:
        ticket.__exit__(None, None, None)
    assert gate.pixels == 0 and not any(gate.own_pixels.values())


@pytest.mark.parametrize("owner", ["anonymous", "key"])
def test_all_files_of_a_request_alone_pass(owner: str):
    gate = make_gate(max_megapixels=200, reserved_megapixels=51)
    with gate.try_enter(owner) as only:
        for _ in ("image", "trimap", "background", "hint"):
            only.add_megapixels(51)
        assert gate.megapixels == 204
        with gate.try_enter(owner) as second, pytest.raises(Overloaded):
            second.add_megapixels(1)


def test_gate_refuses_more_seconds_of_work_than_may_wait():
    gate = make_gate(max_requests=100, queue_s=1)
    gate.observe(0.4)
    tickets = [gate.try_enter() for _ in range(3)]
    with pytest.raises(Overloaded) as caught:
        gate.try_enter()
    assert "1.2 seconds" in caught.value.detail and caught.value.headers["Retry-After"] == "2"
    for ticket in tickets:
        ticket.__exit__(None, None, None)
    gate.try_enter()


def test_one_may_always_wait_behind_the_one_that_runs():
    gate = make_gate(max_requests=100, queue_s=0.1)
    gate.observe(60)
    gate.try_enter()
    gate.try_enter()
    with pytest.raises(Overloaded):
        gate.try_enter()


def test_speed_follows_new_measurements_slowly():
    gate = make_gate()
    gate.observe(1.0)
    assert gate.image_s == 1.0
    gate.observe(2.0)
    assert 1.0 < gate.image_s < 1.5
    for _ in range(60):
        gate.observe(2.0)
    assert gate.image_s == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("image_s, header", [(0.0, "1"), (0.2, "1"), (7.3, "22")])
def test_retry_after_is_whole_seconds_of_the_work_ahead(image_s, header):
    gate = make_gate(max_requests=3, queue_s=1000)
    gate.observe(image_s)
    for _ in range(3):
        gate.try_enter()
    with pytest.raises(Overloaded) as caught:
        gate.try_enter()
    assert caught.value.headers["Retry-After"] == header


# Through HTTP.


@pytest.fixture
def engine():
    """A network that answers when the test says so, at the latest when it ends."""
    blocked = BlockedEngine()
    yield blocked
    blocked.release.set()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:40, :40], "PNG")


def gate_of(client) -> AdmissionGate:
    return client.app.state.services.runtime.gate


def assert_refused_at_once(client, data: bytes) -> None:
    response = post_image(client, data)
    assert_problem(response, 429, "overloaded")
    assert int(response.headers["retry-after"]) >= 1


def test_full_gate_is_429_while_probes_answer(make_client, engine, threads, image):
    client = make_client(engine, max_requests=2)
    running = [threads.submit(post_image, client, image) for _ in range(2)]
    wait_until(lambda: gate_of(client).requests == 2)
    assert_refused_at_once(client, image)
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    assert read_metric(client, "matting_requests_rejected_total", reason="overloaded") == 1
    engine.release.set()
    assert [future.result().status_code for future in running] == [200, 200]
    assert post_image(client, image).status_code == 200


def test_flood_of_one_key_leaves_a_place_for_another(make_client, engine, threads, image):
    client = make_client(engine, max_requests=2, api_keys="one,two")
    one, two = ({"X-API-Key": key} for key in ("one", "two"))
    send = partial(client.post, "/v1/image", files={"file": image})
    running = [threads.submit(send, headers=one) for _ in range(2)]
    wait_until(lambda: gate_of(client).requests == 2)
    assert_problem(send(headers=one), 429, "overloaded")
    running.append(threads.submit(send, headers=two))
    wait_until(lambda: gate_of(client).requests == 3)
    engine.release.set()
    assert [future.result().status_code for future in running] == [200] * 3


def test_megapixels_in_progress_are_429(make_client, engine, threads):
    client = make_client(engine, max_megapixels=1)
    running = threads.submit(post_image, client, make_flat_png(1000, 800))
    assert engine.entered.wait(20)
    assert_refused_at_once(client, make_flat_png(1000, 300))
    assert gate_of(client).requests == 1 and gate_of(client).megapixels == pytest.approx(0.8)
    small = threads.submit(post_image, client, make_flat_png(100, 100))
    wait_until(lambda: gate_of(client).requests == 2)
    engine.release.set()
    assert running.result().status_code == small.result().status_code == 200
    assert post_image(client, make_flat_png(2000, 1000)).status_code == 200, "alone it may pass"
    assert gate_of(client).megapixels == 0


def test_seconds_of_work_are_429(make_client, engine, threads, image):
    client = make_client(engine, queue_s=1)
    gate_of(client).observe(5)
    running = [threads.submit(post_image, client, image) for _ in range(2)]
    wait_until(lambda: gate_of(client).requests == 2)
    response = post_image(client, image)
    assert_problem(response, 429, "overloaded")
    assert response.headers["retry-after"] == "10"
    engine.release.set()
    assert [future.result().status_code for future in running] == [200, 200]


def test_seconds_of_an_image_are_those_of_all_its_passes(make_client):
    engine = FakeEngine()
    engine.info = replace(engine.info, ref_size=96, photo_ref_sizes=(64, 96))
    client = make_client(engine)
    assert post_image(client, make_flat_png(200, 100)).status_code == 200
    assert len(engine.shapes) == 2
    work_s = read_metric(client, "matting_stage_duration_seconds_sum", stage="inference")
    assert gate_of(client).image_s == pytest.approx(work_s) and work_s > 0


def test_every_error_frees_the_gate(make_client, image):
    engine = BrokenEngine()
    client = make_client(engine)
    broken = [b"text", b"", image[:60], make_png(9000, 9000), image]
    statuses = [post_image(client, data).status_code for data in broken]
    assert statuses == [415, 422, 422, 422, 500]
    assert post_image(client, image, output="cutout", format="jpeg").status_code == 422
    assert gate_of(client).requests == 0 and gate_of(client).megapixels == 0


def test_client_that_leaves_the_queue_frees_the_gate_and_is_never_run(make_client, engine, image):
    client = make_client(engine)
    first = Exchange(client, "/v1/image", image)
    assert engine.entered.wait(20)
    second = Exchange(client, "/v1/image", image)
    wait_until(lambda: read_metric(client, "matting_queue_depth") == 1)
    second.disconnect()
    second.wait()
    assert gate_of(client).requests == 1
    assert second.sent[0]["status"] == 499
    assert read_metric(client, "matting_requests_rejected_total", reason="disconnected") == 1
    engine.release.set()
    first.wait()
    assert first.sent[0]["status"] == 200
    assert post_image(client, image).status_code == 200
    assert len(engine.batches) == 2, "the one that left was run"
    assert gate_of(client).requests == 0 and gate_of(client).megapixels == 0


def test_client_that_leaves_inside_its_body_is_no_error_of_ours(make_client, image, caplog):
    client = make_client(FakeEngine())
    request = Exchange(client, "/v1/image", image[:50], is_whole=False)
    request.disconnect()
    request.wait()
    assert "unforeseen" not in caplog.text
    labels = {"route": "/v1/image", "method": "POST"}
    assert read_metric(client, "matting_requests_total", **labels, status="500") == 0
    assert read_metric(client, "matting_requests_total", **labels, status="499") == 1
    assert gate_of(client).requests == 0


def test_request_that_waits_too_long_is_504(make_client, engine, threads, image):
    client = make_client(engine, request_timeout_s=0.2)
    first = threads.submit(post_image, client, image)
    assert engine.entered.wait(20)
    late = threads.submit(post_image, client, image)
    # The deadline is of all work, that of a run in progress too; the run itself goes on.
    for waiting in (first, late):
        assert_problem(waiting.result(), 504, "deadline-exceeded")
    engine.release.set()
    wait_until(lambda: engine.batches)
    assert len(engine.batches) == 1
