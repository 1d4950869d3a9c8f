"""Options of `POST /v1/video`: those of the clip, and where a job tells of its end."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from service.clips.options import VideoOptions
from service.outgoing.guard import hide_query

MAX_URLS_CHARS = 32_768
DELIVERED = ("webhook", "put_urls")


def split_urls(value: Any) -> Any:
    return tuple(value.split()) if isinstance(value, str) else value


class JobOptions(VideoOptions):
    """Options of `POST /v1/video`."""

    webhook: str | None = Field(
        None,
        description="URL that gets a signed POST when the job has ended; needs a job: "
        "`Prefer: respond-async`",
    )
    put_urls: Annotated[
        tuple[str, ...],
        BeforeValidator(split_urls),
        WithJsonSchema({"type": "string", "maxLength": MAX_URLS_CHARS}),
    ] = Field(
        (),
        description="presigned URLs that get the results by PUT, one for each output in their "
        "order, separated by spaces; needs a job, as `webhook`",
    )

    @model_validator(mode="after")
    def check_put_urls(self) -> Self:
        if self.put_urls and len(self.put_urls) != len(self.outputs):
            raise ValueError(
                f"{len(self.put_urls)} put_urls came for {len(self.outputs)} outputs; one each "
                "is needed"
            )
        return self

    @property
    def is_delivered(self) -> bool:
        """Whether something is to be sent when the job has ended."""
        return bool(self.webhook or self.put_urls)


def hide_urls(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as they are shown: signatures of URLs are secrets."""
    shown = dict(options)
    if options.get("webhook"):
        shown["webhook"] = hide_query(options["webhook"])
    if options.get("put_urls"):
        shown["put_urls"] = [hide_query(url) for url in options["put_urls"]]
    return shown
