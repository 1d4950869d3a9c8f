"""Clips that several tests of jobs bring, and counting what rendering costs."""

import pytest

import service.frames.render
from tests.clips import make_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.5, fps=12).read_bytes()


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "long.mp4"
    return make_clip(path, seconds=2, tone=False).read_bytes()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The expensive steps of rendering, one name for each call as it happens."""
    seen: list[str] = []
    for name in ("refine_alpha", "refine_planes", "estimate_foreground"):
        real = getattr(service.frames.render, name)

        def count(*arguments, name=name, real=real):
            seen.append(name)
            return real(*arguments)

        monkeypatch.setattr(service.frames.render, name, count)
    return seen
