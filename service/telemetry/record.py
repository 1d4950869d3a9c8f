"""What is said about a request or a job when it ends: in its log line, exemplars and trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

MAX_EXEMPLAR_CHARS = 100  # OpenMetrics allows 128 for names and values together


class Trace(Protocol):
    """The trace of one request or job, see `service.telemetry.tracing`."""

    def add_stage(self, stage: str, seconds: float, before_s: float = 0.0) -> None:
        """Add a stage that took `seconds` and ended `before_s` ago."""


@dataclass
class Record:
    """What has been noted: `fields` of the log line, and the labels of exemplars, if any.

    Threads that work on a request have its record, too.
    """

    fields: dict[str, object] = field(default_factory=dict)
    exemplar: dict[str, str] | None = None
    trace: Trace | None = None


current_record: ContextVar[Record | None] = ContextVar("record", default=None)


def annotate(**fields: object) -> None:
    """Note fields for the line of the request or job in progress, if there is one."""
    if (record := current_record.get()) is not None:
        record.fields.update(fields)


def add_amount(name: str, amount: float) -> None:
    """Add to a field that is a sum: a request may have several images."""
    if (record := current_record.get()) is not None:
        before = record.fields.get(name, 0.0)
        assert isinstance(before, float)
        record.fields[name] = round(before + amount, 3)


@contextmanager
def trace_stage(stage: str) -> Iterator[None]:
    """Add the time of the `with` block to the trace in progress, if there is one."""
    record = current_record.get()
    if record is None or record.trace is None:
        yield
        return
    start_s = time.perf_counter()
    try:
        yield
    finally:
        record.trace.add_stage(stage, time.perf_counter() - start_s)


def make_exemplar(trace_id: str | None, request_id: str) -> dict[str, str] | None:
    """Return the labels that lead from a histogram to a trace, else to the line in the log."""
    if trace_id is not None:
        return {"trace_id": trace_id}
    return {"request_id": request_id} if len(request_id) <= MAX_EXEMPLAR_CHARS else None
