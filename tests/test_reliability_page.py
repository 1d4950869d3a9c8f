"""The page on reliability names a test, or a reason, for every fault of the catalogue."""

import re

from tests.helpers import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROWS = re.findall(r"^\| ([A-K]\d+h?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
COUNTS = {
    "A": 10,
    "B": 11,
    "C": 7,
    "D": 8,
    "E": 16,
    "F": 16,
    "G": 17,
    "H": 21,
    "I": 10,
    "J": 11,
    "K": 9,
}
REASONS = ("not tested: ", "not kept: ", "not offered", "not possible: ", "not measured: ")


def test_no_fault_is_left_out() -> None:
    expected = [f"{kind}{number + 1}" for kind, most in COUNTS.items() for number in range(most)]
    assert [fault.removesuffix("h") for fault, _, _ in ROWS] == expected


def test_every_named_test_exists() -> None:
    missing = []
    for fault, _, shown in ROWS:
        if shown.startswith(REASONS):
            continue
        path, _, name = shown.partition("::")
        file = ROOT / path if path.startswith("tests/") else ROOT / "tests" / "service" / path
        if not file.is_file() or (name and f"def {name}(" not in file.read_text()):
            missing.append((fault, shown))
    assert not missing


def test_settings_of_the_page_are_settings() -> None:
    from service.settings import ENV_PREFIX, Settings

    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"MATTING_[A-Z_]+", PAGE)) <= known
