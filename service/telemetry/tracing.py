"""Traces of requests and jobs by OpenTelemetry; nothing of it is loaded unless it is asked for."""

import importlib.util
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from service import __version__
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

# W3C Trace Context, version 00.
TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
NS = 1_000_000_000
HTTP_FIELDS = ("method", "route", "status")  # which have names of their own in OpenTelemetry
SERVICE_NAME = "matting-service"


class RequestTrace:
    """The span of one request or job, and those of its stages below it."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        from opentelemetry.trace import set_span_in_context

        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)

    @property
    def trace_id(self) -> str | None:
        """The id that an exporter was given, None when this trace is not sampled."""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}" if context.trace_flags.sampled else None

    def add_stage(self, stage: str, seconds: float, before_s: float = 0.0) -> None:
        end_ns = time.time_ns() - int(before_s * NS)
        start_ns = end_ns - int(seconds * NS)
        self._tracer.start_span(stage, self._context, start_time=start_ns).end(end_ns)

    def end_request(self, request_id: str, fields: Mapping[str, object]) -> None:
        """End the span with the fields of the access line."""
        status = int(str(fields["status"]))
        self._span.update_name(f"{fields['method']} {fields['route']}")
        attributes = {
            "http.request.method": fields["method"],
            "http.route": fields["route"],
            "http.response.status_code": status,
        }
        others = {name: fields[name] for name in fields if name not in HTTP_FIELDS}
        self.end(attributes | {"matting.request_id": request_id} | others, failed=status >= 500)

    def end(self, fields: Mapping[str, object], *, failed: bool) -> None:
        """End the span with these attributes: text and numbers."""
        from opentelemetry.trace import StatusCode

        for name, value in fields.items():
            if isinstance(value, str | int | float):
                self._span.set_attribute(name if "." in name else f"matting.{name}", value)
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Sends spans to a collector by OTLP over HTTP, in batches, from a thread of its own.

    The variables `OTEL_*` of the SDK hold besides: sampling, headers, more resource attributes.
    """

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create(
            {"service.name": SERVICE_NAME, "service.version": __version__},
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider: TracerProvider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE_NAME, __version__)

    def begin(self, name: str, parent: str | None, *, is_request: bool) -> RequestTrace:
        """Begin the span of a request, below that of its `traceparent`, or of a job."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if is_request else SpanKind.INTERNAL
        return RequestTrace(self._tracer, self._tracer.start_span(name, _find(parent), kind))

    def close(self) -> None:
        """Send what is left; blocks for a few seconds when the collector is away."""
        self._provider.shutdown()


def _find(traceparent: str | None) -> "Context":
    """Return the context of the caller's span; an empty one makes a new trace."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    found = TRACEPARENT.fullmatch(traceparent or "")
    if found is None:
        return Context()
    ids = int(found[1], 16), int(found[2], 16)
    caller = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))
    return set_span_in_context(NonRecordingSpan(caller), Context())


def read_trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a `traceparent` header (W3C Trace Context), None when it has none."""
    found = TRACEPARENT.fullmatch(traceparent or "")
    return found[1] if found else None


def check_tracing(settings: Settings) -> None:
    """Raise SettingsError when traces are asked for and their extra is not installed."""
    if settings.otlp_endpoint is None:
        return
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise SettingsError(
            "MATTING_OTLP_ENDPOINT is set, and what sends traces is not installed: "
            "pip install 'matting-service[otel]'"
        )


def start_tracing(settings: Settings) -> Tracing | None:
    """Return what traces requests; None when nobody has asked for it. Raises SettingsError."""
    check_tracing(settings)
    return Tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None
