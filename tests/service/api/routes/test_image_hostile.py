"""Files that were made to hurt: each costs its sender a 4xx and the service nothing."""

import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from tests import hostile
from tests.fakes import FakeEngine
from tests.helpers import (
    assert_problem,
    connect,
    decode,
    encode,
    list_decoders,
    post_image,
    read_metric,
    wait_until,
)
from tests.profiles import make_profile

SMALL = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
LARGE = {"image_max_megapixels": 300, "max_megapixels": 300}  # for images that take long
SOON_S = 15.0  # the decoder's own limit is 10 s; what hangs would not come back at all


def find_child_pid(client) -> int:
    """Return the decoder child that the next image will go to."""
    ((child, _),) = client.app.state.services.runtime.decoders._idle
    return child.pid


def assert_still_serves(client) -> None:
    data = encode(Image.new("RGB", (48, 32)), "PNG")
    response = post_image(client, data)
    assert response.status_code == 200 and decode(response.content).shape == (32, 48)


def assert_image_or_refusal(client, data: bytes) -> None:
    response = post_image(client, data)
    if response.status_code == 200:
        height, width = decode(response.content).shape
        assert response.headers["x-width"] == str(width)
        assert response.headers["x-height"] == str(height)
    else:
        assert response.status_code in (415, 422), response.text
        assert_problem(response, response.status_code, response.json()["code"])


def claim(format: str, width: int, height: int) -> bytes:
    return hostile.claim_size(encode(SMALL, format), width, height)


CASES = {
    "empty": (lambda: b"", 422, "undecodable-media"),
    "one byte": (lambda: b"\x89", 415, "unsupported-media"),
    "text": (lambda: b"hello, this is no image" * 50, 415, "unsupported-media"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-media"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "unsupported-media"),
    "playlist": (lambda: b"#EXTM3U\n/etc/passwd\n", 415, "unsupported-media"),
    "pickle": (lambda: b"\x80\x04\x95\x0b\0\0\0", 415, "unsupported-media"),
    "magic of JPEG": (lambda: b"\xff\xd8\xff", 422, "undecodable-media"),
    "magic of PNG": (lambda: hostile.PNG_SIGNATURE, 422, "undecodable-media"),
    "magic of TIFF": (lambda: b"II*\0", 422, "undecodable-media"),
    "magic of WebP": (lambda: b"RIFF\0\0\0\0WEBP", 422, "undecodable-media"),
    "PNG of no size": (lambda: hostile.make_png(0, 5), 422, "undecodable-media"),
    "PNG of 46 bytes": (hostile.make_lying_png, 422, "undecodable-media"),
    "60 megapixels": (lambda: hostile.make_png(10_000, 6_000), 422, "media-limit-exceeded"),
    "1000 megapixels": (lambda: hostile.make_flat_png(32_000, 32_000), 422, "media-limit-exceeded"),
    "2^31 wide": (lambda: hostile.make_png(2**31 - 1, 1), 422, "media-limit-exceeded"),
    "17,000 wide": (lambda: hostile.make_flat_png(17_000, 2), 422, "media-limit-exceeded"),
    "magic of HEIC": (lambda: b"\0\0\0\x18ftypheic", 422, "undecodable-media"),
    "magic of AVIF": (lambda: b"\0\0\0\x18ftypavif", 422, "undecodable-media"),
    "video of a phone": (lambda: b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", 415, "unsupported-media"),
    "HEIC of 60 megapixels": (lambda: claim("HEIF", 10_000, 6_000), 422, "media-limit-exceeded"),
    "HEIC of 49 megapixels": (lambda: claim("HEIF", 7_000, 7_000), 422, "undecodable-media"),
    "HEIC of 2^32 - 1 a side": (lambda: claim("HEIF", 2**32 - 1, 2**32 - 1), 422, None),
    "AVIF of 60 megapixels": (lambda: claim("AVIF", 10_000, 6_000), 422, "media-limit-exceeded"),
    "AVIF of 2^32 - 1 a side": (lambda: claim("AVIF", 2**32 - 1, 2**32 - 1), 422, None),
    "HEIC of nested boxes": (lambda: hostile.make_nested_boxes(20_000), 422, "undecodable-media"),
    "HEIC of many items": (lambda: hostile.make_many_items(60_000), 422, "undecodable-media"),
    "HEIC cut in two": (lambda: encode(SMALL, "HEIF")[:1500], 422, "undecodable-media"),
    "AVIF cut in two": (lambda: encode(SMALL, "AVIF")[:1500], 422, "undecodable-media"),
    "WebP of 268 megapixels": (hostile.make_large_webp, 422, None),
    "TIFF of many directories": (
        lambda: hostile.make_tiff_chain(500_000),
        422,
        "undecodable-media",
    ),
    "JPEG of many scans": (lambda: hostile.make_slow_jpeg(101), 422, "media-too-complex"),
    "TIFF of many tags": (
        lambda: hostile.make_tiff_with_tags(60_000),
        422,
        "media-too-complex",
    ),
    **{
        f"{kind} of many comments": (
            lambda kind=kind: hostile.make_comments(kind, 70_000),
            422,
            "media-too-complex",
        )
        for kind in ("PNG", "JPEG", "GIF", "WEBP", "HEIF", "AVIF")
    },
    "TIFF that is a loop": (
        lambda: hostile.make_tiff_chain(1000, is_loop=True),
        422,
        "undecodable-media",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused_soon_and_kills_nothing(client, name):
    make, status, code = CASES[name]
    data = make()
    assert_still_serves(client)
    child = find_child_pid(client)
    start_s = time.monotonic()
    response = post_image(client, data)
    assert time.monotonic() - start_s < SOON_S
    assert_problem(response, status, code or response.json()["code"])
    assert find_child_pid(client) == child and psutil.Process(child).is_running()
    assert_still_serves(client)


def test_small_avif_that_claims_49_megapixels_is_an_image_or_a_refusal(fake_client):
    """AV1 may be stored smaller than it is shown, and libavif enlarges it."""
    assert_image_or_refusal(fake_client, claim("AVIF", 7_000, 7_000))
    assert_still_serves(fake_client)


ODD_AND_WELL = {
    "EXIF of 10 MB": lambda: encode(SMALL, "PNG", exif=hostile.make_exif(10 << 20)),
    "EXIF of 10 MB in WebP": lambda: encode(SMALL, "WEBP", exif=hostile.make_exif(10 << 20)),
    "EXIF that is nonsense": lambda: encode(SMALL, "JPEG", exif=b"Exif\0\0" + b"\xff" * 60_000),
    "EXIF in EXIF in EXIF": lambda: encode(SMALL, "JPEG", exif=hostile.make_exif(100)),
    "profile that is nonsense": lambda: encode(SMALL, "JPEG", icc_profile=b"\xff" * 60_000),
    "profile of 14 MB": lambda: encode(SMALL, "JPEG", icc_profile=make_profile("P3", 14 << 20)),
    "profile with a table it has not": lambda: encode(
        SMALL, "PNG", icc_profile=hostile.make_greedy_profile(255)
    ),
    "EXIF of 65,000 tags": lambda: encode(SMALL, "PNG", exif=hostile.make_exif_of_tags(65_000)),
    "TIFF with many claims": lambda: hostile.make_tiff_with_tags(1_000),
    "TIFF with large claims": lambda: hostile.make_large_tags(900, 1 << 20),
}


@pytest.mark.parametrize("name", ODD_AND_WELL)
def test_odd_file_around_a_sound_picture_is_matted_soon(client, name):
    data = ODD_AND_WELL[name]()
    assert_still_serves(client)
    child = find_child_pid(client)
    start_s = time.monotonic()
    response = post_image(client, data, output="cutout", keep_metadata="true")
    assert time.monotonic() - start_s < SOON_S
    assert response.status_code == 200, response.text
    assert len(response.content) < 1 << 20, "nothing large comes back"
    assert find_child_pid(client) == child


def test_limits_of_an_image_come_with_their_numbers(client):
    wide = assert_problem(
        post_image(client, hostile.make_flat_png(17_000, 2)), 422, "media-limit-exceeded"
    )
    assert (wide["limit"], wide["actual"]) == (16_384, 17_000)
    large = assert_problem(
        post_image(client, hostile.make_png(10_000, 6_000)), 422, "media-limit-exceeded"
    )
    assert (large["limit"], large["actual"]) == (51, 60)
    assert "10000 x 6000" in large["detail"]


def test_header_of_49_megapixels_without_pixels_is_refused(client):
    assert_problem(post_image(client, hostile.make_png(7_000, 7_000)), 422, "undecodable-media")
    assert_still_serves(client)


def test_work_that_is_counted_comes_with_its_numbers(client):
    data = hostile.make_slow_jpeg(20_000)
    problem = assert_problem(post_image(client, data), 422, "media-too-complex")
    assert (problem["limit"], problem["actual"]) == (100, 20_001)
    assert "20,001 scans" in problem["detail"]


def test_large_image_of_few_bytes_is_answered(fake_client):
    """49 megapixels in 6 kB are legal; what they cost is bounded by the limits alone."""
    data = hostile.make_flat_png(16_384, 3_000)
    assert len(data) < 10_000
    response = post_image(fake_client, data)
    assert response.status_code == 200 and response.headers["x-width"] == "16384"


@pytest.mark.parametrize("make", [hostile.make_text_bomb, hostile.make_broken_apng])
def test_hostile_chunks_beside_the_pixels_are_left_out(client, make):
    child = find_child_pid(client)
    assert decode(post_image(client, make()).content).shape == (8, 8)
    assert find_child_pid(client) == child


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF"])
def test_file_that_ends_early_is_refused_or_told(client, portrait, format):
    whole = encode(portrait[:256, :256], format)
    for size in (20, len(whole) // 3):
        assert_problem(post_image(client, whole[:size]), 422, "undecodable-media")
    response = post_image(client, whole[: len(whole) - len(whole) // 8])
    if format in ("JPEG", "PNG", "GIF", "WEBP"):
        assert response.status_code == 200
        assert 0.6 < float(response.headers["x-truncated"]) < 0.95
        assert "ends early" in response.headers["x-notes"]
    else:
        assert "cut short" in assert_problem(response, 422, "undecodable-media")["detail"]
    assert_still_serves(client)


def test_tail_behind_an_image_does_not_reach_the_result(client, portrait_jpeg):
    response = post_image(client, portrait_jpeg + b"PK\x03\x04 secret tail", output="cutout")
    assert response.status_code == 200 and b"secret tail" not in response.content


def test_slow_image_is_too_complex_and_the_next_image_is_fine(make_client):
    client = make_client(FakeEngine(), decoder_timeout_s=2, **LARGE)
    assert_still_serves(client)
    child = find_child_pid(client)
    data = hostile.make_slowest_jpeg()
    assert len(data) < 1 << 20
    problem = assert_problem(post_image(client, data), 422, "media-too-complex")
    assert problem["limit"] == 2
    assert_still_serves(client)
    assert find_child_pid(client) != child
    assert read_metric(client, "matting_decoder_restarts_total") == 1


def test_child_killed_while_it_decodes_costs_one_422(make_client):
    client = make_client(FakeEngine(), **LARGE)
    assert_still_serves(client)
    child = psutil.Process(find_child_pid(client))
    before_s = child.cpu_times().user

    def kill_when_busy():
        wait_until(lambda: child.cpu_times().user > before_s + 0.1)
        child.kill()

    killer = threading.Thread(target=kill_when_busy)
    killer.start()
    response = post_image(client, hostile.make_slowest_jpeg())
    killer.join()
    assert_problem(response, 422, "undecodable-media")
    assert_still_serves(client)
    assert find_child_pid(client) != child.pid


def test_idle_child_that_was_killed_costs_nothing(make_client):
    client = make_client(FakeEngine())
    child = psutil.Process(find_child_pid(client))
    child.kill()
    wait_until(lambda: child.status() == psutil.STATUS_ZOMBIE)
    assert_still_serves(client)
    assert find_child_pid(client) != child.pid


def test_children_die_with_a_service_that_was_killed_while_they_decode(live_server):
    """An idle child sees its socket close; a busy one looks at nothing but its file."""
    server = live_server(max_requests=3, decoder_timeout_s=60, decoder_cpu_s=60, **LARGE)
    (child,) = list_decoders(server.pid)
    before_s = child.cpu_times().user
    with connect(server.port) as connection:
        data = hostile.make_slowest_jpeg()
        connection.send_head("POST /v1/image", Content_Type="image/jpeg", Content_Length=len(data))
        connection.send(data)
        wait_until(lambda: child.cpu_times().user > before_s + 0.1)
        server.process.kill()
        server.process.wait()
        _, alive = psutil.wait_procs([child], timeout=2)
    # Nobody may have asked yet how a dead one ended.
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
