"""The service on a Ray cluster: replicas behind Ray Serve, clips of jobs cut into Ray tasks.

With the extra `ray` on every machine, and `MATTING_...` set where `ray start` runs, in a clone:

    serve run deploy.ray_app:app min_replicas=2 max_replicas=8 segment_cpus=4

Nothing in the service knows of Ray; the files `ray_*.py` here are all there is of it.
"""

import pickle
import re
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.ray_segments import RaySegments
from service.app import create_app
from service.settings import Settings, check_exposure, load_settings

PASSED_ON = 1000  # requests a replica gets at once: its own gate answers 429, not Serve
ANY_ADDRESS = "0.0.0.0"
NAMED = re.compile(r"/v1/[a-z]+/([^/.]+)\.")  # the path of a session, job, upload, kept result


class Args(BaseModel):
    """What `serve run deploy.ray_app:app name=value` takes.

    Replicas: how many, and what each takes of its machine. Segments: frames in each, how many of a
    job are under way at most, what each takes, how often one is begun anew when its worker dies.
    """

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    target_requests: float = Field(4, gt=0)
    replica_cpus: float = Field(2, ge=0)
    replica_gpus: float = Field(0, ge=0)
    segment_frames: int = Field(150, ge=3)
    segments_ahead: int = Field(16, ge=1)
    segment_cpus: int = Field(2, ge=1)
    segment_gpus: float = Field(0, ge=0)
    segment_retries: int = Field(3, ge=0)


def app(args: Args) -> serve.Application:
    """Return the application of Ray Serve."""

    def build() -> FastAPI:
        settings = read_settings(serve.get_replica_context().replica_id.unique_id)
        runner = RaySegments(
            frames=args.segment_frames,
            ahead=args.segments_ahead,
            cpus=args.segment_cpus,
            gpus=args.segment_gpus,
            retries=args.segment_retries,
        )
        service = create_app(settings, runner=runner)
        service.add_middleware(WithoutRequestId)
        return service

    return serve.deployment(
        name="matting",
        max_ongoing_requests=PASSED_ON,
        autoscaling_config=AutoscalingConfig(
            min_replicas=args.min_replicas,
            max_replicas=max(args.min_replicas, args.max_replicas),
            target_ongoing_requests=args.target_requests,
        ),
        ray_actor_options={"num_cpus": args.replica_cpus, "num_gpus": args.replica_gpus},
        request_router_config=RequestRouterConfig(request_router_class=RouterByName),
    )(serve.ingress(build)()).bind()


class WithoutRequestId:
    """Leaves `X-Request-ID` to Serve's proxy, which gives it to the service and sends it itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_rest(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [one for one in message["headers"] if one[0].lower() != b"x-request-id"]
                message = {**message, "headers": kept}
            await send(message)

        await self._app(scope, receive, send_rest)


def read_settings(replica: str) -> Settings:
    """Return the settings of a replica, with a data folder of its own.

    Raises SettingsError without keys, unless everybody is served: where Serve's proxies listen is
    not for a replica to know.
    """
    settings = load_settings().model_copy(update={"host": ANY_ADDRESS})
    check_exposure(settings)
    folder = settings.data_dir / replica
    folder.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(update={"worker": replica, "data_dir": folder})


class RouterByName(ConsistentHashRouter):
    """Leads a request to the replica whose name the id in its path begins with, if it lives."""

    async def choose_replicas(self, candidate_replicas: Any, pending_request: Any = None) -> Any:
        name = None if pending_request is None else find_name(pending_request.args)
        for replica in candidate_replicas:
            if replica.replica_id.unique_id == name:
                pending_request.routing_context.should_backoff = True
                return [[replica]]
        return await super().choose_replicas(candidate_replicas, pending_request)


def find_name(args: Any) -> str | None:
    """Return the name of a replica that a request of Serve's proxy asks for, None without one.

    Ids are `NAME.TOKEN` (see `Settings.name_id`), whatever they are of.
    """
    request = pickle.loads(args[0])  # Serve's own, made by its proxy
    found = NAMED.match(str(request.asgi_scope.get("path", "")))
    return found[1] if found else None
