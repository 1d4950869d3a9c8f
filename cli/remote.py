"""Send photos and clips to a running service: what `--server` does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import matting_client
from cli.local import CannotGoOn
from matting_client import AsyncClient, JobFailed, Matte, MattedVideo, ProblemError
from service.errors import MattingError

# Wrong once, wrong for every file.
NO_ACCESS = (401, 403)


class RemoteProblem(MattingError):
    """What a service has refused; `problem` is its problem document."""

    def __init__(self, problem: dict[str, Any], text: str) -> None:
        super().__init__(problem.get("detail", text), hint=problem.get("hint"))
        self.problem = problem

    def describe(self) -> dict[str, Any]:
        return self.problem or {"detail": self.detail}


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the client's errors as RemoteProblem, or CannotGoOn where no other file would pass."""
    try:
        yield
    except (ProblemError, JobFailed) as error:
        if getattr(error, "status", None) in NO_ACCESS:
            raise CannotGoOn(f"{error}; --key or MATTE_KEY is the key") from None
        raise RemoteProblem(dict(error.problem), str(error)) from None
    except matting_client.Unreachable as error:
        raise CannotGoOn(f"{error}; see whether the address is right and it runs there") from None
    except matting_client.MattingError as error:
        raise CannotGoOn(str(error)) from None


class RemoteService:
    """A running service; several photos may be on their way at once."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def matte(self, image: bytes, options: dict[str, Any]) -> tuple[Matte, dict[str, Any]]:
        """Return the result of a photo and what is said of it, as ResultMetadata says it."""
        with translate_errors():
            matte = await self._client.matte(image, **options)
        told = {
            "width": matte.width,
            "height": matte.height,
            "foreground": matte.person and vars(matte.person),
            "confidence": matte.confidence,
            "person": matte.shows_person,
            "model": matte.model,
            "provider": matte.provider,
            "notes": matte.notes and matte.notes.split("; "),
            "timings_ms": dict(matte.timings_ms),
        }
        return matte, {name: value for name, value in told.items() if value is not None}

    async def identify(self, model: str) -> str:
        """Return the SHA-256 of a model by its name, `auto`: of the default one."""
        with translate_errors():
            models = (await self._client.models())["models"]
        named = [one for one in models if one["name"] == model]
        chosen = named or [one for one in models if one["default"]]
        return str(chosen[0]["sha256"])

    async def matte_video(
        self, clip: Path, folder: Path, options: dict[str, Any], progress: Any
    ) -> MattedVideo:
        """Matte a clip as a job; its files come into `folder`, and the job goes."""
        with translate_errors():
            return await self._client.matte_video(clip, folder, progress=progress, **options)


@asynccontextmanager
async def open_service(url: str, key: str | None) -> AsyncIterator[RemoteService]:
    """Open the connections to a service."""
    async with AsyncClient(url, key) as client:
        yield RemoteService(client)
