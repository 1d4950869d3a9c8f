"""The settings class: every `MATTING_*` variable, its default and its meaning."""

import difflib
import ipaddress
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "MATTING_"
DEFAULT_MODEL = Path(__file__).parent / "weights" / "modnet.onnx"


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the variable and what it may be."""


class Settings(BaseSettings):
    """What the operator decides; defaults serve one CPU machine.

    Units are in the names: `_s` seconds, `_bytes` bytes, `_megapixels` 10^6 pixels.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", allow_inf_nan=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 lets the system choose")
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated keys; none: everybody is one anonymous owner"
    )
    keys_file: Path | None = Field(
        None, description="file of keys with names, scopes and quotas; read again when it changes"
    )
    allow_anonymous: bool = Field(
        False, description="serve everybody without a key on an address that others can reach"
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated names that `Host` may give; none: any, on loopback its own",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated origins whose pages may call the service; * for all"
    )
    data_dir: Path = Field(
        Path(tempfile.gettempdir()),
        description="folder for uploads, results and jobs; one process at a time",
    )

    model_path: Path = Field(DEFAULT_MODEL, description="the ONNX file to serve")
    model_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="expected SHA-256 of the file; default: from the report beside the model",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda refuses to start without CUDA; auto falls back to CPU and says so"
    )
    threads: int = Field(0, ge=0, description="threads of the network; 0: usable cores")
    max_batch_size: int = Field(
        0, ge=0, le=64, description="images a run; 0: 1 on CPU, 8 on CUDA (CPU gains nothing)"
    )

    queue_s: float = Field(1.0, gt=0, description="seconds of image work that may wait")
    max_requests: int = Field(64, ge=1, description="image requests in progress at once")
    max_megapixels: float = Field(200, gt=0, description="source megapixels in progress at once")
    uploads_max_mb: int = Field(
        4096, ge=1, description="MiB of request bodies on their way at once, spooled to disk"
    )
    uploads_memory_max_mb: int = Field(
        256, ge=1, description="MiB of those of remove.bg's routes, which are held in memory"
    )
    max_videos: int = Field(2, ge=1, description="videos in progress at once")

    image_max_bytes: int = Field(25 * 2**20, ge=1, description="bytes of an image")
    image_max_megapixels: float = Field(
        51, gt=0, description="megapixels of an image; cameras of 50 have a little more"
    )
    batch_max_files: int = Field(32, ge=1, le=999, description="images in one request")
    batch_max_bytes: int = Field(100 * 2**20, ge=1, description="bytes of all of them")
    image_result_max_mb: int = Field(
        1024,
        ge=1,
        description="MiB of the ZIP that answers several images; it lies on disk",
    )
    image_max_side: int = Field(16_384, ge=1, description="pixels of its longest side")
    video_max_bytes: int = Field(512 * 2**20, ge=1, description="bytes of a clip")
    video_max_s: float = Field(600, gt=0, description="seconds of a clip")
    video_max_frames: int = Field(36_000, ge=1, description="frames of a clip")
    video_max_frame_megapixels: float = Field(9, gt=0, description="megapixels of a frame")
    video_result_max_mb: int = Field(
        16_384, ge=1, description="MiB of all results of a clip together, while they are written"
    )
    video_max_side: int = Field(4096, ge=32, description="pixels of its longest side")
    sync_video_max_s: float = Field(120, gt=0, description="longest clip a request may wait for")
    network_max_megapixels: float = Field(1.5, gt=0, description="largest network input")

    result_store_mb: int = Field(256, ge=1, description="MiB of kept results (`keep_s`)")

    max_queued_jobs: int = Field(100, ge=1, description="jobs that may wait for their turn")
    job_ttl_s: float = Field(86_400, gt=0, description="life of a finished job and its results")
    job_max_attempts: int = Field(
        2, ge=1, description="runs of a job that may end in a crash of the service or a decoder"
    )
    job_max_retries: int = Field(
        6, ge=0, description="new tries of a job after errors that pass: a full disk, a long queue"
    )
    job_retry_s: float = Field(
        5, gt=0, description="pause before the first new try; each one after it is twice as long"
    )
    jobs_max_bytes: int = Field(20 * 2**30, ge=1, description="bytes of the files of all jobs")
    disk_min_free_bytes: int = Field(
        2**28, ge=0, description="no new job when less is free on the disk of the data folder"
    )
    disk_min_free_percent: float = Field(10, ge=0, le=100, description="the same in per cent")

    max_sessions: int = Field(32, ge=1, description="sessions at once")
    max_sessions_per_key: int = Field(8, ge=1, description="sessions of one key at once")
    max_chunks: int = Field(4, ge=1, description="chunks worked on at once; the others wait")
    chunk_max_bytes: int = Field(8 * 2**20, ge=1, description="bytes of a chunk")
    chunk_max_frames: int = Field(300, ge=1, description="frames of a chunk")
    session_buffer_mb: int = Field(
        64, ge=1, description="MiB of a session's frames, mattes and encoder, and of one answer"
    )
    session_disk_mb: int = Field(
        512, ge=1, description="MiB of kept answers; the newest of each session stay beyond it"
    )
    session_idle_s: float = Field(60, gt=0, description="life of a session that nobody uses")
    session_max_s: float = Field(7200, gt=0, description="life of a session in all")
    socket_message_max_bytes: int = Field(
        2 * 2**20, ge=1, description="bytes of one message on a live socket"
    )
    socket_ping_s: float = Field(
        20, gt=0, description="pause between pings on a live socket, and longest wait for a pong"
    )

    header_max_bytes: int = Field(
        16 * 2**10, ge=1024, description="bytes of a request's line and headers"
    )
    header_timeout_s: float = Field(10, gt=0, description="time until a request's head is whole")
    send_timeout_s: float = Field(
        30, gt=0, description="how often it is checked whether a client reads its answer"
    )
    body_min_bytes_per_s: int = Field(
        4096, ge=0, description="least speed of a client that sends a body or reads an answer"
    )
    body_idle_timeout_s: float = Field(10, gt=0, description="longest pause inside a body")
    image_body_timeout_s: float = Field(120, gt=0, description="whole body of an image request")
    video_body_timeout_s: float = Field(900, gt=0, description="whole body of a video request")
    request_timeout_s: float = Field(
        60, gt=0, description="all work on an image, from the end of its body to its answer"
    )
    chunk_timeout_s: float = Field(300, gt=0, description="all work on a chunk of a session")
    video_timeout_s: float = Field(900, gt=0, description="all work on a clip in one request")
    job_timeout_s: float = Field(86_400, gt=0, description="one run of a job")
    engine_stall_s: float = Field(
        120, gt=0, description="a run of the network this long ends the process, exit code 4"
    )
    drain_delay_s: float = Field(
        5, ge=0, description="after SIGTERM, time with the port open and readiness false"
    )
    drain_timeout_s: float = Field(20, gt=0, description="time for requests in progress after that")

    decoders: int = Field(0, ge=0, description="decoder children for stills; 0: half the cores")
    decoder_memory_bytes: int = Field(3 * 2**29, ge=2**28, description="address space, stills")
    decoder_video_memory_bytes: int = Field(2**31, ge=2**28, description="address space, video")
    decoder_cpu_s: int = Field(10, ge=1, description="CPU seconds for one still or one frame")
    decoder_timeout_s: float = Field(10, gt=0, description="wall time for one still or one frame")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="JSON lines on standard error"
    )

    @field_validator("api_keys", "allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(key for part in value.split(",") if (key := part.strip()))
        return value

    @field_validator("data_dir")
    @classmethod
    def check_folder(cls, value: Path) -> Path:
        if not value.is_dir() or not os.access(value, os.W_OK | os.X_OK):
            raise ValueError("not a folder that can be written to")
        return value


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(settings: Settings) -> None:
    """Raise SettingsError for a service that strangers could use without anybody's will."""
    has_keys = settings.api_keys or settings.keys_file is not None
    if not has_keys and not settings.allow_anonymous and not is_loopback(settings.host):
        raise SettingsError(
            f"MATTING_HOST={settings.host} is open to others and there are no keys: set "
            "MATTING_API_KEYS or MATTING_KEYS_FILE, or MATTING_ALLOW_ANONYMOUS=1 to serve everybody"
        )


def load_settings(environ: Mapping[str, str] = os.environ, **overrides: object) -> Settings:
    """Read the environment and return the settings.

    Raises SettingsError naming the variable when a value is out of range, or when a `MATTING_*`
    variable is not a setting (a typing mistake would otherwise be ignored without a word).
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for name in environ:
        if name.upper().startswith(ENV_PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{name} is not a setting{hint}")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = ENV_PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{name}={first['input']!r}: {first['msg']}") from None


def describe_settings() -> str:
    """Return a Markdown table of every setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "data_dir":
            default = "`matting-PORT` in the system's temporary folder"
        elif name == "model_path":
            default = "the embedded weights"
        elif default in ((), None):
            default = ""
        rows.append(f"| `{ENV_PREFIX}{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(rows)
