"""A step that is ready when its client leaves is forgotten, whole."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest

from service.app import create_app
from service.sessions import apply as session_run
from service.sessions.chunk import Chunk, make_chunk
from service.sessions.options import SessionOptions
from service.settings import Settings
from tests.fakes import FakeEngine
from tests.helpers import encode
from tests.videos import Clip

# A bar on the move: a frame decoded from the wrong one before it shows two.
IMAGES = [np.full((48, 64, 3), 40, np.uint8) for _ in range(9)]
for index, image in enumerate(IMAGES):
    image[:, 6 * index : 6 * index + 8] = 200


def make_pictures(first: int, last: int) -> Chunk:
    pictures = [io.BytesIO(encode(image, "PNG")) for image in IMAGES[first:last]]
    return make_chunk(tuple(pictures), is_clip=False)


async def leave_when_ready(run: asyncio.Future, on_cancel) -> None:
    await asyncio.wait([run])
    on_cancel()
    raise asyncio.CancelledError


def test_step_that_nobody_reads_is_forgotten_and_its_encoder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> bytes:
        app = create_app(Settings(data_dir=tmp_path, device="cpu", decoders=1), FakeEngine())
        content = b""
        async with app.router.lifespan_context(app):
            runtime, store = app.state.services.runtime, app.state.services.sessions
            session = store.open("me", SessionOptions(fps=25))
            for sequence, (first, last) in enumerate([(0, 3), (3, 6), (6, 9)]):
                before = session.state
                with monkeypatch.context() as patched:
                    patched.setattr(session_run, "wait_for_thread", leave_when_ready)
                    with pytest.raises(asyncio.CancelledError):
                        await session_run.apply_chunk(
                            runtime,
                            store,
                            session,
                            sequence,
                            make_pictures(first, last),
                        )
                assert session.state is before and session.encoder is None
                assert len(list(tmp_path.glob("matting-sessions-*/*"))) == sequence + 1
                opened = await session_run.apply_chunk(
                    runtime,
                    store,
                    session,
                    sequence,
                    make_pictures(first, last),
                )
                with opened.file:
                    content += opened.file.read()
            opened = await session_run.finish_session(runtime, store, session)
            with opened.file:
                return content + opened.file.read()

    clip = Clip(asyncio.run(go()))
    assert len(clip.images) == len(IMAGES)
    for image, sent in zip(clip.images, IMAGES, strict=True):
        assert np.abs(image.astype(int) - sent).mean() < 2
