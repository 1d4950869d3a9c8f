"""The files of the start page: headers, texts in one place, nothing from elsewhere."""

import re
from pathlib import Path

import pytest

import service

PAGE = Path(service.__file__).parent / "web" / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))
INDEX = (PAGE / "index.html").read_text()
STRINGS = (PAGE / "strings.js").read_text()
TEXTS = set(re.findall(r"^  (\w+):", STRINGS, re.M))


@pytest.mark.parametrize("path", ["/", *(f"/page/{path.name}" for path in PAGE.iterdir())])
def test_every_file_forbids_what_is_not_its_own(client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    rules = dict(
        rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; ")
    )
    assert rules["default-src"] == "'none'" and rules["script-src"] == "'self'"
    assert not any("unsafe" in rule or "http" in rule for rule in rules.values())
    assert response.headers["x-content-type-options"] == "nosniff"
    again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304 and not again.content
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("name", ["none.js", "..%2Fassets%2Ffavicon-32x32.png", "%2e%2e"])
def test_other_files_are_not_found(client, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_nothing_is_inline_or_from_elsewhere() -> None:
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", INDEX)
    for link in re.findall(r"""(?:src|href)=["']([^"'#]+)["']""", INDEX):
        assert link.startswith("/") and not link.startswith("//")
    for path in [*SCRIPTS, *PAGE.glob("*.css")]:
        known = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|eval\(|localStorage|document\.cookie", known)


def test_all_texts_are_in_one_file_and_used() -> None:
    named = set(re.findall(r'data-(?:text|label)="(\w+)"', INDEX))
    assert named <= TEXTS
    body = re.sub(r"<noscript>.*?</noscript>", "", INDEX.partition("<body")[2])
    written = [text.strip() for text in re.findall(r">([^<>]+)<", body)]
    assert [text for text in written if re.search(r"\w", text)] == []
    code = "\n".join(path.read_text() for path in SCRIPTS if path.name != "strings.js")
    quoted = set(re.findall(r'"(\w+)"', code))
    composed = {text for text in TEXTS if text.startswith("output_")} | {"socketCodes"}
    called = composed | {"socketClosed"}
    assert TEXTS - named - quoted - called == set(), "texts that nothing shows"
    assert set(re.findall(r'\bt\("(\w+)"', code)) <= TEXTS
