"""Traces arrive at a collector: a real service sends them to an OTLP endpoint in the test."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.clips import make_clip
from tests.helpers import ROOT, encode, run_service, start_live_server
from tests.service.telemetry.test_lines import TRACE_ID, TRACEPARENT


class Collector(http.server.ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces"
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def read_attributes(span) -> dict:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_collector_gets_a_span_for_each_request_stage_and_job(collector, portrait, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=12, tone=False).read_bytes()
    server = start_live_server(tmp_path / "log", data_dir=tmp_path, otlp_endpoint=collector.url)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        headers = {"traceparent": TRACEPARENT, "X-Request-ID": "r-1", "Content-Type": "image/png"}
        image = encode(portrait[:64, :64], "PNG")
        assert client.post("/v1/image", content=image, headers=headers).status_code == 200
        asks_for_job = {"Prefer": "respond-async"}
        job = client.post("/v1/video", files={"file": clip}, headers=asks_for_job).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
            assert "succeeded" in "".join(events.iter_text())
    assert server.stop() == 0, "what is left is sent at the end"

    spans = collector.spans
    (request,) = (span for span in spans if span.name == "POST /v1/image")
    assert request.trace_id.hex() == TRACE_ID and request.parent_span_id.hex() == TRACEPARENT[36:52]
    attributes = read_attributes(request)
    assert (
        attributes["http.response.status_code"] == 200 and attributes["matting.request_id"] == "r-1"
    )
    assert attributes["matting.megapixels"] == 0.004
    stages = [span for span in spans if span.parent_span_id == request.span_id]
    assert [span.name for span in stages] == ["decode", "queue", "inference", "refine", "encode"]
    for stage in stages:
        assert stage.trace_id == request.trace_id
        assert stage.start_time_unix_nano <= stage.end_time_unix_nano
    assert stages[1].end_time_unix_nano == pytest.approx(stages[2].start_time_unix_nano, abs=2e6)
    (run,) = (span for span in spans if span.name == "job")
    assert read_attributes(run)["matting.state"] == "succeeded" and not run.parent_span_id
    assert [s.name for s in spans if s.parent_span_id == run.span_id] == ["clip"]
    for request in collector.requests:
        assert b"matting-service" in request.resource_spans[0].resource.SerializeToString()


def test_nothing_that_sends_traces_is_loaded_without_an_endpoint() -> None:
    """FastAPI itself loads OpenTelemetry's interface, which does nothing without the SDK."""
    code = (
        "import sys; from service.app import create_app; from service.settings import Settings;"
        "create_app(Settings());"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter');"
        "sys.exit(any(name.startswith(heavy) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_collector_that_is_away_disturbs_nobody(tmp_path):
    server = start_live_server(
        tmp_path / "log", data_dir=tmp_path, otlp_endpoint="http://127.0.0.1:9"
    )
    assert httpx.get(f"{server.url}/v1/models", timeout=60).status_code == 200
    assert server.stop() == 0


def test_endpoint_without_a_scheme_is_refused() -> None:
    done = run_service(otlp_endpoint="localhost:4318")
    assert done.returncode == 3 and "MATTING_OTLP_ENDPOINT" in done.stderr
