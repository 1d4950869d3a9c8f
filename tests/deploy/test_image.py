"""The image itself, built and run by buildah without a Docker engine, on a base from debootstrap.

No registry is asked for the base: Debian's Python of the same version takes its place. Isolation is
that of chroot, so a read-only root cannot be had; what the service writes is looked at instead.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.group import COMMANDS
from tests.gate.figures import FULL, report
from tests.helpers import ROOT, find_free_port

TOOLS = ("buildah", "debootstrap")
SUITE = "bookworm"  # whose Python is that of the Dockerfile
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
IMAGE, BASE = "localhost/matting-test", "localhost/matting-test-base"
# What pip needs of this machine to reach its index.
SHARED = ("/etc/hosts", "/etc/pip.conf", "/etc/resolv.conf", "/etc/ssl/certs")
MAX_BYTES = {"cpu": 800 * 10**6, "gpu": 4000 * 10**6}
SERVE = """
import subprocess, sys, time, urllib.request as web
server = subprocess.Popen(["python", "-m", "service"])
url = "http://127.0.0.1:" + sys.argv[1]
try:
    for _ in range(600):
        assert server.poll() is None, "it ended"
        try:
            web.urlopen(url + "/readyz")
            break
        except OSError:
            time.sleep(0.2)
    photo = open(sys.argv[2], "rb").read()
    request = web.Request(url + "/v1/image", photo, {"Content-Type": "image/jpeg"})
    print("answer", web.urlopen(request).headers["Content-Type"])
finally:
    server.terminate()
    print("exit code", server.wait())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
        reason=f"needs root, and {' and '.join(TOOLS)} (Debian packages)",
    ),
]


def run(*command: object, **environ: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"} | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def find_mirror() -> str:
    """Return where this machine's apt takes its packages from."""
    lists = (Path("/etc/apt") / name for name in ("sources.list", "sources.list.d"))
    texts = [
        path.read_text()
        for place in lists
        for path in ([place] if place.is_file() else sorted(place.glob("*")))
    ]
    found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?)\s*(\S+)", "\n".join(texts), re.M)
    if found is None:
        pytest.skip("this machine has no Debian mirror")
    return found[1]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What stands in for the base of the Dockerfile."""
    folder = tmp_path_factory.mktemp("base")
    root = folder / "root"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, find_mirror())
    (root / "usr" / "bin" / "python").symlink_to("python3")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    recipe = folder / "Dockerfile"
    recipe.write_text("FROM scratch\nCOPY . /\nENV PATH=/usr/local/bin:/usr/sbin:/usr/bin\n")
    run("buildah", "bud", "-q", "-f", recipe, "-t", BASE, root)
    shutil.rmtree(root)
    yield BASE
    run("buildah", "rmi", "--force", BASE)


@contextmanager
def make_container(target: str, base: str) -> Iterator[str]:
    """Build the image of a target and open a container of it."""
    image = f"{IMAGE}:{target}"
    shared = [
        flag for path in SHARED if Path(path).exists() for flag in ("-v", f"{path}:{path}:ro")
    ]
    arguments = ["--build-arg", f"PYTHON_IMAGE={base}", "--build-arg", "VERSION=9.8.7"]
    try:
        run(
            *("buildah", "bud", "-q", "--network", "host", *shared, *arguments),
            *("--target", target, "-f", ROOT / "deploy" / "Dockerfile", "-t", image, ROOT),
        )
        name = run("buildah", "from", image).strip()
        yield name
        run("buildah", "rm", name)
    finally:
        if run("buildah", "images", "-q", "--filter", f"reference={image}").strip():
            run("buildah", "rmi", "--force", image)


@pytest.fixture(scope="module")
def container(base: str) -> Iterator[str]:
    """A container of the image `cpu`."""
    with make_container("cpu", base) as name:
        yield name


def check_size(container: str, target: str) -> Path:
    """Write down how large the environment of an image is, and return where it is."""
    mounted = Path(run("buildah", "mount", container).strip())
    environment = mounted / "opt" / "matting"
    bytes_held = sum(path.lstat().st_size for path in environment.rglob("*") if path.is_file())
    report(f"image {target}", {"MiB beside the base": round(bytes_held / 2**20)})
    assert bytes_held < MAX_BYTES[target]
    return mounted


def test_image_is_small_and_has_no_tools_and_no_tests(container: str) -> None:
    mounted = check_size(container, "cpu")
    environment = mounted / "opt" / "matting"
    (packages,) = environment.glob("lib/python3*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert "service" in names and not names & {"pip", "setuptools", "setuptools_scm", "tests"}
    assert not (mounted / "app").exists()


def test_image_serves_as_nobody_and_writes_to_its_volume_alone(container: str) -> None:
    mounted = Path(run("buildah", "mount", container).strip())
    photo, port = "/tmp/portrait.jpg", find_free_port()
    shutil.copy(ROOT / "examples" / "portrait.jpg", mounted / "tmp" / "portrait.jpg")
    before = {path for path in mounted.rglob("*")}
    flags = ["--env", "MATTING_ALLOW_ANONYMOUS=1", "--env", f"MATTING_PORT={port}"]
    flags += ["--env", "MATTING_DRAIN_DELAY_S=0"]
    told = run("buildah", "run", *flags, container, "--", "python", "-c", SERVE, port, photo)
    assert "answer image/png" in told and "exit code 0" in told
    written = {path.relative_to(mounted).parts[0] for path in {*mounted.rglob("*")} - before}
    assert written <= {"data", "tmp"}
    assert run("buildah", "run", container, "--", "id", "-u").strip() == "10001"


def test_command_is_in_the_image(container: str) -> None:
    matte = ("buildah", "run", container, "--", "matte")
    assert run(*matte, "--version").split() == ["matte", "9.8.7"]
    for name in COMMANDS:
        assert f"Usage: matte {name} " in run(*matte, name, "--help"), name


def test_image_tells_what_runs_it(container: str) -> None:
    told = json.loads(run("buildah", "inspect", "--type", "image", f"{IMAGE}:cpu"))["Docker"][
        "config"
    ]
    assert told["User"] == "10001:10001" and told["StopSignal"] == "SIGTERM"
    assert told["Cmd"] == ["python", "-m", "service"]
    assert list(told["Volumes"]) == ["/data"] and list(told["ExposedPorts"]) == ["8000/tcp"]


@pytest.mark.skipif(not FULL, reason="GATE=full fetches the 2 GB of CUDA")
def test_image_of_the_gpu_refuses_to_run_without_one(base: str) -> None:
    with make_container("gpu", base) as container:
        check_size(container, "gpu")
        command = ["buildah", "run", "--env", "MATTING_ALLOW_ANONYMOUS=1", container, "--"]
        with pytest.raises(AssertionError, match="cannot start: no CUDA"):
            run(*command, "python", "-m", "service")
