"""The parts of a running app as FastAPI dependencies: each route asks for those it uses."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from service.clips.slots import VideoSlots
from service.jobs.deliveries import Deliveries
from service.jobs.intake import JobIntake
from service.jobs.jobs import Jobs
from service.jobs.rows.quotas import SharedQuotas
from service.jobs.uploads.store import UploadStore
from service.outgoing.calls import OutgoingCalls
from service.runtime import Runtime
from service.sessions.store import SessionStore
from service.stills.result_store import ResultStore


@dataclass(frozen=True)
class Services:
    """The parts of a running app."""

    runtime: Runtime
    slots: VideoSlots
    results: ResultStore
    sessions: SessionStore
    jobs: Jobs
    intake: JobIntake
    outgoing: OutgoingCalls
    deliveries: Deliveries
    uploads: UploadStore
    quotas: SharedQuotas


def get_services(connection: HTTPConnection) -> Services:
    return cast(Services, connection.app.state.services)


# Coroutines: FastAPI would run functions in threads.


async def get_runtime(connection: HTTPConnection) -> Runtime:
    return get_services(connection).runtime


async def get_slots(connection: HTTPConnection) -> VideoSlots:
    return get_services(connection).slots


async def get_results(connection: HTTPConnection) -> ResultStore:
    return get_services(connection).results


async def get_sessions(connection: HTTPConnection) -> SessionStore:
    return get_services(connection).sessions


async def get_jobs(connection: HTTPConnection) -> Jobs:
    return get_services(connection).jobs


async def get_intake(connection: HTTPConnection) -> JobIntake:
    return get_services(connection).intake


async def get_outgoing(connection: HTTPConnection) -> OutgoingCalls:
    return get_services(connection).outgoing


async def get_uploads(connection: HTTPConnection) -> UploadStore:
    return get_services(connection).uploads


RuntimeDependency = Annotated[Runtime, Depends(get_runtime)]
SlotsDependency = Annotated[VideoSlots, Depends(get_slots)]
ResultsDependency = Annotated[ResultStore, Depends(get_results)]
SessionsDependency = Annotated[SessionStore, Depends(get_sessions)]
JobsDependency = Annotated[Jobs, Depends(get_jobs)]
OutgoingDependency = Annotated[OutgoingCalls, Depends(get_outgoing)]
UploadsDependency = Annotated[UploadStore, Depends(get_uploads)]
IntakeDependency = Annotated[JobIntake, Depends(get_intake)]
