"""The client as a package: it stands alone, and its options are those of the service."""

import ast
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from matting_client import options
from service.jobs.options import JobOptions
from service.options import BACKGROUND, HINT, TRIMAP
from service.sessions.options import SessionOptions
from service.stills.options import ImageOptions
from tests.helpers import ROOT


@pytest.mark.parametrize(
    "kind, model, files",
    [
        (options.ImageOptions, ImageOptions, {TRIMAP, BACKGROUND, HINT}),
        (options.VideoOptions, JobOptions, {BACKGROUND}),
        (options.SessionOptions, SessionOptions, set()),
    ],
)
def test_options_are_those_of_the_service(
    kind: type, model: type[BaseModel], files: set[str]
) -> None:
    hints = typing.get_type_hints(kind, localns={"np": np, "Image": Image, "Any": typing.Any})
    assert set(hints) == {*model.model_fields, *files}
    for name, field in model.model_fields.items():
        if name not in ("outputs", "put_urls"):
            assert hints[name] == field.annotation, name


def test_outputs_are_those_of_the_service() -> None:
    (names, _) = typing.get_args(JobOptions.model_fields["outputs"].annotation)
    assert options.VideoOutput == names


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def read(module: str) -> dict[tuple[str, str], str]:
        """Return the parameters of each method, by class and method."""
        found = {}
        tree = ast.parse((ROOT / "matting_client" / f"{module}.py").read_text())
        for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for one in kind.body:
                if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    name = one.name.replace("__a", "__")
                    parameters = ast.unparse(one.args).replace("sessions.Source", "Iterable")
                    where = kind.name.removeprefix("Async"), name
                    found[where] = parameters.replace("AsyncClient", "Client")
        return found

    blocking = read("client")
    assert blocking == read("aio") and len(blocking) > 40


def test_client_is_installed_alone(tmp_path: Path) -> None:
    source = tmp_path / "matting_client"
    shutil.copytree(ROOT / "matting_client", source)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", target, source], check=True)
    code = f"import sys; sys.path.insert(0, {str(target)!r}); import matting_client as m; " + (
        "print(m.__file__); print(*sorted(m for m in sys.modules if m in ('service', 'numpy')))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ran.stdout.splitlines() == [str(target / "matting_client" / "__init__.py"), ""]
