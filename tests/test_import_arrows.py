"""Which package may import which, read from the source of every file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("service", "export", "training", "cli", "deploy", "benchmarks", "client")
MAX_LINES = 300
RAY_FILE = "deploy/ray_app.py"
# Who may import whom, besides itself; what is not here may not be imported.
ARROWS = {
    "service": set(),
    "export": {"training"},
    "training": set(),
    "cli": {"service", "export", "training", "client", "benchmarks"},
    "deploy": {"service"},
    "benchmarks": {"service", "export", "training", "client", "cli"},
    "client": set(),
}
FORBIDDEN_LIBRARIES = {
    "service": {"torch", "onnx", "onnxscript"},
    "client": {"torch", "onnxruntime"},
}
MAY_CATCH_EVERYTHING = {
    "service/inference/batcher.py",
    "service/api/request_layer.py",
    "service/jobs/jobs.py",
}


def list_files() -> list[Path]:
    return [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]


def find_imports(source: str, package: str) -> Iterator[str]:
    """Yield the full names of the modules a file imports, in functions and strings too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parents = package.split(".")[: -(node.level - 1) or None]
                yield ".".join([*parents, node.module or ""]).rstrip(".")
            else:
                yield node.module
                # `from x import y` may name a module too.
                yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func)
            value = node.args[0]
            if name in ("importlib.import_module", "import_module", "__import__"):
                if isinstance(value, ast.Constant):
                    yield str(value.value)


def find_wrong_imports(house: str, source: str, path: str) -> set[str]:
    wrong = set()
    package = path.removesuffix(".py").replace("/", ".").rpartition(".")[0]
    for module in find_imports(source, package):
        top = module.partition(".")[0]
        if top in HOUSES and top != house and top not in ARROWS[house]:
            wrong.add(module)
        if top in FORBIDDEN_LIBRARIES.get(house, ()):
            wrong.add(module)
        if top == "ray" and path != RAY_FILE:
            wrong.add(module)
        if top == "tests":
            wrong.add(module)
    return wrong


@pytest.mark.parametrize("path", list_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_imports_only_what_its_house_may(path):
    relative = str(path.relative_to(ROOT))
    wrong = find_wrong_imports(relative.partition("/")[0], path.read_text(), relative)
    assert not wrong, f"{relative} imports {sorted(wrong)}"


@pytest.mark.parametrize(
    "house, source",
    [
        ("service", "import torch"),
        ("service", "def f():\n    from torch import nn"),
        ("service", "import training.model"),
        ("service", "from training import model"),
        ("service", "from export.verify import x"),
        ("service", "import importlib\nimportlib.import_module('cli.__main__')"),
        ("service", "import ray"),
        ("service", "from ray import serve"),
        ("service", "from ...export import verify"),
        ("training", "import export"),
        ("training", "from service.matting import composite"),
        ("export", "from service.inference.engine import OnnxEngine"),
        ("export", "import ray"),
        ("cli", "import ray"),
        ("client", "import service"),
        ("service", "from tests.fakes import FakeEngine"),
    ],
)
def test_wrong_arrow_is_found(house, source):
    assert find_wrong_imports(house, source, f"{house}/deep/file.py")


@pytest.mark.parametrize(
    "house, source",
    [
        ("service", "import numpy, onnxruntime, service.app\nfrom . import x\nfrom .x import y"),
        ("export", "import torch, onnx, onnxruntime\nfrom training.model import MODNet"),
        ("training", "import torch"),
        ("cli", "from export import pipeline\nimport service.app"),
    ],
)
def test_right_arrow_is_not_found(house, source):
    assert not find_wrong_imports(house, source, f"{house}/deep/file.py")


def test_ray_is_allowed_in_its_one_file_only():
    assert not find_wrong_imports("deploy", "import ray", RAY_FILE)
    assert find_wrong_imports("deploy", "import ray", "deploy/other.py")


def test_no_file_is_longer_than_the_house_rule():
    long = {
        str(path.relative_to(ROOT)): count
        for path in list_files()
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def find_broad_excepts(source: str) -> list[int]:
    """Return the lines that catch every exception and do not hand it on."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or ast.unparse(kind) == "Exception" for kind in kinds):
                lines.append(node.lineno)
    return lines


def test_nothing_catches_every_exception_but_the_named_files():
    found = {
        relative: lines
        for path in list_files()
        if (relative := str(path.relative_to(ROOT))) not in MAY_CATCH_EVERYTHING
        if (lines := find_broad_excepts(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    "clause", ["except Exception", "except", "except (OSError, Exception) as e"]
)
def test_broad_except_is_found(clause):
    assert find_broad_excepts(f"try:\n    pass\n{clause}:\n    pass\n") == [3]
    assert not find_broad_excepts("try:\n    pass\nexcept OSError:\n    pass\n")
