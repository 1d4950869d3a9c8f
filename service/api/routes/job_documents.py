"""JSON documents of jobs."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.jobs.options import hide_urls
from service.jobs.rows.store import Job, State

JOBS = "/v1/jobs"


class ResultDocument(BaseModel):
    """One result file of a job."""

    name: str
    url: str
    bytes: int
    sha256: str
    content_type: str


class TryDocument(BaseModel):
    """One call of a delivery: the status that came, or why none did."""

    at: datetime
    status: int | None
    error: str | None


class DeliveryDocument(BaseModel):
    """What was sent when the job had ended: a result by PUT, or the webhook."""

    kind: Literal["result", "webhook"]
    name: str | None = Field(description="of the result")
    url: str = Field(description="without its query, which may hold a secret")
    state: Literal["pending", "delivered", "failed"]
    tries: list[TryDocument]


class JobDocument(BaseModel):
    """A job: a clip that was acknowledged and survives every end of the service."""

    id: str
    state: State
    progress: float | None = Field(description="0 to 1; null while the number of frames is unknown")
    frames_done: int
    frames_total: int | None = Field(description="null while unknown")
    eta_s: float | None = Field(description="seconds until the last frame; null while unknown")
    created_at: datetime
    expires_at: datetime = Field(description="counts anew from the end of the job")
    results: list[ResultDocument] = Field(description="empty until the job has succeeded")
    report: dict[str, Any] | None = Field(description="facts about the matted clip")
    error: dict[str, Any] | None = Field(description="the problem document of a failed job")
    outputs: list[str]
    options: dict[str, Any] = Field(description="those that were given; URLs without their query")
    deliveries: list[DeliveryDocument] = Field(description="of the webhook and of `put_urls`")


class JobList(BaseModel):
    """Jobs of one key, newest first."""

    jobs: list[JobDocument]
    next: str | None = Field(description="where the older ones are; null at the end")


def describe_job(job: Job, eta_s: float | None = None) -> JobDocument:
    """Return the document of a job; `eta_s` is None while unknown."""
    return JobDocument(
        id=job.id,
        state=job.state,
        progress=measure_progress(job),
        frames_done=job.frames_done,
        frames_total=job.frames_total,
        eta_s=None if eta_s is None else round(eta_s, 1),
        created_at=to_time(job.created_s),
        expires_at=to_time(job.expires_s),
        results=[
            ResultDocument(url=f"{JOBS}/{job.id}/results/{result.name}", **vars(result))
            for result in job.results
        ],
        report=job.report,
        error=job.error,
        outputs=list(job.outputs),
        options=hide_urls(job.options),
        deliveries=[
            DeliveryDocument(
                **(entry | {"tries": [one | {"at": to_time(one["at"])} for one in entry["tries"]]})
            )
            for entry in job.deliveries
        ],
    )


def measure_progress(job: Job) -> float | None:
    if job.state == "queued":
        return 0.0
    if not job.frames_total:
        return None
    return round(min(job.frames_done / job.frames_total, 1), 4)


def to_time(time_s: float) -> datetime:
    """Return seconds since 1970 as a time of day, to the millisecond."""
    return datetime.fromtimestamp(round(time_s, 3), UTC)
