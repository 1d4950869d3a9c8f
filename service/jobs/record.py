"""The lines and the trace of a run of a job: when it starts, and what came of it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.jobs.rows.store import Job
from service.runtime import Runtime
from service.telemetry.record import Record, current_record, make_exemplar

log = logging.getLogger(__name__)


@contextmanager
def record_run(runtime: Runtime, job: Job) -> Iterator[None]:
    """Log the start and the end of a run, with what is noted in the `with` block.

    A run that is cut off, by a drain or because the job is deleted, ends in the state `stopped`.
    """
    fields = {
        "job": job.id,
        "key": runtime.access.find_name(job.owner),
        "attempt": job.attempts + 1,
        "outputs": ",".join(job.outputs),
    }
    trace = None
    if runtime.tracing is not None:
        trace = runtime.tracing.begin("job", None, is_request=False)
        fields["trace_id"] = trace.trace_id
    record = Record(exemplar=make_exemplar(trace.trace_id if trace else None, job.id), trace=trace)
    token = current_record.set(record)
    log.info("job started", extra={"fields": fields})
    start_s = time.perf_counter()
    try:
        yield
    finally:
        current_record.reset(token)
        duration_ms = round((time.perf_counter() - start_s) * 1000, 1)
        ended = {"state": "stopped"} | record.fields | {"duration_ms": duration_ms}
        if isinstance(error := ended.get("error"), dict):
            ended["error"] = error["code"]
        if trace is not None:
            trace.end(fields | ended, failed=ended["state"] == "failed")
        log.info("job ended", extra={"fields": fields | ended})
