"""What a decoder child cannot do, were a file to take it over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.media.decoder.client import Decoder
from service.settings import Settings
from tests.clips import make_clip
from tests.helpers import ROOT, encode

ATTEMPTS = {
    "connect": "import socket; socket.create_connection(('127.0.0.1', int(sys.argv[1])))",
    "bind": "import socket; socket.socket().bind(('127.0.0.1', 0))",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX)",
    "read a file": "open('/etc/passwd')",
    "read the code": "open(sys.argv[2])",
    "read the parent's environment": "open(f'/proc/{os.getppid()}/environ')",
    "write a file": "open('/tmp/written-by-a-child', 'w')",
    "remove a file": "os.unlink(sys.argv[2])",
    "list a folder": "os.listdir('/')",
    "start a program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "kill the parent": "os.kill(os.getppid(), 0)",
    "limit the parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    "become root again": "os.setuid(0)",
    "change a mode": "os.fchmod(0, 0o777)",
}
SCRIPT = """
import json, os, resource, sys, threading
from service.media.decoder.child import load
from service.media.decoder.confinement import confine
load()
assert confine()
found = {}
for name, code in json.loads(sys.argv[3]).items():
    try:
        exec(code)
        found[name] = "done"
    except PermissionError:
        found[name] = "refused"
    except BaseException as error:
        found[name] = repr(error)
thread = threading.Thread(target=lambda: found.update(thread="done"))
thread.start()
thread.join()
with open(1, "w") as output:
    output.write(json.dumps(found))
"""


def run_confined(*arguments: str) -> dict[str, str]:
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_confined_process_reaches_nothing_but_its_memory(tmp_path: Path) -> None:
    import socket

    victim = tmp_path / "victim"
    victim.write_text("here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = run_confined(str(port), str(victim), json.dumps(ATTEMPTS))
    assert found.pop("thread") == "done", "codecs start threads"
    assert found == dict.fromkeys(ATTEMPTS, "refused")
    assert victim.exists()


@pytest.fixture(scope="module")
def child():
    decoder = Decoder(Settings())
    yield decoder
    decoder.close()


def test_child_is_confined_and_has_no_privileges(child: Decoder) -> None:
    child.open_image(encode(np.zeros((4, 4, 3), np.uint8), "PNG"))  # it is up
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"] == "1"
    for name in ("CapEff", "CapPrm", "CapInh"):
        assert int(status[name], 16) == 0
    assert psutil.Process(child.pid).cwd() == "/"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "GIF"])
def test_confined_child_decodes_every_format(child: Decoder, portrait, format: str) -> None:
    child.open_image(encode(portrait[:64, :96], format))
    assert child.decode_image().image.shape == (64, 96, 3)
    assert child.is_alive()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts", "avi", "flv", "gif"])
def test_confined_child_decodes_a_clip_of_every_kind(
    child: Decoder, tmp_path: Path, suffix: str
) -> None:
    """What is looked for in the file at its end, too."""
    codecs = {"webm": {"codec": "libvpx"}, "flv": {"codec": "flv", "sound_codec": "libmp3lame"}}
    kind = codecs.get(suffix, {})
    path = make_clip(tmp_path / f"clip.{suffix}", seconds=0.5, fps=12, **kind)
    with path.open("rb") as file:
        info = child.open_video(file, max_s=10)
        items = list(child.read_video(info))
    assert len(items) >= 6 and child.is_alive()


def test_service_hides_its_memory_from_its_user(live_server) -> None:
    """Keys are in its environment, and a child runs as the same user."""
    server = live_server()
    assert b"MATTING_PORT" in Path(f"/proc/{server.pid}/environ").read_bytes() or os.getuid()
    script = (
        "import sys; from service.media.decoder.confinement import drop_capabilities;"
        "drop_capabilities(); open(sys.argv[1]).read()"
    )
    for path, expected in ((f"/proc/{os.getpid()}/status", 0), (f"/proc/{server.pid}/environ", 1)):
        finished = subprocess.run(
            [sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True
        )
        assert finished.returncode == expected, finished.stderr
    assert "PermissionError" in finished.stderr
