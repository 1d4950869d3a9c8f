"""What stands behind the person in a composite: a colour, the clip out of focus, a picture."""

from pathlib import Path

import numpy as np
import pytest

from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode
from tests.videos import Clip, post

WALL, FACE = np.s_[:40, :40], np.s_[60:100, 100:140]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "portrait.mp4"
    return make_clip(path, seconds=0.25, fps=12, size=(320, 256)).read_bytes()


def test_picture_stands_behind_the_person(client, clip: bytes) -> None:
    picture = encode(np.full((30, 90, 3), (30, 60, 220), np.uint8), "PNG")
    response = post(client, clip, {"background_file": picture})
    assert response.status_code == 200, response.text
    before, after = Clip(clip).images[1].astype(int), Clip(response.content).images[1].astype(int)
    assert np.abs(after[WALL] - (30, 60, 220)).mean() < 6
    assert np.abs(after[FACE] - before[FACE]).mean() < 12


def test_blur_softens_the_wall_and_not_the_face(client, clip: bytes) -> None:
    before = Clip(clip).images[1]
    after = Clip(post(client, clip, background="blur", blur_radius=12, crf=4).content).images[1]
    detail = {}
    for name, part in (("right", np.s_[60:200, 280:]), ("face", FACE)):
        steps = [
            np.abs(np.diff(image[part].astype(int), axis=0)).mean() for image in (before, after)
        ]
        detail[name] = steps[1] / steps[0]
    assert detail["right"] < 0.6 and detail["face"] > 0.85, detail


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"outputs": "alpha"}, "needs composite among outputs"),
        ({"background": "red"}, "both"),
    ],
)
def test_picture_that_nobody_would_see_is_refused(client, clip, options: dict, word: str) -> None:
    picture = encode(np.zeros((8, 8, 3), np.uint8), "PNG")
    response = post(client, clip, {"background_file": picture}, **options)
    assert word in assert_problem(response, 422, "invalid-option")["detail"]


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda clip: clip, 422, "impossible-output"),
        (lambda clip: b"\x89PNG\r\n\x1a\nrubbish", 422, "undecodable-media"),
        (lambda clip: encode(np.zeros((9, 70, 3), np.uint8), "PNG"), 422, "media-limit-exceeded"),
        (lambda clip: b"\0" * 60_001, 413, "payload-too-large"),
    ],
    ids=["a-clip", "rubbish", "too-wide", "too-many-bytes"],
)
def test_bad_picture_is_refused_by_its_name_and_frees_the_place(
    make_client, clip: bytes, tmp_path: Path, make, status: int, code: str
) -> None:
    limits = {"max_videos": 1, "image_max_side": 64, "image_max_bytes": 60_000}
    client = make_client(FakeEngine(), data_dir=tmp_path, **limits)
    problem = assert_problem(post(client, clip, {"background_file": make(clip)}), status, code)
    assert "background_file" in problem["detail"]
    if code == "impossible-output":
        assert "video" in problem["hint"]
    assert post(client, clip).status_code == 200
    assert list(tmp_path.iterdir()) == []
