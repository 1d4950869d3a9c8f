"""What the routes need, made once by the app and handed out from its state."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from service.clips.slots import VideoSlots
from service.inference.batcher import Batcher
from service.inference.engine import Engine
from service.inference.health import Health
from service.limits import AdmissionGate
from service.media.decoder.pool import DecoderPool
from service.metrics import Metrics
from service.sessions.store import SessionStore
from service.settings import Settings
from service.stills.result_store import ResultStore
from service.threads import Workers

if TYPE_CHECKING:  # jobs run on all the other parts
    from service.jobs.intake import JobIntake
    from service.jobs.jobs import Jobs


@dataclass(frozen=True)
class Services:
    """The parts of a running app."""

    settings: Settings
    metrics: Metrics
    health: Health
    gate: AdmissionGate
    engine: Engine
    batcher: Batcher
    decoders: DecoderPool
    workers: Workers
    videos: VideoSlots
    results: ResultStore
    sessions: SessionStore
    jobs: "Jobs"
    intake: "JobIntake"


def get_services(connection: HTTPConnection) -> Services:
    return cast(Services, connection.app.state.services)


ServicesDependency = Annotated[Services, Depends(get_services)]
