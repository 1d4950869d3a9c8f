"""What `make release` makes: an sdist and a wheel that serve outside of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.helpers import ROOT, LiveServer, find_free_port, make_environ, wait_until

VERSION = "9.8.7"
AUTHOR = ("-c", "user.name=Test", "-c", "user.email=test@example.com")


def run(*command: object, cwd: Path = ROOT, **environ: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": ""} | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make release` fills, in a copy of the tree that has a tag."""
    tree = tmp_path_factory.mktemp("tree")
    for name in run("git", "ls-files").splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    run("git", "init", "--quiet", cwd=tree)
    run("git", "add", "--all", "--force", cwd=tree)  # setuptools-scm takes what git knows
    run("git", *AUTHOR, "commit", "--quiet", "--message", "All", cwd=tree)
    run("git", "tag", f"v{VERSION}", cwd=tree)
    # Set up already: these tests run in it.
    run("make", "-o", "setup", "release", f"BIN={Path(sys.executable).parent}", cwd=tree)
    return tree / "dist"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_release_passes_twine_and_has_what_serving_needs(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    assert wheel.name.startswith(f"matting_service-{VERSION}-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if "dist-info" not in top} == {
        "cli",
        "export",
        "matting_client",
        "service",
        "training",
    }
    for name in (
        "weights/modnet.onnx",
        "weights/modnet-fast.onnx",
        "web/page/index.html",
        "py.typed",
    ):
        assert f"service/{name}" in names
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "deploy/Dockerfile", "Makefile"} <= held


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["cpu", "openvino", "gpu"])
def test_release_lists_the_parts_of_each_image(dist: Path, kind: str) -> None:
    listed = json.loads((dist / f"sbom-{kind}.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    parts = {(part["name"], part["version"]) for part in listed["components"]}
    lock = (ROOT / "deploy" / f"requirements-{kind}.txt").read_text()
    assert parts == {*re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", lock, re.MULTILINE)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_wheel_serves_from_a_fresh_environment_outside_the_repository(
    dist: Path, tmp_path: Path
) -> None:
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    found = tmp_path / "venv" / "bin"
    run(found / "python", "-m", "pip", "install", "--quiet", f"{wheel}[cpu]", cwd=tmp_path)
    assert run(found / "matte", "--version", cwd=tmp_path).split()[-1] == VERSION
    port = find_free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [found / "matte", "serve", "--port", str(port)],
            cwd=tmp_path,
            env=make_environ(data_dir=tmp_path, drain_delay_s=0) | {"PYTHONPATH": ""},
            stdout=log,
            stderr=log,
        )
    server = LiveServer(process, port, tmp_path / "log")
    try:
        wait_until(server.is_ready, 300, 0.2)
        photo = ROOT / "examples" / "portrait.jpg"
        ask = ["curl", "--fail", "--silent", "-F", f"file=@{photo}", f"{server.url}/v1/image"]
        answer = subprocess.run(ask, capture_output=True, check=True)
        assert answer.stdout.startswith(b"\x89PNG")
        assert server.stop() == 0
    finally:
        process.kill()
        process.wait()


def test_tree_without_git_and_without_tags_has_a_version(tmp_path: Path) -> None:
    """As in an image, whose context has no .git."""
    text = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(text)
    told = run(sys.executable, "-m", "setuptools_scm", cwd=tmp_path).split()[-1]
    assert told == tomllib.loads(text)["tool"]["setuptools_scm"]["fallback_version"]


def test_changelog_has_the_versions_newest_first() -> None:
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    numbers = [tuple(int(part) for part in head.split(".")) for head in heads]
    assert numbers and numbers == sorted(numbers, reverse=True)
