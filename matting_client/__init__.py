"""A client of the matting service: photos, clips, jobs, sessions and live video."""

from matting_client.aio import AsyncClient, AsyncJob
from matting_client.client import Client, Job
from matting_client.errors import (
    AccessDenied,
    BadRequest,
    Busy,
    ChunkConflict,
    Conflict,
    DamagedDownload,
    Gone,
    InvalidOption,
    JobFailed,
    MattingError,
    NotFound,
    ProblemError,
    ServiceFailed,
    TooLarge,
    Unavailable,
    Unreachable,
    UnsupportedMedia,
    UnusableMedia,
)
from matting_client.results import Box, JobResult, JobStatus, Matte, MattedVideo, Progress
from matting_client.retry import Retry
from matting_client.version import __version__

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncJob",
    "BadRequest",
    "Box",
    "Busy",
    "ChunkConflict",
    "Client",
    "Conflict",
    "DamagedDownload",
    "Gone",
    "InvalidOption",
    "Job",
    "JobFailed",
    "JobResult",
    "JobStatus",
    "Matte",
    "MattedVideo",
    "MattingError",
    "NotFound",
    "ProblemError",
    "Progress",
    "Retry",
    "ServiceFailed",
    "TooLarge",
    "Unavailable",
    "Unreachable",
    "UnsupportedMedia",
    "UnusableMedia",
    "__version__",
]
