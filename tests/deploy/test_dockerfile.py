"""The Dockerfile: linted, and its steps carried out without a Docker engine."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli.group import COMMANDS
from tests.deploy.dockerfile import Instruction, find_last, read_env, read_target
from tests.helpers import launch_server, wait_until

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
ENVIRONMENT = "/opt/matting"  # where it is in the image
INTO = f"pip --python {ENVIRONMENT}/bin/python install --no-cache-dir"
# What the chart and Compose can switch on, and what no image can be given later.
EXTRAS = ("client", "otel", "postgres", "psd", "storage")
LOCKED = (
    f"{INTO} --require-hashes --only-binary :all: -r requirements-TARGET.txt "
    f"&& {INTO} --no-deps wheels/*.whl"
)


def test_dockerfile_passes_the_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_base_is_named_by_its_digest() -> None:
    text = DOCKERFILE.read_text()
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {
        *("${PYTHON_IMAGE}", "build", "runtime")
    }


@pytest.mark.parametrize("target", ["cpu", "openvino", "gpu"])
def test_image_is_not_root_and_has_a_health_check(target: str) -> None:
    steps = read_target(DOCKERFILE, target)
    assert find_last(steps, "USER").split(":")[0] not in ("root", "0")
    assert "/readyz" in find_last(steps, "HEALTHCHECK")
    assert json.loads(find_last(steps, "CMD")) == ["python", "-m", "service"]
    assert find_last(steps, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(find_last(steps, "VOLUME")) == ["/data"]
    assert read_env(steps)["MATTING_DATA_DIR"] == "/data"
    copied = [step.value for step in steps if step.name == "COPY"]
    assert copied == [f"--from=build-{target} {ENVIRONMENT} {ENVIRONMENT}"], "no sources, no tests"
    assert not [step for step in steps if step.name == "RUN" and "pip" in step.value]


@pytest.mark.parametrize("hosts", ["", "matting.example.com, other"])
def test_health_check_passes_whatever_the_service_is_called(hosts: str, tmp_path: Path) -> None:
    health = json.loads(
        find_last(read_target(DOCKERFILE, "cpu"), "HEALTHCHECK").partition("CMD ")[2]
    )
    server = launch_server(tmp_path / "log", data_dir=tmp_path, allowed_hosts=hosts)
    environ = os.environ | {"MATTING_PORT": str(server.port), "MATTING_ALLOWED_HOSTS": hosts}
    command = [sys.executable, *health[1:]]
    try:
        wait_until(
            lambda: subprocess.run(command, env=environ, capture_output=True).returncode == 0, 120
        )
    finally:
        server.process.kill()
        server.process.wait()


@pytest.mark.parametrize("target", ["cpu", "openvino", "gpu"])
def test_all_packages_of_the_image_are_those_of_its_lock_file(target: str) -> None:
    steps = read_target(DOCKERFILE, f"build-{target}")
    tools, wheel, packages = (step.value for step in steps if step.name == "RUN")
    assert "--require-hashes" in tools and "--without-pip" in tools
    assert "--no-deps --no-build-isolation" in wheel
    assert packages == LOCKED.replace("TARGET", target)


def copy_context(steps: list[Instruction], folder: Path) -> None:
    """Do what a COPY instruction does."""
    for step in steps:
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


@pytest.fixture(scope="module")
def steps() -> list[Instruction]:
    return read_target(DOCKERFILE, "cpu")


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of the image are, after the steps of the stage that builds them."""
    folder = tmp_path_factory.mktemp("image")
    context = folder / "app"
    context.mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder / "base"], check=True)
    environment = {"PATH": f"{folder / 'base' / 'bin'}:{os.environ['PATH']}"}
    for step in read_target(DOCKERFILE, "build-cpu"):
        if step.name == "ARG":
            environment |= [step.value.split("=", 1)]
        elif step.name == "COPY":
            copy_context([step], context)
        elif step.name == "RUN":
            # The cache is kept: a container has none to fill, this machine has one to use.
            command = step.value.replace("--no-cache-dir", "--quiet")
            here = command.replace(ENVIRONMENT, str(folder / "matting"))
            subprocess.run(
                here, shell=True, cwd=context, env=os.environ | environment, check=True, timeout=900
            )
    shutil.rmtree(context)  # it stays behind in its stage
    return folder / "matting" / "bin"


@pytest.mark.slow  # installs the image
@pytest.mark.timeout(1200)
def test_install_steps_of_the_image_give_a_service_without_network(
    steps: list[Instruction], bin_folder: Path, tmp_path: Path
) -> None:
    packages = os.listdir(next((bin_folder.parent / "lib").glob("python*")) / "site-packages")
    assert {"service", "opentelemetry", "psycopg", "psd_tools", "obstore"} <= {*packages}
    assert not {"torch", "pip", "setuptools", "tests"} & {*packages}
    health = json.loads(find_last(steps, "HEALTHCHECK").partition("CMD ")[2])
    serve = json.loads(find_last(steps, "CMD"))
    python = str(bin_folder / "python")
    photo = str(ROOT / "examples" / "portrait.jpg")
    as_in_image = [[python, *health[1:]], [python, *serve[1:]], photo]
    environment = read_env(steps) | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "MATTING_DATA_DIR": str(tmp_path),
    }
    refused = subprocess.run(
        [python, *serve[1:]],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 3 and "MATTING_ALLOW_ANONYMOUS=1" in refused.stderr
    environment["MATTING_ALLOW_ANONYMOUS"] = "1"
    environment["MATTING_OTLP_ENDPOINT"] = "http://127.0.0.1:9"  # nobody there: it serves
    isolated = ["unshare", "-rn", python, "-c", IN_THE_IMAGE, json.dumps(as_in_image)]
    answer = subprocess.run(
        isolated, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "image/png"
    assert os.listdir(tmp_path) == ["matting-jobs"]


@pytest.mark.slow  # installs the image
@pytest.mark.timeout(1200)  # the first test that needs the environment installs it
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_image_explains_itself(
    bin_folder: Path, tmp_path: Path, name: str
) -> None:
    """Those too that need torch when they run, which is not in the image."""
    done = subprocess.run(
        [bin_folder / "matte", name, "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and f"Usage: matte {name} " in done.stdout, done.stderr


@pytest.mark.slow  # installs the image
@pytest.mark.timeout(600)
def test_command_of_training_says_what_the_image_lacks(bin_folder: Path, tmp_path: Path) -> None:
    command = [bin_folder / "matte", "pack", "a.pt", "a.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "matte pack needs torch" in line and "make setup" in line


@pytest.mark.slow  # installs the image
@pytest.mark.timeout(1200)
def test_clip_is_matted_by_the_command_of_the_image(bin_folder: Path, tmp_path: Path) -> None:
    clip = ROOT / "examples" / "clip.mp4"
    command = [bin_folder / "matte", "video", clip, "alpha.mp4", "--outputs", "alpha"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alpha.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("target", ["cpu", "openvino", "gpu"])
def test_lock_file_pins_every_package_by_hash_and_satisfies_the_project(target: str) -> None:
    text = (ROOT / "deploy" / f"requirements-{target}.txt").read_text()
    pins = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))
    for entry in re.split(r"\n(?=[a-z0-9])", text):
        assert "--hash=sha256:" in entry, entry[:80]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in (target, *EXTRAS):
        wanted += project["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: run `make lock`"
    assert not {"torch", "ray"} & set(pins)


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
@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_packages_of_the_image_are_there_for_arm64(target: str, tmp_path: Path) -> None:
    lock = ROOT / "deploy" / f"requirements-{target}.txt"
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--dry-run"]
    command += ["--python-platform", "aarch64-manylinux_2_34", "--python-version", "3.11"]
    command += ["--target", tmp_path, "--require-hashes", "--only-binary", ":all:", "-r", lock]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_gpu_packages_resolve_together() -> None:
    """Without an NVIDIA device they are not installed, only resolved: no clash, all on PyPI."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", f"{ROOT}[gpu]"]
    with_target = [*command, "--ignore-installed", "--report", "-"]
    found = subprocess.run(with_target, capture_output=True, text=True, check=True)
    names = {one["metadata"]["name"] for one in json.loads(found.stdout)["install"]}
    assert "onnxruntime-gpu" in names and "onnxruntime" not in names
