"""Strands where the network leaves haze: closed-form matting, and what it must not touch."""

from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from service.matting.fine import MAX_PIXELS, find_unsure, refine_strands, solve
from service.threads import TooLate
from tests.fakes import FakeEngine, opaque
from tests.helpers import assert_problem, encode, post_image

# Not imported here: it takes a second, in each process of a run.
pytestmark = pytest.mark.skipif(find_spec("pymatting") is None, reason="no pymatting")

HAIR, WALL = (40, 25, 15), (210, 220, 235)


@pytest.fixture(scope="module")
def strands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head with strands before a wall: the picture, its alpha, and the network's haze."""
    alpha = np.zeros((160, 160), np.float32)
    cv2.circle(alpha, (80, 100), 40, 1.0, -1, cv2.LINE_AA)
    for x in range(46, 116, 6):
        cv2.line(alpha, (80 + (x - 80) // 2, 90), (x, 36), 1.0, 1, cv2.LINE_AA)
    shade = np.linspace(0.9, 1.1, 160, dtype=np.float32)[:, None, None]
    image = alpha[..., None] * np.float32(HAIR) + (1 - alpha[..., None]) * np.float32(WALL) * shade
    haze = np.clip(cv2.GaussianBlur(alpha, (0, 0), 4), 0, 1)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), alpha, haze


def test_haze_becomes_strands(strands):
    image, truth, haze = strands
    found = refine_strands(image, haze, lambda: False)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    band = find_unsure(haze)
    assert np.array_equal(found[~band], haze[~band])
    errors = [np.abs(alpha - truth)[band].mean() for alpha in (haze, found)]
    assert errors[1] < errors[0] / 3


def test_large_photo_is_matted_at_four_megapixels_and_refined_from_there(strands, monkeypatch):
    monkeypatch.setattr("service.matting.fine.MAX_PIXELS", 80 * 80)
    assert MAX_PIXELS == 4_000_000
    image, truth, haze = strands
    found = refine_strands(image, haze, lambda: False)
    assert found.shape == haze.shape
    assert np.abs(found - truth).mean() < np.abs(haze - truth).mean() / 1.5


def test_wide_haze_is_matted_smaller_and_refined_from_there(strands, monkeypatch):
    image, truth, haze = strands
    sizes = []

    def note_and_solve(small, alpha, band, is_late):
        sizes.append(np.count_nonzero(band))
        return solve(small, alpha, band, is_late)

    monkeypatch.setattr("service.matting.fine.MAX_BAND", 2500)
    found = refine_strands(image, haze, lambda: False, note_and_solve)
    assert np.count_nonzero(find_unsure(haze)) > 5000 and 1000 < sizes[0] <= 2500
    assert np.abs(found - truth).mean() < np.abs(haze - truth).mean() / 1.5


def test_noise_that_fills_a_preconditioner_is_solved_without(strands, monkeypatch):
    image, _, haze = strands
    wanted = refine_strands(image, haze, lambda: False)
    monkeypatch.setattr("service.matting.fine.FILL", 1)
    np.testing.assert_allclose(refine_strands(image, haze, lambda: False), wanted, atol=0.01)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_matte_without_two_sure_sides_stays(value):
    alpha = np.full((64, 64), value, np.float32)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(refine_strands(image, alpha, lambda: False), alpha)


def test_deadline_ends_it_inside_the_solver(strands):
    image, _, haze = strands
    asked = iter([False, False, True])
    with pytest.raises(TooLate):
        refine_strands(image, haze, lambda: next(asked))


@pytest.fixture(scope="module")
def client(strands):
    from tests.conftest import open_client

    image, _, haze = strands

    def see(batch):
        return cv2.resize(haze, batch.shape[:1:-1])[np.newaxis]

    with open_client(FakeEngine(see)) as opened:
        yield opened


def test_photo_is_answered_with_strands_and_says_so(client, strands):
    photo = encode(strands[0], "PNG")
    auto, fine = (post_image(client, photo, refine=refine) for refine in ("auto", "fine"))
    assert auto.status_code == fine.status_code == 200
    assert fine.headers["x-refine"] == "fine" and "x-refine" not in auto.headers
    assert fine.content != auto.content
    gate = client.app.state.services.runtime.gate
    assert gate.fine_requests == 0 and gate.fine_s < 5


def test_seconds_of_fine_photos_count_for_others(client, strands):
    gate = client.app.state.services.runtime.gate
    with gate.try_enter(is_fine=True), gate.try_enter():
        answer = post_image(client, encode(strands[0], "PNG"))
    problem = assert_problem(answer, 429, "overloaded")
    assert "seconds of work" in problem["detail"] and int(answer.headers["retry-after"]) >= 1


def test_missing_extra_is_refused_with_the_command(client, strands, monkeypatch):
    monkeypatch.setattr("service.fine.find_spec", lambda name: None)
    answer = post_image(client, encode(strands[0], "PNG"), refine="fine")
    problem = assert_problem(answer, 422, "invalid-option")
    assert "pip install 'matting-service[fine]'" in problem["hint"]


def test_photo_that_takes_too_long_is_504(make_client, strands, monkeypatch):
    client = make_client(FakeEngine(lambda batch: opaque(batch) / 2), request_timeout_s=5)
    import service.stills.answer as answer_module

    class Late:
        """A clock that has passed every deadline when it is asked again."""

        now_s = 0.0

        def monotonic(self):
            self.now_s += 100
            return self.now_s

        def thread_time(self):
            return self.now_s

    monkeypatch.setattr(answer_module, "time", Late())
    answer = post_image(client, encode(strands[0], "PNG"), refine="fine")
    problem = assert_problem(answer, 504, "deadline-exceeded")
    assert "refine=fine" in problem["detail"]


def test_clips_have_no_strands(client):
    problem = assert_problem(
        client.post("/v1/sessions", json={"refine": "fine"}), 422, "invalid-option"
    )
    assert "refine" in problem["detail"]
