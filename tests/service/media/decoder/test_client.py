import contextlib
import os
import signal
import threading

import numpy as np
import psutil
import pytest

from service.errors import MediaTooComplex, NotReady, UndecodableMedia, UnsupportedMedia
from service.media.decoder import forks
from service.media.decoder.client import Decoder
from service.settings import Settings
from tests.clips import make_clip
from tests.helpers import encode, wait_until
from tests.hostile import make_flat_png, make_slow_jpeg, make_slowest_jpeg


@pytest.fixture(scope="module")
def decoder():
    """A healthy child that several tests share; no test may break it."""
    with closing_decoder() as child:
        yield child


@contextlib.contextmanager
def closing_decoder(**settings):
    child = Decoder(Settings(**settings))
    try:
        yield child
    finally:
        child.close()


def test_image_comes_back_as_it_was_sent(decoder, portrait):
    info = decoder.open_image(encode(portrait, "PNG"))
    assert (info.width, info.height, info.format) == (512, 512, "PNG")
    np.testing.assert_array_equal(decoder.decode_image().image, portrait)


@pytest.mark.parametrize(
    "data, error",
    [
        (b"", UndecodableMedia),
        (b"hello", UnsupportedMedia),
        (b"%!PS-Adobe-3.0 EPSF-3.0", UnsupportedMedia),
        (b"\xff\xd8\xff", UndecodableMedia),
    ],
    ids=["empty", "text", "eps", "magic"],
)
def test_bad_header_is_refused_and_the_child_lives(decoder, data, error):
    pid = decoder.pid
    with pytest.raises(error):
        decoder.open_image(data)
    assert decoder.is_alive() and decoder.pid == pid


def test_broken_pixels_are_refused_and_the_child_lives(decoder, portrait_jpeg):
    decoder.open_image(portrait_jpeg[: len(portrait_jpeg) // 4])
    with pytest.raises(UndecodableMedia):
        decoder.decode_image()
    decoder.open_image(portrait_jpeg)
    assert decoder.decode_image().image.shape == (512, 512, 3)


def test_second_open_forgets_the_first_image(decoder, portrait):
    decoder.open_image(encode(portrait, "PNG"))
    decoder.open_image(encode(portrait[:10, :20], "PNG"))
    np.testing.assert_array_equal(decoder.decode_image().image, portrait[:10, :20])


def test_clip_leaves_nothing_behind_in_the_child(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, fps=12, size=(640, 360))
    with closing_decoder() as child:
        process = psutil.Process(child.pid)

        def read_clip() -> int:
            with clip.open("rb") as file:
                for _ in child.read_video(child.open_video(file, max_s=100)):
                    pass
            return process.memory_full_info().uss

        read_clip()
        second, *_, last = (read_clip() for _ in range(6))
    assert last - second < 8 << 20


def test_child_inherits_no_keys_and_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("MATTING_API_KEYS", "secret-of-the-service")
    with (tmp_path / "other").open("wb"), closing_decoder() as child:
        process = psutil.Process(child.pid)
        child.open_image(encode(np.zeros((4, 4, 3), np.uint8), "PNG"))  # it is up
        assert "MATTING_API_KEYS" not in process.environ()
        assert process.open_files() == []


def test_child_that_does_not_start_is_no_error_of_a_file(monkeypatch):
    monkeypatch.setattr(forks, "MODULE", "service.no_such_module")
    monkeypatch.setattr(forks, "_template", None)
    with pytest.raises(NotReady) as caught:
        Decoder(Settings())
    assert caught.value.headers["Retry-After"] == "5"


def test_limits_of_the_process_are_set(decoder, portrait_jpeg):
    decoder.open_image(portrait_jpeg)
    process, settings = psutil.Process(decoder.pid), Settings()
    assert process.rlimit(psutil.RLIMIT_AS)[0] == settings.decoder_memory_bytes
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_NOFILE)[0] <= 64
    assert 0 < process.rlimit(psutil.RLIMIT_CPU)[0] < 60


def test_cpu_time_counts_anew_for_each_item():
    """The kernel's limit is of the whole life of a process, and these children live long."""
    with closing_decoder(decoder_cpu_s=1, decoder_timeout_s=60) as child:
        slow = make_slow_jpeg(90, side=2048)  # a tenth of the limit, so that a busy machine passes
        process = psutil.Process(child.pid)
        while process.cpu_times().user < 2.6:  # the limit of one item ends before that
            child.open_image(slow)
            child.decode_image()
        assert child.is_alive()


def test_cpu_limit_is_media_too_complex():
    with closing_decoder(decoder_cpu_s=1, decoder_timeout_s=60) as child:
        child.open_image(make_slowest_jpeg())
        with pytest.raises(MediaTooComplex, match="CPU time") as caught:
            child.decode_image()
        assert caught.value.limit == 1
        assert not child.is_alive()


def test_wall_time_limit_is_media_too_complex():
    with closing_decoder(decoder_timeout_s=60) as child:
        child.open_image(make_slowest_jpeg())  # start-up, too, is behind us
        child._settings = child._settings.model_copy(update={"decoder_timeout_s": 0.5})
        with pytest.raises(MediaTooComplex, match="0.5 s") as caught:
            child.decode_image()
        assert caught.value.limit == 0.5
        assert not child.is_alive()


def test_memory_limit_is_an_error_of_the_file():
    with closing_decoder(decoder_memory_bytes=2**29) as child:
        info = child.open_image(make_flat_png(16_000, 16_000))
        assert info.megapixels == 256
        with pytest.raises((MediaTooComplex, UndecodableMedia)):
            child.decode_image()
        assert child.is_alive(), "running out of memory need not cost a child"
        child.open_image(make_flat_png(100, 50))
        assert child.decode_image().image.shape == (50, 100, 3)


def test_child_that_does_not_read_is_given_up():
    with closing_decoder(decoder_timeout_s=0.5) as child:
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(MediaTooComplex):
            child.open_image(bytes(8 << 20))
        assert not child.is_alive()


def test_child_killed_while_it_decodes_is_an_error_of_the_file():
    with closing_decoder() as child:
        child.open_image(make_slowest_jpeg())
        process = psutil.Process(child.pid)
        before_s = process.cpu_times().user

        def kill_when_busy():
            wait_until(lambda: process.cpu_times().user > before_s + 0.1)
            process.kill()

        killer = threading.Thread(target=kill_when_busy)
        killer.start()
        with pytest.raises(UndecodableMedia):
            child.decode_image()
        killer.join()
        assert not child.is_alive()
