"""Sample files that other packages ship, from the package index; pip caches what it downloads."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

DOWNLOAD_S = 540  # pip builds the metadata of a source distribution, too


def download(name: str, folder: Path, *, source: bool) -> Path:
    """Return `folder` with the contents of a package's source distribution, or of its wheel.

    The test is skipped where the package index does not give it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(folder)]
    command += ["--no-binary" if source else "--only-binary", ":all:", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_S)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        return folder
    for archive in folder.glob("*.whl"):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        return folder
    pytest.skip(f"the package {name} is not to be had: {done.stderr[-200:]}")
