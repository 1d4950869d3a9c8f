"""The Dockerfile: linted, and its steps carried out without a Docker engine."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.deploy.dockerfile import find_last, read_env, read_target

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def test_dockerfile_passes_the_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("target", ["cpu", "openvino", "gpu"])
def test_image_is_not_root_and_has_a_health_check(target: str) -> None:
    steps = read_target(DOCKERFILE, target)
    assert find_last(steps, "USER").split(":")[0] not in ("root", "0")
    assert "/readyz" in find_last(steps, "HEALTHCHECK")
    assert json.loads(find_last(steps, "CMD")) == ["python", "-m", "service"]
    pip_steps = [step.value for step in steps if step.name == "RUN" and "pip" in step.value]
    assert pip_steps == [f'pip install --no-cache-dir ".[{target}]"']


def copy_context(steps: list, folder: Path) -> None:
    """Do what the COPY instructions do."""
    for step in steps:
        if step.name != "COPY":
            continue
        *sources, target = step.value.split()
        for source in sources:
            goal = folder / target
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, goal, ignore=ignore)
            else:
                shutil.copy(ROOT / source, goal)


# Runs as the image would, in a network namespace without any network but its own loopback: a
# service that downloads something at run time cannot start here.
IN_THE_IMAGE = textwrap.dedent(
    """
    import fcntl, json, os, socket, struct, subprocess, sys, time, urllib.request as web
    with socket.socket() as sock:  # SIOCSIFFLAGS: loopback up
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 0x49))
    health, command, photo = json.loads(sys.argv[1])
    server = subprocess.Popen(command)
    try:
        end_s = time.monotonic() + 60
        while subprocess.run(health, stderr=subprocess.DEVNULL).returncode:
            assert time.monotonic() < end_s and server.poll() is None, "never healthy"
            time.sleep(0.1)
        request = web.Request(
            f"http://127.0.0.1:{os.environ['MATTING_PORT']}/v1/image",
            open(photo, "rb").read(), {"Content-Type": "image/jpeg"})
        with web.urlopen(request) as answer:
            sys.stdout.write(answer.headers["Content-Type"])
    finally:
        server.terminate()
        server.wait()
    """
)


@pytest.mark.timeout(600)
def test_install_steps_of_the_image_give_a_service_without_network(
    tmp_path: Path, portrait_jpeg: bytes
) -> None:
    steps = read_target(DOCKERFILE, "cpu")
    context, data = tmp_path / "app", tmp_path / "data"
    context.mkdir()
    data.mkdir()
    copy_context(steps, context)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    bin_folder = tmp_path / "venv" / "bin"
    pip_step = next(step for step in steps if step.name == "RUN" and "pip" in step.value)
    # The cache is kept: a container has none to fill, this machine has one to use.
    command = pip_step.value.replace("--no-cache-dir ", "--quiet ")
    subprocess.run(
        [bin_folder / "python", "-m", *shlex.split(command)], cwd=context, check=True, timeout=500
    )
    packages = os.listdir(next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages")
    assert "torch" not in packages and "service" in packages

    photo = tmp_path / "portrait.jpg"
    photo.write_bytes(portrait_jpeg)
    health = json.loads(find_last(steps, "HEALTHCHECK").partition("CMD ")[2])
    serve = json.loads(find_last(steps, "CMD"))
    python = str(bin_folder / "python")
    as_in_image = [[python, *health[1:]], [python, *serve[1:]], str(photo)]
    environment = read_env(steps) | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "MATTING_DATA_DIR": str(data),
    }
    isolated = ["unshare", "-rn", python, "-c", IN_THE_IMAGE, json.dumps(as_in_image)]
    answer = subprocess.run(
        isolated, env=environment, cwd=data, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "image/png"
    assert os.listdir(data) == ["matting-jobs"]


def test_make_installs_one_build_of_onnxruntime_by_the_machine(tmp_path: Path) -> None:
    printed = subprocess.run(
        ["make", "-n", "serve", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    extra = "openvino" if platform.machine() == "x86_64" and sys.platform == "linux" else "cpu"
    if Path("/proc/driver/nvidia/version").exists():
        extra = "gpu"
    assert f'--editable ".[{extra}]"' in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gpu_packages_resolve_together() -> None:
    """Without an NVIDIA device they are not installed, only resolved: no clash, all on PyPI."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", f"{ROOT}[gpu]"]
    with_target = [*command, "--ignore-installed", "--report", "-"]
    found = subprocess.run(with_target, capture_output=True, text=True, check=True)
    names = {one["metadata"]["name"] for one in json.loads(found.stdout)["install"]}
    assert "onnxruntime-gpu" in names and "onnxruntime" not in names
