"""All Prometheus metrics of the service."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from service import __version__
from service.telemetry.record import current_record

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each series, which nobody reads

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STAGES = ("decode", "queue", "inference", "refine", "encode")
REJECTIONS = (
    "overloaded",
    "too_large",
    "unauthorized",
    "quota",
    "timeout",
    "disconnected",
    "draining",
)


class Metrics:
    """All metrics of one app; each app has a registry of its own, so that several can live."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "matting_requests_total",
            "Requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.request_duration = self._histogram(
            "matting_request_duration_seconds", "Time from first byte to last.", ("route",)
        )
        self.stage_duration = self._histogram(
            "matting_stage_duration_seconds", "Time of one stage of one image.", ("stage",)
        )
        self.requests_in_progress = self._gauge(
            "matting_requests_in_progress", "Requests not yet answered."
        )
        self.requests_rejected = Counter(
            "matting_requests_rejected_total",
            "Requests refused before any work.",
            ("reason",),
            registry=self.registry,
        )
        self.key_use = Counter(
            "matting_key_use_total",
            "Megapixels of images and seconds of video that keys have used.",
            ("key", "unit"),
            registry=self.registry,
        )
        self.upload_bytes = self._gauge(
            "matting_upload_bytes", "Bytes of request bodies that are on their way."
        )
        self.queue_depth = self._gauge("matting_queue_depth", "Images waiting for the network.")
        self.batch_size = Histogram(
            "matting_batch_size",
            "Images in one run.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.inference_failures = Counter(
            "matting_inference_failures_total",
            "Runs of the network that failed.",
            ("kind",),
            registry=self.registry,
        )
        self.decoder_restarts = Counter(
            "matting_decoder_restarts_total", "Decoder children replaced.", registry=self.registry
        )
        self.frames = Counter(
            "matting_frames_total", "Frames matted.", ("kind",), registry=self.registry
        )
        # Their ratio is the real-time factor: seconds of video for one second of work.
        self.clip_s = Counter(
            "matting_clip_seconds_total", "Seconds of clips matted.", registry=self.registry
        )
        self.clip_work_s = Counter(
            "matting_clip_work_seconds_total",
            "Seconds that matting them took.",
            registry=self.registry,
        )
        self.frames_dropped = Counter(
            "matting_live_frames_dropped_total",
            "Frames of live sockets that waited too long and were left out.",
            registry=self.registry,
        )
        self.deliveries = Counter(
            "matting_deliveries_total",
            "Webhooks, and results sent by PUT, that ended.",
            ("kind", "state"),
            registry=self.registry,
        )
        self.storage_failures = Counter(
            "matting_storage_failures_total",
            "Calls of the object storage that failed after all tries.",
            registry=self.registry,
        )
        self.jobs = self._gauge("matting_jobs", "Jobs that are known.", ("state",))
        self.sessions_active = self._gauge("matting_sessions_active", "Sessions that are open.")
        self.session_buffer_bytes = self._gauge(
            "matting_session_buffer_bytes", "Memory of all sessions between chunks."
        )
        self.model_info = self._gauge(
            "matting_model_info", "The model served.", ("name", "sha256", "provider", "precision")
        )
        self.ready = self._gauge("matting_ready", "1 when the service takes work.")
        build = self._gauge("matting_build_info", "The build.", ("version", "python"))
        build.labels(__version__, platform.python_version()).set(1)
        for stage in STAGES:
            self.stage_duration.labels(stage)
        for reason in REJECTIONS:
            self.requests_rejected.labels(reason)
        for kind in ("image", "video", "session", "live"):
            self.frames.labels(kind)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)


class StageTimes:
    """The stages of one request, in seconds; also observed in the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._record = current_record.get()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def add(self, stage: str, seconds: float, before_s: float = 0.0) -> None:
        """Take in a stage that ended `before_s` ago."""
        self._seconds[stage] += seconds
        record = self._record
        exemplar = None if record is None else record.exemplar
        self._metrics.stage_duration.labels(stage).observe(seconds, exemplar)
        if record is not None and record.trace is not None:
            record.trace.add_stage(stage, seconds, before_s)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start_s = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start_s)

    @property
    def milliseconds(self) -> dict[str, float]:
        """All stages, those that did not run with 0."""
        return {name: seconds * 1000 for name, seconds in self._seconds.items()}
