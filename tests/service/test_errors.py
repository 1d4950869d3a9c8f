"""Every error is a problem document, and none tells what only the operator may know."""

import json
import logging
import sys

import pytest

from service import errors
from service.errors import MattingError
from service.log import JsonFormatter, current_request_id
from tests.fakes import BrokenEngine, FakeEngine
from tests.helpers import assert_problem, encode, list_decoders, post_image, read_metric


@pytest.fixture(scope="module")
def fake_client():
    from tests.conftest import open_client

    with open_client(FakeEngine()) as opened:
        yield opened


@pytest.fixture(scope="module")
def image(portrait) -> bytes:
    return encode(portrait[:40, :40], "PNG")


CONTRACT = {
    "bad-request": 400,
    "unauthorized": 401,
    "not-found": 404,
    "request-timeout": 408,
    "conflict": 409,
    "chunk-conflict": 409,
    "chunk-out-of-order": 409,
    "in-progress": 409,
    "gone": 410,
    "payload-too-large": 413,
    "unsupported-media": 415,
    "invalid-option": 422,
    "undecodable-media": 422,
    "media-limit-exceeded": 422,
    "media-too-complex": 422,
    "impossible-output": 422,
    "overloaded": 429,
    "not-ready": 503,
    "draining": 503,
    "deadline-exceeded": 504,
    "insufficient-storage": 507,
}


def test_error_tree_has_the_slugs_and_statuses_of_the_contract():
    found = {
        kind.slug: kind.status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, MattingError) and kind is not MattingError
    }
    assert CONTRACT.items() <= found.items()


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1/nothing", "/assets/none", "/assets/../app.py", "/%00"]
)
def test_unknown_path_is_a_404_document(fake_client, path):
    assert_problem(fake_client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", "/v1/image", "POST"),
        ("DELETE", "/v1/image", "POST"),
        ("POST", "/livez", "GET"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/assets/swagger-ui.css", "GET"),
        ("BREW", "/metrics", "GET"),
    ],
)
def test_other_method_is_a_405_document(fake_client, method, path, allowed):
    response = fake_client.request(method, path)
    problem = assert_problem(response, 405, "method-not-allowed")
    assert allowed in response.headers["allow"] and allowed in problem["detail"]


@pytest.mark.parametrize("given", ["a", "abc-DEF_1.2", "x" * 128])
def test_request_id_is_echoed(fake_client, given):
    response = fake_client.get("/livez", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given
    problem = fake_client.get("/nothing", headers={"X-Request-ID": given}).json()
    assert problem["instance"] == given


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Request-ID", "")],
        [("X-Request-ID", "x" * 129)],
        [("X-Request-ID", "a b")],
        [("X-Request-ID", "<script>")],
        [("X-Request-ID", b"\xff")],
        [("X-Request-ID", "a"), ("X-Request-ID", "b")],
    ],
)
def test_request_id_that_cannot_be_used_is_replaced(fake_client, headers):
    first = fake_client.get("/livez", headers=headers).headers.get_list("x-request-id")
    second = fake_client.get("/livez", headers=headers).headers.get_list("x-request-id")
    assert len(first) == len(second) == 1 and first != second
    assert len(first[0]) == 32 and first[0].isalnum()


def test_no_answer_may_be_sniffed(fake_client):
    for path in ("/livez", "/nothing", "/docs"):
        assert fake_client.get(path).headers["x-content-type-options"] == "nosniff"


def test_unforeseen_error_is_a_500_document_without_its_text(
    fake_client, image, monkeypatch, caplog
):
    def fail(*args):
        raise RuntimeError("secret of the inside, /home/someone")

    monkeypatch.setattr("service.decoding.check_size", fail)
    response = post_image(fake_client, image)
    problem = assert_problem(response, 500, "internal-error")
    for word in ("secret", "home", "RuntimeError", "Traceback", "line "):
        assert word not in response.text
    assert "log" in problem["hint"]
    assert "secret of the inside" in caplog.text, "the operator needs it"
    labels = {"route": "/v1/image", "method": "POST", "status": "500"}
    assert read_metric(fake_client, "matting_requests_total", **labels) == 1
    monkeypatch.undo()
    assert post_image(fake_client, image).status_code == 200


def test_failing_network_is_500_and_not_ready_until_a_probe_passes(make_client, image):
    engine = BrokenEngine()
    client = make_client(engine)
    assert client.get("/readyz").status_code == 200, "nothing has failed yet"
    response = post_image(client, image)
    assert_problem(response, 500, "internal-error")
    assert "secret" not in response.text
    not_ready = client.get("/readyz")
    problem = assert_problem(not_ready, 503, "not-ready")
    assert "`fake` failed" in problem["detail"] and int(not_ready.headers["retry-after"]) >= 1
    assert client.get("/livez").status_code == 200
    assert len(engine.batches) == 2, "readiness tried a picture of its own"
    assert read_metric(client, "matting_ready") == 0
    engine.broken = False
    assert client.get("/readyz").status_code == client.get("/healthz").status_code == 200
    assert read_metric(client, "matting_ready") == 1
    assert post_image(client, image).status_code == 200


def test_matte_that_is_not_finite_is_500_and_never_an_image(make_client, tmp_path, image):
    from service.inference.engine import OnnxEngine
    from service.settings import Settings
    from tests.onnx_files import write_model

    # Its warm-up would fail too: a model can break on one picture only.
    path = write_model(tmp_path / "tiny.onnx", "not-finite")
    engine = OnnxEngine(Settings(model_path=path, device="cpu"))
    engine.warm_up = lambda: None
    client = make_client(engine)
    for output in ("alpha", "cutout", "composite"):
        assert_problem(post_image(client, image, output=output), 500, "internal-error")
    failures = read_metric(client, "matting_inference_failures_total", kind="not-finite")
    assert failures == 3


def test_service_without_a_working_network_does_not_start(tmp_path):
    from service.inference.engine import OnnxEngine
    from service.settings import Settings
    from tests.conftest import open_client
    from tests.onnx_files import write_model

    path = write_model(tmp_path / "tiny.onnx", "not-finite")
    engine = OnnxEngine(Settings(model_path=path, device="cpu"))
    before = list_decoders()
    with pytest.raises(Exception, match="not numbers"), open_client(engine):
        pass
    assert list_decoders() == before, "decoder children were left behind"


# The log.


def make_record(**more) -> logging.LogRecord:
    record = logging.LogRecord("service.x", logging.WARNING, "f.py", 1, "say %s", ("hi",), None)
    vars(record).update(more)
    return record


def test_log_lines_are_json_with_the_request_id():
    token = current_request_id.set("id-1")
    try:
        line = JsonFormatter().format(make_record(fields={"status": 200}))
    finally:
        current_request_id.reset(token)
    entry = json.loads(line)
    assert "\n" not in line
    assert entry["message"] == "say hi" and entry["level"] == "warning"
    assert entry["request_id"] == "id-1" and entry["status"] == 200
    assert "request_id" not in json.loads(JsonFormatter().format(make_record()))


def test_log_line_of_an_exception_is_one_line():
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        line = JsonFormatter().format(make_record(exc_info=sys.exc_info()))
    assert "\n" not in line and "ValueError" in json.loads(line)["exception"]


def test_request_is_logged_with_its_route_and_trace(fake_client, caplog):
    with caplog.at_level("INFO", logger="service.api.request_layer"):
        fake_client.get("/livez?secret=1", headers={"traceparent": "00-abc\x7f-01"})
    (record,) = [record for record in caplog.records if record.message == "request"]
    assert record.fields["route"] == "/livez" and record.fields["status"] == 200
    assert record.fields["traceparent"].startswith("00-abc")
    assert "secret" not in str(record.fields)
