"""Decoder children are forked from one template, which a crash replaces."""

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest

from service.errors import DecoderCrashed, MediaTooComplex
from service.media.decoder import forks
from service.media.decoder.client import Decoder
from service.settings import Settings
from tests.helpers import ROOT, encode, wait_until
from tests.hostile import make_slowest_jpeg


@pytest.fixture
def start():
    """Return `start(**settings)`, a decoder that ends with the test."""
    with contextlib.ExitStack() as stack:

        def start_decoder(**settings) -> Decoder:
            return stack.enter_context(contextlib.closing(Decoder(Settings(**settings))))

        yield start_decoder


def find_template(decoder: Decoder) -> psutil.Process:
    return psutil.Process(decoder.pid).parent()


def test_children_come_from_one_template_that_has_no_threads(start) -> None:
    first, second = start(), start()
    assert first.pid != second.pid and find_template(first) == find_template(second)
    template = find_template(first)
    assert template.parent() == psutil.Process() and template.num_threads() == 1
    assert not any(name.startswith("MATTING_") for name in template.environ())


def test_child_has_its_own_socket_alone(start) -> None:
    others = [start(), start()]
    child = psutil.Process(start().pid)
    assert all(decoder.is_alive() for decoder in others)
    assert child.num_fds() == 4, "standard input, output and error lead nowhere"


def test_child_that_crashes_takes_no_other_with_it_and_the_next_has_another_template(start) -> None:
    steady, crashing = start(), start()
    os.kill(crashing.pid, signal.SIGSEGV)
    with pytest.raises(DecoderCrashed):
        crashing.open_image(b"GIF89a")
    assert not crashing.is_alive() and steady.is_alive()
    assert find_template(start()) != find_template(steady)


def test_limit_that_strikes_keeps_the_template(start) -> None:
    child = start(decoder_cpu_s=1, decoder_timeout_s=60)
    template = find_template(child)
    child.open_image(make_slowest_jpeg())
    with pytest.raises(MediaTooComplex):
        child.decode_image()
    assert find_template(start()) == template


def test_children_end_with_the_template_and_others_come(start, portrait) -> None:
    child = start()
    template = find_template(child)
    template.kill()
    wait_until(lambda: not child.is_alive())
    other = start()
    assert find_template(other) != template
    assert other.open_image(encode(portrait, "PNG")).width == 512
    child.close()


def test_template_ends_when_its_last_child_is_closed(portrait, monkeypatch) -> None:
    monkeypatch.setattr(forks, "_template", None)
    child = Decoder(Settings())
    template = find_template(child)
    child._process.suspect_template()
    assert child.open_image(encode(portrait, "GIF")).width == 512
    child.close()
    del child
    wait_until(lambda: not psutil.pid_exists(template.pid))


def test_process_that_was_forked_has_a_template_of_its_own(start) -> None:
    script = """
import os, psutil, sys
from service.media.decoder.client import Decoder
from service.settings import Settings
own = Decoder(Settings())
pid = os.fork()
if pid == 0:
    other = Decoder(Settings())
    alike = psutil.Process(other.pid).parent() == psutil.Process(own.pid).parent()
    is_ours = psutil.Process(other.pid).parent().ppid() == os.getpid()
    other.close()
    os._exit(0 if is_ours and not alike else 1)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code or not own.is_alive())
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


def test_template_and_children_end_with_a_killed_process() -> None:
    script = """
import time
from service.media.decoder.client import Decoder
from service.settings import Settings
print(Decoder(Settings()).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        child = psutil.Process(int(process.stdout.readline()))
        template = child.parent()
        process.kill()
    wait_until(lambda: not template.is_running() or template.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
