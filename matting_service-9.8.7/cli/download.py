"""Download one file, verified by SHA-256, from the first mirror that has it."""

import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16
TIMEOUT_S = 30
ATTEMPTS = 5  # per mirror, with nothing new in between
PARTIAL_CONTENT = 206
# Not all of OSError: a full disk is not the mirror's fault.
NETWORK_ERRORS = (
    urllib.error.URLError,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    http.client.HTTPException,
)


class DownloadError(RuntimeError):
    """No mirror had the file; the message is one line that says why for each."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, its size and SHA-256, and where it may be fetched, best place first."""

    name: str
    size_bytes: int
    sha256: str
    urls: tuple[str, ...]


def download(file: RemoteFile, folder: Path, report: Callable[[int], None]) -> Path:
    """Return the path of the verified file in `folder`; raises DownloadError or OSError.

    A file already there is taken if its hash is right. What arrives lies in NAME.part, so a later
    call goes on where this one ended, and gets its name only once its hash is right; a file of
    another hash is deleted. `report` is told how many bytes lie there.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and hash_file(target) == file.sha256:
        return target
    problems = []
    for url in file.urls:
        try:
            fetch(url, part, file.size_bytes, report)
        except NETWORK_ERRORS as error:
            problems.append(f"{urlsplit(url).netloc}: {explain(error)}")
            continue
        found = hash_file(part)
        if found == file.sha256:
            os.replace(part, target)
            return target
        part.unlink()
        problems.append(
            f"{urlsplit(url).netloc}: SHA-256 {found}, expected {file.sha256}: refused and deleted"
        )
    raise DownloadError(f"{file.name}: {'; '.join(problems)}")


def fetch(url: str, part: Path, size_bytes: int, report: Callable[[int], None]) -> None:
    """Bring `part` to its full size, going on after a broken connection."""
    attempts_left = ATTEMPTS
    while True:
        before = measure(part)
        if before == size_bytes:
            return
        if before > size_bytes:
            part.unlink()
        try:
            fetch_rest(url, part, size_bytes, report)
            return
        except (urllib.error.HTTPError, WrongAnswer):
            raise  # asking again would bring the same
        except NETWORK_ERRORS:
            attempts_left = ATTEMPTS if measure(part) > before else attempts_left - 1
            if not attempts_left:
                raise


def fetch_rest(url: str, part: Path, size_bytes: int, report: Callable[[int], None]) -> None:
    """Ask for what is missing in `part` and append it; raises one of NETWORK_ERRORS."""
    offset = measure(part)
    headers = {"User-Agent": "matte"} | ({"Range": f"bytes={offset}-"} if offset else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if response.status != PARTIAL_CONTENT:
            offset = 0  # a server without ranges sends all of it again
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {offset}-"):
            raise WrongAnswer("sends another part of the file than was asked for")
        with part.open("ab" if offset else "wb") as file:
            while chunk := response.read(CHUNK_BYTES):
                offset += len(chunk)
                if offset > size_bytes:
                    file.truncate(0)
                    raise WrongAnswer(f"sends more than the {size_bytes:,} bytes of the file")
                file.write(chunk)
                report(offset)
    if offset < size_bytes:
        raise http.client.IncompleteRead(b"", size_bytes - offset)


class WrongAnswer(http.client.HTTPException):
    """A mirror sends something else than the file."""


def measure(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def explain(error: Exception) -> str:
    """Return in a few words why a mirror failed."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection broke {error.expected:,} bytes before the end"
    return str(error) or type(error).__name__
