"""Packages of npm that tests run in Node."""

import shutil
import subprocess
from pathlib import Path

import pytest


def install_npm_package(folder: Path, package: str) -> Path:
    """Install a package and its dependencies into the folder and return it; skip without npm."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("there is no npm here")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    if done.returncode:
        pytest.skip("npm cannot install the client here")
    return folder
