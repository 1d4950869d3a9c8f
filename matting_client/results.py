"""What comes back: mattes of photos, jobs, and how far a clip is."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

State = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
FINISHED: tuple[State, ...] = ("succeeded", "failed", "canceled", "expired")
Stage = Literal["upload", "matte", "download"]


@dataclass(frozen=True)
class Box:
    """Where the person is (alpha above 0.5), pixels of the result."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """An encoded picture."""

    content: bytes = field(repr=False)
    content_type: str

    @property
    def image(self) -> "Image.Image":
        """The picture, decoded by Pillow: L for an alpha, RGBA for a cutout, else RGB."""
        from PIL import Image

        return Image.open(io.BytesIO(self.content))

    @property
    def array(self) -> "np.ndarray[Any, Any]":
        """The pixels, uint8: (H, W) for an alpha, (H, W, 4) for a cutout, else (H, W, 3)."""
        import numpy as np

        return np.asarray(self.image)

    def save(self, path: str | Path) -> Path:
        """Write the file as it came; the options `output` and `format` decide what it is."""
        target = Path(path)
        target.write_bytes(self.content)
        return target


@dataclass(frozen=True)
class Matte(Picture):
    """The result of a photo: an encoded picture, or a ZIP with `output="bundle"`.

    What is None the service did not tell: `confidence` (0 to 1) and `shows_person` where the
    network did not run, `person` where nobody is, `result_id` without `keep_s`. `timings_ms` has
    the stages of the service, `notes` what was mended or converted.
    """

    width: int | None
    height: int | None
    person: Box | None
    confidence: float | None
    shows_person: bool | None
    model: str | None
    provider: str | None
    result_id: str | None
    notes: str | None
    timings_ms: Mapping[str, float]
    request_id: str | None


@dataclass(frozen=True)
class Frame(Picture):
    """A frame of a session: its number, counted from 0, and its time in seconds."""

    number: int
    time_s: float


@dataclass(frozen=True)
class LiveMatte(Picture):
    """The result of one frame.

    `frame` counts the frames that were sent, from 0; `dropped` how many were left out so far,
    `latency_ms` is the service's own, `fps` the rate of the last 30; these three are None for the
    frame that `finish` answers. `notes`: what of the frame was mended or converted.
    """

    frame: int
    dropped: int | None = None
    latency_ms: float | None = None
    fps: float | None = None
    notes: tuple[str, ...] = ()


def read_matte(response: httpx.Response) -> Matte:
    """Return the matte of an answer to a photo."""
    told = response.headers
    sides = [told.get(f"x-foreground-{name}") for name in ("left", "top", "width", "height")]
    numbers = [int(side) for side in sides if side is not None]
    confidence, person = told.get("x-matte-confidence"), told.get("x-person")
    return Matte(
        content=response.content,
        content_type=told.get("content-type", ""),
        width=to_int(told.get("x-width")),
        height=to_int(told.get("x-height")),
        person=Box(*numbers) if len(numbers) == len(sides) else None,
        confidence=None if confidence is None else float(confidence),
        shows_person=None if person is None else person == "yes",
        model=told.get("x-model"),
        provider=told.get("x-provider"),
        result_id=told.get("x-result-id"),
        notes=told.get("x-notes"),
        timings_ms=read_timings(told.get("server-timing", "")),
        request_id=told.get("x-request-id"),
    )


def to_int(text: str | None) -> int | None:
    return None if text is None else int(text)


def read_timings(header: str) -> dict[str, float]:
    """Return the milliseconds of a `Server-Timing` header by stage."""
    found = {}
    for item in header.split(","):
        name, _, duration = item.strip().partition(";dur=")
        if duration:
            found[name] = float(duration)
    return found


@dataclass(frozen=True)
class JobResult:
    """A result file of a job."""

    name: str
    url: str
    bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True)
class JobStatus:
    """A job as it was when the service was asked.

    `progress` is 0 to 1; `progress`, `frames_total` and `eta_s` are None while unknown. `report`
    tells about the matted clip, `error` is the problem document of a job that has failed,
    `document` all that the service said.
    """

    id: str
    state: State
    progress: float | None
    frames_done: int
    frames_total: int | None
    eta_s: float | None
    created_at: datetime
    expires_at: datetime
    results: tuple[JobResult, ...]
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    document: dict[str, Any]

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


def read_job(document: dict[str, Any]) -> JobStatus:
    """Return the status in a job's document."""
    own: dict[str, Any] = {field.name: document.get(field.name) for field in fields(JobStatus)}
    known = [field.name for field in fields(JobResult)]
    own |= {
        "created_at": datetime.fromisoformat(document["created_at"]),
        "expires_at": datetime.fromisoformat(document["expires_at"]),
        "results": tuple(
            JobResult(**{name: result[name] for name in known}) for result in document["results"]
        ),
        "document": document,
    }
    return JobStatus(**own)


@dataclass(frozen=True)
class Progress:
    """How far a clip is: bytes of the upload or download, frames of the matting; None: unknown."""

    stage: Stage
    done: int
    total: int | None
    eta_s: float | None = None


@dataclass(frozen=True)
class MattedVideo:
    """The results of a clip: files by the name of the result, and the service's report."""

    files: dict[str, Path]
    report: dict[str, Any]

    @property
    def path(self) -> Path:
        """The first result, which is the only one unless several outputs were asked for."""
        return next(iter(self.files.values()))
