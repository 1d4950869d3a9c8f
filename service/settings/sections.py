"""Sections of the settings: each field with its default, its range and its meaning."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic.networks import IPvAnyNetwork
from pydantic_settings import NoDecode

from service.settings.values import check_secret, check_storage

DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "modnet-fast.onnx"


class ServerSettings(BaseModel):
    """Where the service listens, and where its data lies."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 lets the system choose")
    workers: int = Field(
        1, ge=1, le=64, description="processes, behind nginx; they listen on the ports after it"
    )
    worker: str = Field(
        "",
        pattern="^[a-z0-9]{0,16}$",
        description="name before the ids that this process makes, for a proxy in front of several",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated names that `Host` may give; none: any, on loopback its own",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated origins whose pages may call the service; * for all"
    )
    data_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="folder for uploads, results and jobs; one process at a time",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="JSON lines on standard error"
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="collector that gets traces by OTLP over HTTP, such as http://localhost:4318; "
        "needs the extra `otel`; none: no traces",
    )


class AccessSettings(BaseModel):
    """Who may use the service."""

    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated keys; none: everybody is one anonymous owner"
    )
    keys_file: Path | None = Field(
        None, description="file of keys with names, scopes and quotas; read again when it changes"
    )
    allow_anonymous: bool = Field(
        False, description="serve everybody without a key on an address that others can reach"
    )


class InferenceSettings(BaseModel):
    """Which networks run, and on what."""

    model_path: Path = Field(DEFAULT_MODEL, description="the ONNX file to serve")
    model_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="expected SHA-256 of the file; default: from the report beside the model",
    )
    models: Annotated[tuple[Path, ...] | None, NoDecode] = Field(
        None,
        description="comma-separated ONNX files served beside that one; default: the other "
        "embedded weights, if that one is embedded",
    )
    fast_model: str = Field(
        "modnet-fast",
        description="name of the model that model=auto takes on a CPU for live frames and for "
        "prefer=speed; where it is not served, the first model",
    )
    device: Literal["auto", "cpu", "openvino", "cuda"] = Field(
        "auto",
        description="cuda and openvino refuse to start without; auto takes the first there is of "
        "cuda, openvino and cpu, and says so",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="of OpenVINO; auto: bf16 with AMX for networks that bear it, else fp32",
    )
    threads: int = Field(0, ge=0, description="threads of the network; 0: usable cores")
    max_batch_size: int = Field(
        0, ge=0, le=64, description="images a run; 0: 1 on CPU, 8 on CUDA (CPU gains nothing)"
    )
    network_max_megapixels: float = Field(1.5, gt=0, description="largest network input")
    engine_stall_s: float = Field(
        120, gt=0, description="a run of the network this long ends the process, exit code 4"
    )


class AdmissionSettings(BaseModel):
    """How much work is in progress at once."""

    queue_s: float = Field(1.0, gt=0, description="seconds of image work that may wait")
    max_requests: int = Field(64, ge=1, description="image requests in progress at once")
    max_megapixels: float = Field(200, gt=0, description="source megapixels in progress at once")
    max_videos: int = Field(2, ge=1, description="videos in progress at once")
    uploads_max_mb: int = Field(
        4096, ge=1, description="MiB of request bodies on their way at once, spooled to disk"
    )
    uploads_memory_max_mb: int = Field(
        256, ge=1, description="MiB of those of remove.bg's routes, which are held in memory"
    )


class ImageSettings(BaseModel):
    """Limits on photos and their results."""

    image_max_bytes: int = Field(25 * 2**20, ge=1, description="bytes of an image")
    image_max_megapixels: float = Field(
        51, gt=0, description="megapixels of an image; cameras of 50 have a little more"
    )
    image_max_side: int = Field(16_384, ge=1, description="pixels of its longest side")
    batch_max_files: int = Field(32, ge=1, le=999, description="images in one request")
    batch_max_bytes: int = Field(100 * 2**20, ge=1, description="bytes of all of them")
    image_result_max_mb: int = Field(
        1024,
        ge=1,
        description="MiB of the ZIP that answers several images; it lies on disk",
    )
    result_store_mb: int = Field(256, ge=1, description="MiB of kept results (`keep_s`)")


class VideoSettings(BaseModel):
    """Limits on clips and their results."""

    video_max_bytes: int = Field(512 * 2**20, ge=1, description="bytes of a clip")
    video_max_s: float = Field(600, gt=0, description="seconds of a clip")
    video_max_frames: int = Field(36_000, ge=1, description="frames of a clip")
    video_max_frame_megapixels: float = Field(9, gt=0, description="megapixels of a frame")
    video_max_side: int = Field(4096, ge=32, description="pixels of its longest side")
    video_result_max_mb: int = Field(
        16_384, ge=1, description="MiB of all results of a clip together, while they are written"
    )
    sync_video_max_s: float = Field(120, gt=0, description="longest clip a request may wait for")


class JobSettings(BaseModel):
    """Limits on jobs, their attempts and their files."""

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
    database_url: str | None = Field(
        None,
        description="PostgreSQL that several services share, such as `postgresql://name@host/db`; "
        "needs the extra `postgres`; none: the jobs are in the data folder",
    )
    jobs_dir: Path | None = Field(
        None, description="folder of the files of jobs that services on one database share"
    )
    storage_url: Annotated[str, AfterValidator(check_storage)] | None = Field(
        None,
        description="object storage for the files of jobs, such as `s3://bucket/prefix`; needs the "
        "extra `storage`, and credentials in `AWS_*` or `AZURE_STORAGE_*`; none: in a folder",
    )
    storage_redirect: bool = Field(
        True, description="lead downloads of results to the storage by signed URLs"
    )
    job_lease_s: float = Field(
        30,
        ge=3,
        description="with a database: a service silent for so long loses its jobs to the others",
    )
    jobs_max_bytes: int = Field(20 * 2**30, ge=1, description="bytes of the files of all jobs")
    disk_min_free_bytes: int = Field(
        2**28, ge=0, description="no new job when less is free on the disk of the data folder"
    )
    disk_min_free_percent: float = Field(10, ge=0, le=100, description="the same in per cent")


class OutgoingSettings(BaseModel):
    """What the service calls by itself; nothing, unless a switch here says so."""

    url_input: bool = Field(False, description="let `url` name the file of a request")
    url_timeout_s: float = Field(60, gt=0, description="until a file at a URL is there in whole")
    put_results: bool = Field(False, description="let `put_urls` say where results of jobs go")
    webhook_secret: Annotated[str, AfterValidator(check_secret)] | None = Field(
        None,
        description="signs webhooks: `whsec_` and 24 to 64 bytes in base64; none: no webhooks",
    )
    outgoing_allow: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = Field(
        (),
        description="comma-separated networks that may be called beside the public internet, such "
        "as 10.1.0.0/16",
    )
    outgoing_timeout_s: float = Field(
        15, gt=0, description="longest silence of what is called; whole time of a webhook"
    )
    delivery_tries: int = Field(8, ge=1, description="of a webhook, and of a result sent by PUT")
    delivery_retry_s: float = Field(
        5, gt=0, description="pause before the second try; each one after it is twice as long"
    )


class SessionSettings(BaseModel):
    """Limits on sessions, chunks and live sockets."""

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


class TimeSettings(BaseModel):
    """Limits on time: connections, bodies, work and shutdown."""

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
    drain_delay_s: float = Field(
        5, ge=0, description="after SIGTERM, time with the port open and readiness false"
    )
    drain_timeout_s: float = Field(20, gt=0, description="time for requests in progress after that")


class DecoderSettings(BaseModel):
    """Decoder children and what each may use."""

    decoders: int = Field(0, ge=0, description="decoder children for stills; 0: half the cores")
    decoder_memory_bytes: int = Field(3 * 2**29, ge=2**28, description="address space, stills")
    decoder_video_memory_bytes: int = Field(2**31, ge=2**28, description="address space, video")
    decoder_cpu_s: int = Field(10, ge=1, description="CPU seconds for one still or one frame")
    decoder_timeout_s: float = Field(10, gt=0, description="wall time for one still or one frame")


SECTIONS: dict[str, type[BaseModel]] = {
    "Server": ServerSettings,
    "Access": AccessSettings,
    "Inference": InferenceSettings,
    "Admission": AdmissionSettings,
    "Images": ImageSettings,
    "Clips": VideoSettings,
    "Jobs": JobSettings,
    "Outgoing": OutgoingSettings,
    "Sessions": SessionSettings,
    "Times": TimeSettings,
    "Decoders": DecoderSettings,
}
