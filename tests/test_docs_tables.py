"""Every table of the documents that can be checked is; links lead somewhere."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import service.errors
from service.api.compat.rembg import RembgOptions
from service.api.compat.removebg import RemoveBgOptions
from service.clips.run import TOLD
from service.errors import MattingError
from service.media.video.repairs import Repairs, name_header
from service.settings import describe_settings
from tests.docs_pages import AT_THE_ROOT, PAGES, read_examples
from tests.helpers import ROOT


def test_page_of_errors_names_every_code_with_its_status() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", PAGES["errors.md"], re.M)
    listed = {(int(status), code) for status, cell in rows for code in re.findall("`(.+?)`", cell)}
    kinds = [kind for kind in vars(service.errors).values() if isinstance(kind, type)]
    real = {(kind.status, kind.slug) for kind in kinds if issubclass(kind, MattingError)}
    assert listed == real - {(422, "unknown-foreground")} | {(405, "method-not-allowed")}


def test_compat_page_names_every_parameter() -> None:
    assert len(read_examples("compat.md")) > 8
    for options in (RemoveBgOptions, RembgOptions):
        for name in options.model_fields:
            assert f"`{name}`" in PAGES["compat.md"]


def test_settings_page_is_up_to_date() -> None:
    assert PAGES["settings.md"].endswith(describe_settings() + "\n")


def make_page(script: str) -> str:
    command = [sys.executable, ROOT / "docs" / script]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout


def test_options_page_is_up_to_date() -> None:
    made = make_page("make_options.py")
    assert PAGES["options.md"] == made, "python docs/make_options.py > docs/options.md"


def find_anchors(path: Path) -> set[str]:
    """Return the names by which the headings of a page can be linked to."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(), re.M) if path.suffix == ".md" else []
    return {"", *(re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads)}


def test_reference_of_the_command_line_is_up_to_date() -> None:
    head, mark, reference = PAGES["cli.md"].partition("from the commands themselves.\n\n")
    assert mark and reference == make_page("make_cli.py"), "python docs/make_cli.py"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page if page in AT_THE_ROOT else ROOT / "docs" / page
    for link in re.findall(r"\]\((?!https?://)([^)]+)\)", PAGES[page]):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists() and (target.is_dir() or anchor in find_anchors(target)), link


def test_readme_leads_to_every_page() -> None:
    assert sorted(set(re.findall(r"docs/(\w+\.md)", PAGES["README.md"]))) == sorted(
        {*PAGES} - {*AT_THE_ROOT}
    )
    assert len(PAGES["README.md"].split("## Documents")[0].splitlines()) <= 42, "one screen"


def test_map_of_the_tree_names_what_is_there() -> None:
    named = re.findall(r"`((?:\w+/)+[\w./]*)`", PAGES["CONTRIBUTING.md"])
    assert len(named) > 30 and [name for name in named if not (ROOT / name).exists()] == []
    folders = {
        path.name for path in (ROOT / "service").iterdir() if (path / "__init__.py").exists()
    }
    told = set(re.findall(r"`service/(\w+)/", PAGES["CONTRIBUTING.md"]))
    assert folders - told == {"outgoing", "telemetry", "workers"}, "beside the way of the pixels"


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "gpu.md", "operate.md", "troubleshooting.md", "tuning.md"]
)
def test_settings_that_a_page_names_are_real(page: str) -> None:
    named = set(re.findall(r"MATTING_\w+", PAGES[page])) - {"MATTING_"}
    assert named <= set(re.findall(r"`(MATTING_\w+)`", describe_settings())), page


def test_every_test_that_the_page_on_media_names_is_there() -> None:
    page = (ROOT / "docs" / "media.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named and sorted(name for name in named if f"def {name}(" not in sources) == []


def test_table_of_what_is_said_of_clips_is_whole() -> None:
    page = (ROOT / "docs" / "media.md").read_text()
    rows = re.findall(r"^\| (`X-[\w-]+`(?:, `X-[\w-]+`)*) \| ([`\w, ]+) \|", page, re.MULTILINE)
    told = dict[str, str]()
    for headers, members in rows:
        names = (re.findall(r"[\w-]+", cell) for cell in (members, headers))
        told |= dict(zip(*names, strict=True))
    assert told == {name: name_header(name) for name in TOLD}
    assert {field.name for field in dataclasses.fields(Repairs)} < told.keys()
    assert "Chunks of a session have the same headers" in page
