"""Every result of `POST /v1/video`: its file, its colours, its alpha, and what is refused."""

import csv
import io
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from service.clips.outputs import OUTPUTS
from tests.clips import make_clip
from tests.fakes import FakeEngine
from tests.helpers import assert_problem, encode
from tests.videos import Clip, list_leftovers, post, read_cutouts

SIZE = (97, 65)  # odd, so that all but the ZIP is padded
INSIDE, OUTSIDE = np.s_[30:42, 38:50], np.s_[4:14, 78:94]  # of what `see_person` sees
H264 = [name for name, output in OUTPUTS.items() if output.container == "mp4"]
CUTOUTS = [name for name, output in OUTPUTS.items() if output.has_alpha]
PLAIN = {"refine": "off", "foreground": "off"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, seconds=0.4, fps=10, size=SIZE, pix_fmt="yuv444p").read_bytes()


@pytest.fixture(scope="module")
def answers(fake, clip: bytes) -> dict:
    """The answer for every output, none of it refined."""
    options = {name: PLAIN if name != "alpha" else {"refine": "off"} for name in OUTPUTS}
    return {name: post(fake, clip, outputs=name, **options[name]) for name in OUTPUTS}


@pytest.fixture(scope="module")
def truth(answers) -> list[np.ndarray]:
    """The cutouts as the ZIP has them, without loss."""
    return read_cutouts(answers["frames"].content)


def test_lossless_frames_are_the_clip_with_the_matte(truth, clip: bytes) -> None:
    before = Clip(clip).images
    assert len(truth) == len(before) == 4
    for cutout, image in zip(truth, before, strict=True):
        assert cutout.shape == (65, 97, 4)
        assert np.abs(cutout[..., :3].astype(int) - image).max() <= 2, "colour is straight"
        assert cutout[INSIDE][..., 3].min() == 255 and cutout[OUTSIDE][..., 3].max() == 0


@pytest.mark.parametrize("name", OUTPUTS)
def test_result_is_what_its_headers_say(answers, name: str) -> None:
    answer = answers[name]
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == OUTPUTS[name].content_type
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-frames"] == "4"
    size = answer.headers["x-width"], answer.headers["x-height"]
    if OUTPUTS[name].container is None:
        assert size == ("97", "65") and "x-padding" not in answer.headers
        return
    expected = (("98", "132"), "1,2") if name == "stacked" else (("98", "66"), "1,1")
    assert (size, answer.headers["x-padding"]) == expected
    with av.open(io.BytesIO(answer.content)) as container:
        video = container.streams.video[0]
        assert (str(video.width), str(video.height)) == size
        codec = video.codec_context.codec.canonical_name
        assert OUTPUTS[name].codec.startswith(codec)
        assert OUTPUTS[name].container in container.format.name
        expected = "opus" if name == "webm" else "aac"
        assert [s.codec_context.codec.canonical_name for s in container.streams.audio] == [expected]


@pytest.mark.parametrize("name", [name for name in OUTPUTS if OUTPUTS[name].container])
def test_frames_keep_their_times(answers, clip: bytes, name: str) -> None:
    before, after = Clip(clip).times, Clip(answers[name].content).times
    clock_s = 0.0005 if name == "webm" else 0
    assert len(before) == len(after)
    assert all(abs(b - a) <= clock_s for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize(("name", "near"), [("webm", 4), ("prores", 2)])
def test_alpha_and_colour_come_back_from_the_codec(answers, truth, name: str, near: int) -> None:
    cutouts = read_cutouts(answers[name].content)
    assert len(cutouts) == len(truth)
    for cutout, expected in zip(cutouts, truth, strict=True):
        assert cutout.shape == (66, 98, 4)
        difference = np.abs(cutout[:65, :97].astype(int) - expected)
        assert difference[..., 3].max() <= near
        assert difference[..., :3].mean() < (4 if name == "webm" else 0.6)
        assert np.array_equal(cutout[65, :97, 3], cutout[64, :97, 3]), "the edge is repeated"


@pytest.mark.parametrize("name", ["gif", "webp"])
def test_animation_is_the_cutout(answers, truth, name: str) -> None:
    with Image.open(io.BytesIO(answers[name].content)) as animation:
        assert (animation.n_frames, animation.size) == (4, SIZE)
        for frame, cutout in zip(ImageSequence.Iterator(animation), truth, strict=True):
            shown = np.asarray(frame.convert("RGBA")).astype(int)
            assert round(frame.info["duration"]) == 100
            alpha = cutout[..., 3] if name == "webp" else 255 * (cutout[..., 3] > 127)
            assert (shown[..., 3] == alpha).all()
            solid = cutout[..., 3] == 255
            assert np.abs(shown[solid] - cutout[solid]).mean() < 8


def test_webm_says_that_it_has_alpha(answers) -> None:
    assert b"\x53\xc0\x81\x01" in answers["webm"].content[:2000], "AlphaMode 1 of Matroska"


def test_green_and_composite_and_matte_agree_with_the_cutout(answers, truth) -> None:
    share = truth[2][..., 3:] / 255
    for name, behind in (("green", (0, 177, 64)), ("composite", (255, 255, 255))):
        image = Clip(answers[name].content).images[2][:65, :97].astype(int)
        expected = share * truth[2][..., :3] + (1 - share) * behind
        assert np.abs(image - expected).mean() < 6
        assert np.abs(image[OUTSIDE] - behind).max() <= 6
    grey = Clip(answers["alpha"].content).images[2][:65, :97].astype(int)
    assert np.abs(grey - 255 * share).mean() < 3


def test_table_of_the_zip_has_every_frame(answers, clip: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(answers["frames"].content)) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        table = list(csv.DictReader(io.StringIO(archive.read("timestamps.csv").decode())))
        assert [row["name"] for row in table] == archive.namelist()[:-1]
    assert [row["frame"] for row in table] == ["0", "1", "2", "3"]
    assert [float(row["pts_s"]) for row in table] == [float(time) for time in Clip(clip).times]
    assert {row["duration_s"] for row in table} == {"0.100000000"}


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        ({"outputs": "alpha,webm,alpha"}, "invalid-option", "twice"),
        ({"outputs": "web"}, "invalid-option", "did you mean webp"),
        ({"outputs": "mov"}, "invalid-option", "did you mean prores?"),
        (
            {"outputs": "Cutout"},
            "invalid-option",
            "did you mean webm or prores or frames or stacked or gif or webp?",
        ),
        ({"outputs": "exr"}, "invalid-option", "outputs: composite, alpha"),
        ({"outputs": ""}, "invalid-option", "prores"),
        ({"outputs": "webm,"}, "invalid-option", "outputs"),
        ({"outputs": "webm", "background": "red"}, "invalid-option", "composite among outputs"),
        ({"outputs": "green", "background": "blur"}, "invalid-option", "composite among outputs"),
        ({"outputs": "webm", "crf": 21}, "invalid-option", "H.264"),
        ({"outputs": "prores", "preset": "fast"}, "invalid-option", "H.264"),
        ({"outputs": "frames", "audio": "drop"}, "invalid-option", "output with audio"),
        ({"outputs": "alpha", "foreground": "off"}, "invalid-option", "another output"),
        ({"start": 2, "end": 2}, "invalid-option", "after start"),
        ({"start": -1}, "invalid-option", "start"),
        ({"end": "nan"}, "invalid-option", "end"),
        ({"max_fps": 0}, "invalid-option", "max_fps"),
        ({"start": 50}, "invalid-option", "between start and end"),
    ],
)
def test_what_cannot_be_made_is_refused(fake, clip: bytes, options, code: str, hint: str) -> None:
    problem = assert_problem(post(fake, clip, **options), 422, code)
    assert hint in problem["detail"] + problem.get("hint", "")


def test_picture_behind_a_cutout_is_refused(fake, clip: bytes) -> None:
    picture = {"background_file": encode(np.zeros((8, 8, 3), np.uint8), "PNG")}
    problem = assert_problem(post(fake, clip, picture, outputs="webm"), 422, "invalid-option")
    assert "composite among outputs" in problem["detail"]


def test_results_may_not_fill_the_disk(make_client, clip: bytes, tmp_path: Path) -> None:
    big = make_clip(tmp_path / "big.mp4", seconds=1, size=(320, 256)).read_bytes()
    data = tmp_path / "data"
    data.mkdir()
    client = make_client(FakeEngine(), video_result_max_mb=1, data_dir=data)
    problem = assert_problem(post(client, big, outputs="frames"), 507, "insufficient-storage")
    assert problem["actual"] > problem["limit"] == 2**20 and "max_fps" in problem["hint"]
    assert list_leftovers(data) == []
    assert post(client, clip, outputs="frames").status_code == 200


@pytest.mark.parametrize("name", ["webm", "prores"])
def test_sound_can_be_left_out(fake, clip: bytes, name: str) -> None:
    assert Clip(post(fake, clip, outputs=name, audio="drop").content).sound == []


def test_capabilities_list_every_output(fake) -> None:
    video = fake.get("/v1/capabilities").json()["video"]
    assert list(video["outputs"]) == list(OUTPUTS)
    assert {name for name, output in video["outputs"].items() if output["alpha"]} == set(CUTOUTS)
    assert {n for n, output in video["outputs"].items() if output["codec"] == "h264"} == set(H264)
    assert video["outputs"]["webm"]["sound"] == ["opus"]
    assert {"max_fps", "start", "end", "background"} <= set(video["options"])


@pytest.mark.parametrize("kind", ["video", "session"])
def test_capabilities_list_the_look_of_clips(fake, kind: str) -> None:
    options = fake.get("/v1/capabilities").json()[kind]["options"]
    look = {"existing_alpha", "keep_largest", "threshold", "erode", "dilate", "feather"}
    assert look | {"deinterlace", "hdr", "keep_metadata"} <= set(options)


def test_documents_name_the_content_type_of_every_output(fake) -> None:
    answer = fake.get("/openapi.json").json()["paths"]["/v1/video"]["post"]["responses"]["200"]
    assert set(answer["content"]) == {output.content_type for output in OUTPUTS.values()}
    for name in OUTPUTS:
        assert f"`{name}`" in answer["description"]


@pytest.mark.parametrize(
    ("pix_fmt", "header"), [("yuv420p10le", {"x-converted-from-bits": "10"}), ("yuv420p", {})]
)
def test_ten_bits_are_converted_and_said_so(fake, tmp_path: Path, pix_fmt: str, header) -> None:
    source = make_clip(tmp_path / "a.mkv", seconds=0.2, pix_fmt=pix_fmt, sound_codec="vorbis")
    headers = post(fake, source.read_bytes()).headers
    found = {k: v for k, v in headers.items() if k in ("x-converted-from-bits", "x-interlaced")}
    assert found == header
    assert headers["x-sound-converted-from"] == "vorbis"


def test_stacked_halves_are_the_colour_and_the_matte(answers, truth) -> None:
    frames, mattes = Clip(answers["stacked"].content).images, Clip(answers["alpha"].content).images
    for frame, matte, cutout in zip(frames, mattes, truth, strict=True):
        assert frame.shape == (132, 98, 3)
        assert np.abs(frame[66:-2].astype(int) - matte[:64]).mean() < 3
        inside = cutout[:60, :96, 3] == 255
        colour = np.abs(frame[:60, :96].astype(int) - cutout[:60, :96, :3]).mean(axis=2)
        assert colour[inside].mean() < 12


def test_person_is_placed_with_a_shadow(fake, clip: bytes, truth) -> None:
    """Half the size at the left border: of the cutouts, and of the composite behind green."""
    placed = PLAIN | {"scale": "50%", "position": "0% 100%", "shadow": "soft"}
    cutouts = read_cutouts(post(fake, clip, outputs="frames", **placed).content)
    for cutout, before in zip(cutouts, truth, strict=True):
        rows, columns = np.nonzero(before[..., 3] == 255)
        middle = int(rows.mean() / 2 + 65 / 2), int(columns.mean() / 2)
        assert cutout.shape == (65, 97, 4) and cutout[middle][3] == 255
        assert (cutout[:20, ..., 3] == 0).all() and (cutout[:, 60:, 3] == 0).all()
        black = (cutout[..., :3] == 0).all(axis=2)
        assert (black & (cutout[..., 3] > 20)).any(), "the shadow"
    composite = post(fake, clip, outputs="composite", background="blue", crf=1, **placed)
    for frame, cutout in zip(Clip(composite.content).images, cutouts, strict=True):
        share = cutout[..., 3:] / 255
        over = share * cutout[..., :3] + (1 - share) * (0, 0, 255)
        assert np.abs(frame[:65, :97] - over).mean() < 4


def test_roi_is_for_the_whole_clip(fake, clip: bytes, truth) -> None:
    cutouts = read_cutouts(post(fake, clip, outputs="frames", roi="0,0,48,65", **PLAIN).content)
    assert len(cutouts) == len(truth)
    for cutout in cutouts:
        assert cutout[..., 3].any() and not cutout[:, 48:, 3].any()
    shares = read_cutouts(
        post(fake, clip, outputs="frames", roi="0%,0%,49.5%,100%", **PLAIN).content
    )
    assert all(np.array_equal(*pair) for pair in zip(shares, cutouts, strict=True))
    problem = assert_problem(post(fake, clip, roi="0,0,98,65"), 422, "invalid-option")
    assert "ends at 98, 65, the picture at 97, 65" in problem["detail"]
