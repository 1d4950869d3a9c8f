"""What a client is told of clips that are not as they should be."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import clip_kinds
from tests.clip_kinds import flat, write_pictures
from tests.clips import make_clip, picture, truncate
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, wait_until
from tests.sessions import SessionClient, read_parts
from tests.videos import Clip, post, read_cutouts

QUICK = {"preset": "ultrafast", "refine": "off", "foreground": "off", "ref_size": 64}


@pytest.fixture(scope="module")
def client():
    from tests.conftest import open_client

    engine = FakeEngine(lambda batch: np.ones_like(batch[:, 0]))
    with open_client(engine, max_sessions_per_key=50) as opened:
        yield opened


def run_job(client, content: bytes, **options) -> dict:
    response = client.post(
        "/v1/video",
        params=QUICK | options,
        files={"file": ("a.mp4", content)},
        headers={"Prefer": "respond-async"},
    )
    assert response.status_code == 202, response.text
    address = response.headers["location"]
    states = ("succeeded", "failed", "cancelled")
    return wait_until(
        lambda: (job := client.get(address).json())["state"] in states and job, timeout_s=120
    )


def make_short(tmp_path: Path) -> bytes:
    whole = make_clip(
        tmp_path / "a.mp4", seconds=4, fps=25, options={"movflags": "faststart"}, tone=False
    )
    return truncate(tmp_path / "b.mp4", whole, 0.5).read_bytes()


def test_lost_frames_are_in_the_headers(client, tmp_path) -> None:
    response = post(client, make_short(tmp_path), **QUICK)
    assert response.status_code == 200
    frames, lost = int(response.headers["x-frames"]), int(response.headers["x-frames-lost"])
    assert frames + lost == 100 and lost > 20
    assert float(response.headers["x-ends-early-s"]) > 1
    assert response.headers["x-cut-short"] == "1"


def test_half_a_clip_is_a_job_that_succeeded_with_a_warning(client, tmp_path) -> None:
    job = run_job(client, make_short(tmp_path))
    assert job["state"] == "succeeded"
    assert job["report"]["frames"] + job["report"]["frames_lost"] == 100
    assert job["report"]["cut_short"] == 1


def test_sound_clip_has_no_warnings(client, tmp_path) -> None:
    response = post(client, make_clip(tmp_path / "a.mp4", seconds=0.4).read_bytes(), **QUICK)
    told = {name for name in response.headers if name.startswith("x-")}
    unusual = {"x-frames-lost", "x-frames-damaged", "x-clock-corrections", "x-tone-mapped-from"}
    assert not told & (unusual | {"x-cut-short", "x-audio-tracks-lost"})


def test_what_is_not_read_is_in_the_headers(client, tmp_path) -> None:
    once = make_clip(tmp_path / "a.mp4", seconds=0.4, fps=25, rotation=30).read_bytes()
    response = post(client, once * 2, **QUICK)
    assert response.status_code == 200, response.text
    assert response.headers["x-clips-unread"] == "1"
    assert float(response.headers["x-turn-ignored-deg"]) == pytest.approx(30, abs=0.1)
    matroska = make_clip(tmp_path / "a.mkv", seconds=0.8, fps=25).read_bytes()
    middle, length = len(matroska) // 2, len(matroska) // 5
    response = post(
        client, matroska[:middle] + bytes(length) + matroska[middle + length :], **QUICK
    )
    assert response.status_code == 200, response.text
    assert response.headers["x-places-damaged"] == "1"


def test_clock_corrections_are_told(client, tmp_path) -> None:
    once = make_clip(tmp_path / "a.ts", seconds=1, fps=25).read_bytes()
    response = post(client, once * 2, **QUICK)
    assert response.headers["x-clock-corrections"] == "1"
    assert Clip(response.content).times[-1] == pytest.approx(2, abs=0.1)


def test_progress_of_a_part_counts_the_part(client, tmp_path) -> None:
    clip = make_clip(tmp_path / "a.mp4", seconds=4, fps=30, tone=False).read_bytes()
    job = run_job(client, clip, start=1)
    assert job["frames_done"] == job["frames_total"] == 90


def test_picture_is_sent_to_the_route_for_pictures(client, tmp_path) -> None:
    content = clip_kinds.make_still_heic(tmp_path / "a.heic").read_bytes()
    problem = assert_problem(post(client, content), 415, "unsupported-media")
    assert "/v1/image" in problem["detail"]


def test_unread_container_is_named(client) -> None:
    content = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(500)
    problem = assert_problem(post(client, content), 415, "unsupported-media")
    assert "Windows Media" in problem["detail"] and "-c copy" in problem["detail"]


@pytest.fixture(scope="module")
def hdr_clip(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("hdr") / "a.mkv"
    options = {"x265-params": "log-level=none"}
    white = [flat((148, 148, 148))] * 4
    tag = clip_kinds.tag(9, 16, 9)
    write_pictures(
        path, white, codec="libx265", pix_fmt="yuv420p10le", options=options, prepare=tag
    )
    return path.read_bytes()


def test_hdr_is_tone_mapped_or_refused(client, hdr_clip: bytes) -> None:
    response = post(client, hdr_clip, outputs="frames", ref_size=64)
    assert response.headers["x-tone-mapped-from"] == "BT.2020 PQ"
    assert read_cutouts(response.content)[0][30, 40, 0] > 0.85 * 255
    engine = client.app.state.services.runtime.models.default.engine
    seen = np.array(engine.batches[-4:])[:, 0] / 2 + 0.5  # values are between -1 and 1
    assert len(seen) == 4 and seen.min() > 0.85, "the network sees the same"
    refused = post(client, hdr_clip, hdr="refuse", **QUICK)
    assert "HDR (BT.2020 PQ)" in assert_problem(refused, 422, "undecodable-media")["detail"]


def test_fields_are_taken_apart_or_kept(client, tmp_path) -> None:
    clip = make_clip(tmp_path / "a.ts", interlaced=True, seconds=0.4).read_bytes()
    response = post(client, clip, **QUICK)
    assert response.headers["x-deinterlaced"] == "yes"
    assert "x-interlaced" not in response.headers
    kept = post(client, clip, deinterlace="off", **QUICK)
    assert kept.headers["x-interlaced"] == "yes"
    with av.open(io.BytesIO(kept.content)) as file:
        assert next(file.decode(video=0)).interlaced_frame


@pytest.mark.parametrize(("existing_alpha", "right"), [("multiply", 0), ("ignore", 255)])
def test_transparency_of_a_clip(client, tmp_path, existing_alpha: str, right: int) -> None:
    content = clip_kinds.make_alpha_webm(tmp_path / "a.webm").read_bytes()
    options = {"outputs": "frames", "existing_alpha": existing_alpha, "ref_size": 64}
    cutout = read_cutouts(post(client, content, **options).content)[0]
    assert cutout[:, :40, 3].min() > 240
    assert abs(int(cutout[30, 80, 3]) - right) <= 5


def test_alpha_of_the_clip_needs_no_network(make_client, tmp_path) -> None:
    engine = FakeEngine()
    client = make_client(engine)
    before = len(engine.batches)
    content = clip_kinds.make_alpha_webm(tmp_path / "a.webm").read_bytes()
    response = post(client, content, outputs="frames", existing_alpha="return")
    cutouts = read_cutouts(response.content)
    assert len(cutouts) == 4 and len(engine.batches) == before
    assert cutouts[0][:, :40, 3].min() > 240 and cutouts[0][:, 56:, 3].max() <= 5


def test_detached_objects_go(make_client, tmp_path) -> None:
    def two_pieces(batch: np.ndarray) -> np.ndarray:
        alphas = np.zeros_like(batch[:, 0])
        alphas[:, 10:50, 10:40] = 1
        alphas[:, 5:12, 70:80] = 1
        return alphas

    client = make_client(FakeEngine(two_pieces))
    clip = make_clip(tmp_path / "a.mp4", seconds=0.2, tone=False).read_bytes()
    kept, plain = (
        Clip(post(client, clip, outputs="alpha", keep_largest=keep, refine="off").content).images[2]
        for keep in ("true", "false")
    )
    assert plain[8, 75].max() > 200 > 50 > kept[8, 75].max()
    assert kept[30, 25].min() > 200


def test_shape_that_changes_is_fitted_and_told(client, tmp_path) -> None:
    pieces = b"".join(
        make_clip(tmp_path / f"{i}.ts", seconds=0.2, size=size, tone=False).read_bytes()
        for i, size in enumerate([(320, 180), (180, 320)])
    )
    response = post(client, pieces, background="#00ff00", **QUICK)
    assert response.headers["x-frames-fitted"] == "6"
    last = Clip(response.content).images[-1].astype(int)
    assert np.abs(last[90, 10] - (0, 255, 0)).max() < 12, "bars show the background"
    session = SessionClient(client, packaging="frames")
    problem = assert_problem(session.put(0, pieces), 422, "impossible-output")
    assert "new session" in problem["hint"]


def test_session_counts_one_frame_by_its_own_rate(client, tmp_path) -> None:
    times = []
    session = SessionClient(client, packaging="frames", fps=30, smoothing="off")
    for index in range(4):
        chunk = write_pictures(
            tmp_path / "a.webm",
            [picture(index, (96, 64))],
            codec="libvpx",
            fps=1000,
            times_ms=[0],
        )
        times += [part.time_s for part in read_parts(session.send(chunk.read_bytes()))]
    assert times == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30], abs=1e-5)


def test_lost_frames_of_a_chunk_are_in_its_headers(client, tmp_path) -> None:
    images = [picture(index, (96, 64)) for index in range(30)]
    options = {"g": "10", "preset": "ultrafast", "x264-params": "scenecut=0"}
    whole = write_pictures(tmp_path / "a.mkv", images, options=options)
    numbers = iter(range(100))
    path = clip_kinds.copy_packets(whole, tmp_path / "b.mkv", lambda packet: next(numbers) > 0)
    answer = SessionClient(client, packaging="frames").send(path.read_bytes())
    headers = answer.headers
    assert int(headers["x-frames-in"]) + int(headers["x-frames-lost"]) == 29


def test_metadata_is_kept_if_asked_for(client, tmp_path) -> None:
    clip_kinds.make_labelled(tmp_path / "a.mkv")
    content = (tmp_path / "a.mkv").read_bytes()
    for keep, title in (("true", "Holiday"), ("false", None)):
        response = post(client, content, keep_metadata=keep, **QUICK)
        path = tmp_path / "b.mp4"
        path.write_bytes(response.content)
        with av.open(str(path)) as file:
            assert file.metadata.get("title") == title
            assert [c["metadata"]["title"] for c in file.chapters()] == ["One", "Two"]


@pytest.mark.parametrize(("keep", "title"), [(True, "Holiday"), (False, None)])
def test_metadata_of_the_first_chunk_is_kept_if_asked_for(client, tmp_path, keep, title) -> None:
    clip_kinds.make_labelled(tmp_path / "a.mkv")
    session = SessionClient(client, keep_metadata=keep)
    answers = [session.send((tmp_path / "a.mkv").read_bytes()).content for _ in range(2)]
    with av.open(io.BytesIO(b"".join(answers))) as file:
        assert file.metadata.get("title") == title
        assert file.metadata.get("location", "").startswith("+48.1" if keep else "")
        assert len([packet for packet in file.demux(video=0) if packet.size]) == 49
        assert not file.chapters()


def test_fields_that_nobody_states_are_told(client, tmp_path) -> None:
    pictures = [picture(3 * index, (96, 64)) for index in range(40)]
    for first, second in zip(pictures[::2], pictures[1::2], strict=True):
        first[1::2] = second[1::2]
    clip = write_pictures(tmp_path / "a.mp4", pictures[::2]).read_bytes()
    response = post(client, clip, **QUICK)
    assert int(response.headers["x-frames-combed"]) > 10
    assert "x-deinterlaced" not in response.headers
    mended = post(client, clip, deinterlace="always", **QUICK)
    assert mended.headers["x-deinterlaced"] == "yes"
    assert "x-frames-combed" not in mended.headers
    chunk = SessionClient(client, packaging="frames").send(clip)
    assert int(chunk.headers["x-frames-combed"]) > 10


def test_pictures_of_narrow_pixels_are_stretched_and_it_is_told(client, tmp_path) -> None:
    clip = make_clip(
        tmp_path / "a.mp4", seconds=0.2, size=(176, 240), sample_aspect_ratio=Fraction(20, 11)
    ).read_bytes()
    response = post(client, clip, outputs="frames", ref_size=64)
    assert response.headers["x-square-pixels"] == "yes"
    assert read_cutouts(response.content)[0].shape == (240, 320, 4)
    assert (response.headers["x-width"], response.headers["x-height"]) == ("320", "240")
