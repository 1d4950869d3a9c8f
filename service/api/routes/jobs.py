"""`/v1/jobs`: state, progress events and results of asynchronous clips."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from service.access import ANONYMOUS
from service.api.dependencies import JobsDependency, RuntimeDependency
from service.api.downloads import is_known, send_file
from service.api.routes.job_documents import JOBS, JobDocument, JobList, describe_job
from service.api.uploads import Upload
from service.clips.plan import make_plan
from service.errors import BadRequest, Conflict, Gone, NotFound, Unauthorized
from service.jobs.files import folder as job_files
from service.jobs.files.folder import JobResult
from service.jobs.intake import Admission, JobIntake
from service.jobs.jobs import Jobs
from service.jobs.options import JobOptions
from service.jobs.rows.store import Job
from service.options import BACKGROUND

router = APIRouter(tags=["jobs"])
MAX_LISTED = 100
RETRY_AFTER_S = 2
MAX_KEY_CHARS = 255
RESPOND_ASYNC = "respond-async"
EVENT_STREAM = "text/event-stream"


@router.get(JOBS, summary="Jobs of this key")
async def list_jobs(
    request: Request,
    jobs: JobsDependency,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
    before: Annotated[str | None, Query(description="id of a job: list older ones")] = None,
) -> JobList:
    """List jobs, newest first; `next` leads to older ones. Without keys there is no list: a job is
    known to those who have its id."""
    if request.scope["owner"] == ANONYMOUS:
        raise Unauthorized(
            "a list of jobs needs a key", hint="GET /v1/jobs/{id} shows a job to who has its id"
        )
    found = await jobs.list_owned(request.scope["owner"], limit + 1, before)
    shown, more = found[:limit], found[limit:]
    return JobList(
        jobs=[describe(jobs, job) for job in shown],
        next=f"{JOBS}?limit={limit}&before={shown[-1].id}" if more else None,
    )


@router.get(JOBS + "/{job_id}", summary="State, progress and results of a job")
async def show_job(request: Request, jobs: JobsDependency, job_id: str) -> JobDocument:
    """Answer the job as it is now."""
    return describe(jobs, await jobs.find(request.scope["owner"], job_id))


@router.get(
    JOBS + "/{job_id}/events",
    summary="Progress of a job as server-sent events",
    response_class=Response,
    responses={200: {"content": {EVENT_STREAM: {}}}, 204: {"description": "the end was seen"}},
)
async def follow_job(request: Request, jobs: JobsDependency, job_id: str) -> Response:
    """Send the event `progress` with the job whenever it has changed, and `end` when it is
    finished. `Last-Event-ID` leaves out what was seen; after `end` the answer is 204, so that
    browsers do not connect again."""
    seen = request.headers.get("last-event-id")
    job = await jobs.find(request.scope["owner"], job_id)
    if job.is_finished and make_event_id(job) == seen:
        return Response(status_code=204)
    events = stream_events(jobs, job, seen)
    return StreamingResponse(events, media_type=EVENT_STREAM, headers={"Cache-Control": "no-store"})


@router.get(
    JOBS + "/{job_id}/results/{name}",
    summary="A result file of a job",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {}}},
        206: {"description": "the range asked for"},
        307: {"description": "the file is at `Location`, in object storage"},
    },
)
@router.head(JOBS + "/{job_id}/results/{name}", include_in_schema=False)
async def send_result(
    request: Request, jobs: JobsDependency, runtime: RuntimeDependency, job_id: str, name: str
) -> Response:
    """Send a file; `Range` and `If-None-Match` are honoured, the `ETag` is its SHA-256. Where
    results lie in object storage the answer may be 307 with a URL there, good for some minutes."""
    job = await jobs.find(request.scope["owner"], job_id)
    result = choose_result(job, name)
    store = jobs.store
    if runtime.settings.storage_redirect and may_lead_elsewhere(request, result):
        if url := await store.disk.run(store.files.sign_result, job.id, result):
            headers = {"Location": url, "Cache-Control": "no-store"}
            return Response(status_code=307, headers=headers)
    file = await open_result(jobs, job, result)
    return await send_file(
        request, store.disk, file, result.name, result.content_type, result.bytes, result.sha256
    )


@router.delete(JOBS + "/{job_id}", status_code=204, summary="Cancel a job and remove its files")
async def delete_job(request: Request, jobs: JobsDependency, job_id: str) -> Response:
    """Stop the job if it is not finished, and forget it: files, row and key."""
    await jobs.delete(request.scope["owner"], job_id)
    return Response(status_code=204)


def describe(jobs: Jobs, job: Job) -> JobDocument:
    return describe_job(job, jobs.estimate_s(job))


def choose_result(job: Job, name: str) -> JobResult:
    """Return a result by its name; raises NotFound, Conflict when it is early, Gone when late."""
    if not job.is_finished:
        raise Conflict(f"the job is {job.state}, its results come with the end")
    if job.state == "expired":
        raise Gone("the results of this job have expired", hint="send the clip again")
    for result in job.results:
        if result.name == name:
            return result
    names = ", ".join(result.name for result in job.results) or "none"
    raise NotFound("the job has no such result", hint=f"its results: {names}")


def may_lead_elsewhere(request: Request, result: JobResult) -> bool:
    """Say whether a client finds its way to another host, and takes nothing there that is ours.

    A script in a page asks for this origin alone, `X-API-Key` would be sent on, and what `If-Range`
    and `If-None-Match` name is an ETag of the service.
    """
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and not any(name in headers for name in ("x-api-key", "if-range"))
        and not is_known(request, f'"{result.sha256}"')
    )


async def open_result(jobs: Jobs, job: Job, result: JobResult) -> BinaryIO:
    """Open a result; raises Gone when the job has expired in this moment.

    Once it is open the whole file can be sent, whatever becomes of the job, if it is on disk.
    """
    store = jobs.store
    try:
        return await store.disk.run(store.files.open_result, job.id, result)
    except FileNotFoundError:
        raise Gone("the results of this job have been removed") from None


def make_event_id(job: Job) -> str:
    """Return what tells two states of a job apart, in any process."""
    return f"{job.state}-{job.attempts}-{job.frames_done}"


async def stream_events(jobs: Jobs, job: Job, seen: str | None) -> AsyncIterator[str]:
    """Yield server-sent events of a job until it is finished, but for what was `seen`."""
    async with aclosing(jobs.watch(job)) as states:
        async for state in states:
            if state is None:
                yield ": nothing new\n\n"
            elif (event_id := make_event_id(state)) != seen:
                seen = event_id
                name = "end" if state.is_finished else "progress"
                data = describe(jobs, state).model_dump_json()
                yield f"id: {event_id}\nevent: {name}\ndata: {data}\n\n"


def prefers_job(request: Request) -> bool:
    """Say whether the client prefers not to wait (`Prefer: respond-async`, RFC 7240)."""
    given = ",".join(request.headers.getlist("prefer")).split(",")
    return any(part.partition(";")[0].strip().lower() == RESPOND_ASYNC for part in given)


def read_idempotency_key(request: Request) -> str | None:
    """Return the `Idempotency-Key`, None when there is none; raises BadRequest."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not 1 <= len(keys[0]) <= MAX_KEY_CHARS or not keys[0].isprintable():
        raise BadRequest(
            f"Idempotency-Key must come once, with 1 to {MAX_KEY_CHARS} printable characters"
        )
    return keys[0]


async def accept_job(
    request: Request,
    intake: JobIntake,
    admission: Admission,
    upload: Upload,
    options: JobOptions,
) -> Response:
    """Return the answer to an upload that has become a job: 202, and where to look."""
    files = {job_files.INPUT: upload.file}
    if BACKGROUND in upload.extra:
        files[job_files.BACKGROUND] = upload.extra[BACKGROUND]
    job = await intake.submit(
        admission,
        files,
        options.model_dump(mode="json", exclude_unset=True),
        make_plan(options, None).outputs,
    )
    headers = {"Location": f"{JOBS}/{job.id}", "Retry-After": str(RETRY_AFTER_S)}
    if prefers_job(request):
        headers["Preference-Applied"] = RESPOND_ASYNC
    return JSONResponse(describe_job(job).model_dump(mode="json"), 202, headers)
