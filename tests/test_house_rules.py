"""House rules that are read from the source: the length of files, and broad excepts.

Who may import whom is a contract of import-linter, in pyproject.toml.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSES = ("service", "export", "training", "cli", "deploy", "benchmarks", "matting_client")
MAX_LINES = 300
MAY_CATCH_EVERYTHING = {
    "service/fine.py",
    "service/inference/batcher.py",
    "service/inference/lanes.py",
    "service/api/request_layer.py",
    "service/jobs/jobs.py",
}


def list_files() -> list[Path]:
    return [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]


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
