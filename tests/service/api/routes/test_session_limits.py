"""Limits of sessions, their metrics and what capabilities say of them."""

from pathlib import Path

import numpy as np

from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode, read_metric
from tests.service.api.routes.test_sessions import NAMES, PICTURES
from tests.sessions import SessionClient, number_picture


def test_chunk_over_a_limit_is_refused_with_the_limit(make_client, tmp_path: Path) -> None:
    client = make_client(
        FakeEngine(), chunk_max_frames=3, chunk_max_bytes=20_000, video_max_side=100
    )
    session = SessionClient(client)
    clip = make_clip(tmp_path / "clip.mp4", seconds=0.4, fps=10, tone=False).read_bytes()
    for chunk in (PICTURES[:4], clip):
        problem = assert_problem(session.put(0, chunk), 422, "media-limit-exceeded")
        assert (problem["limit"], problem["actual"]) == (3, 4)
    problem = assert_problem(session.put(0, [number_picture(0, 101)]), 422, "media-limit-exceeded")
    assert problem["limit"] == 100 and "frame 0" in problem["detail"]
    for chunk in (bytes(20_001), [bytes(20_001)], bytes(10**6)):
        assert_problem(session.put(0, chunk), 413, "payload-too-large")
    session.send(PICTURES[:3])


def test_answer_larger_than_the_buffers_is_refused_and_nothing_is_applied(make_client) -> None:
    client = make_client(FakeEngine(), session_buffer_mb=1)
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    frame = encode(noise, "PNG")
    session = SessionClient(client, packaging="frames", output="composite", smoothing="off")
    problem = assert_problem(session.put(0, [frame] * 8), 422, "media-limit-exceeded")
    assert problem["limit"] == 2**20 < problem["actual"] and "fewer frames" in problem["hint"]
    session.send([frame] * 4)
    held = assert_problem(SessionClient(client).put(0, [frame]), 422, "media-limit-exceeded")
    assert held["actual"] > 2**20 and "packaging=frames" in held["hint"]


def test_metrics_and_capabilities_tell_of_sessions(make_client) -> None:
    limits = {
        "chunk_max_bytes": 100_000,
        "chunk_max_frames": 9,
        "max_sessions": 3,
        "max_sessions_per_key": 2,
        "max_chunks": 5,
        "session_buffer_mb": 6,
        "session_disk_mb": 7,
        "session_idle_s": 77,
        "session_max_s": 88,
    }
    client = make_client(FakeEngine(), **limits)
    told = client.get("/v1/capabilities").json()["session"]
    assert [told[name] for name in NAMES] == [*limits.values()]
    session = SessionClient(client)
    session.send(PICTURES[:3])
    assert read_metric(client, "matting_sessions_active") == 1
    held = read_metric(client, "matting_session_buffer_bytes")
    assert held == session.get().json()["buffer_bytes"] > 32 * 32 * 3
    assert read_metric(client, "matting_frames_total", kind="session") == 3
    session.finish()
    assert read_metric(client, "matting_sessions_active") == 0
    assert read_metric(client, "matting_session_buffer_bytes") < 10_000
    session.delete()
    assert read_metric(client, "matting_session_buffer_bytes") == 0
