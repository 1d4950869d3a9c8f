"""A root that nobody can write to, no network, and a data folder: the service works."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.gate.mutants import make_images
from tests.helpers import ROOT, find_free_port, make_environ

# Asks the service from inside, for there is no way to it from anywhere else.
INSIDE = """
import fcntl, http.client, signal, socket, struct, subprocess, sys, time
with socket.socket() as loopback:  # a new network has one, which is down
    request = struct.pack("16sH14x", b"lo", 1)
    fcntl.ioctl(loopback, 0x8914, request)
for path in ("/tmp/probe", "{root}/probe", "/etc/probe"):
    try:
        open(path, "w")
    except OSError:
        continue
    sys.exit(f"{{path}} can be written to")
service = subprocess.Popen([sys.executable, "-B", "-m", "service"])
def ask(method, path, body=None, kind="image/png"):
    connection = http.client.HTTPConnection("127.0.0.1", {port}, timeout=60)
    connection.request(method, path, body, {{"Content-Type": kind}})
    answer = connection.getresponse()
    return answer.status, answer.read()
for _ in range(1800):
    try:
        if ask("GET", "/readyz")[0] == 200:
            break
    except OSError:
        time.sleep(0.1)
image = open("{image}", "rb").read()
assert ask("POST", "/v1/image?ref_size=64&keep_s=60", image)[0] == 200
clip = open("{clip}", "rb").read()
status, body = ask("POST", "/v1/video?ref_size=64&preset=ultrafast", clip, "video/mp4")
assert status == 200, body
service.send_signal(signal.SIGTERM)
sys.exit(service.wait(60))
"""


# Nothing can be written to but the folder of data.
ISOLATE = """set -e
mount --bind "$1" "$1"
for target in / /tmp /var /home; do
  if mountpoint -q "$target"; then mount -o remount,bind,ro "$target"; fi
done
shift
exec "$@"
"""


def isolate(folder: Path, *command: str) -> list[str]:
    """Return a command with a root that it cannot write to and a network without an end.

    Whatever it starts ends with it.
    """
    own = ["--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    return ["unshare", *own, "--mount-proc", "sh", "-c", ISOLATE, "isolate", str(folder), *command]


def can_isolate() -> bool:
    """Say whether this system lets a process have a root and a network of its own."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(isolate(Path(folder), "true"), capture_output=True, timeout=60)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_isolate(), reason="nothing can be isolated here")
def test_service_works_with_a_read_only_root_and_no_network(tmp_path: Path) -> None:
    data, port = tmp_path / "data", find_free_port()
    data.mkdir()
    (tmp_path / "image").write_bytes(make_images()["PNG"])
    make_clip(tmp_path / "clip.mp4", seconds=0.5, fps=8, size=(64, 64), tone=False)
    inside = INSIDE.format(
        port=port, root=ROOT, image=tmp_path / "image", clip=tmp_path / "clip.mp4"
    )
    done = subprocess.run(
        isolate(data, sys.executable, "-B", "-c", inside),
        cwd=ROOT,
        env=make_environ(port=port, data_dir=data, decoders=1, disk_min_free_percent=0),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
