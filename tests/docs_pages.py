"""The pages of the documents, and the examples in them."""

import re

from tests.helpers import ROOT

AT_THE_ROOT = ("README.md", "CONTRIBUTING.md")
PAGES = {
    path.name: path.read_text()
    for path in (*(ROOT / name for name in AT_THE_ROOT), *ROOT.glob("docs/*.md"))
}


def read_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.M | re.S)


def read_examples(page: str) -> list[str]:
    return [line for block in read_blocks(page, "sh") for line in block.splitlines()]
