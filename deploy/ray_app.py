"""The service on a Ray cluster: replicas behind Ray Serve, clips of jobs cut into Ray tasks.

With the extra `ray` on every machine, and `MATTING_...` set where `ray start` runs, in a clone:

    serve run deploy.ray_app:app min_replicas=2 max_replicas=8 segment_cpus=4

Nothing in the service knows of Ray; the files `ray_*.py` here are all there is of it.
"""

import pickle
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from ray import serve
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

from deploy.ray_segments import RaySegments
from service.app import create_app
from service.settings import load_settings

PASSED_ON = 1000  # requests a replica gets at once: its own gate answers 429, not Serve


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
        replica = serve.get_replica_context().replica_id.unique_id
        settings = load_settings()
        folder = settings.data_dir / replica
        folder.mkdir(parents=True, exist_ok=True)
        settings = settings.model_copy(update={"worker": replica, "data_dir": folder})
        runner = RaySegments(
            frames=args.segment_frames,
            ahead=args.segments_ahead,
            cpus=args.segment_cpus,
            gpus=args.segment_gpus,
            retries=args.segment_retries,
        )
        return create_app(settings, runner=runner)

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

    Ids are `NAME.TOKEN` (see `Settings.name_id`).
    """
    request = pickle.loads(args[0])  # Serve's own, made by its proxy
    parts = str(request.asgi_scope.get("path", "")).split("/")
    if len(parts) > 3 and parts[1:3] in (["v1", "sessions"], ["v1", "jobs"], ["v1", "image"]):
        name, dot, _ = parts[3].partition(".")
        return name if dot else None
    return None
