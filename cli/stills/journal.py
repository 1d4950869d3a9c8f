"""The report of a folder, JSON Lines: a line for each photo, by which a later run goes on."""

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from cli.stills.tree import Photo, find_beside
from service.errors import MattingError

DONE, FAILED = "done", "failed"
WORK_FOLDER = ".matte"  # in OUT, while a run lasts


class Journal(AbstractContextManager["Journal"]):
    """What has become of each photo of `source`, and the results in `out`.

    A result gets its name once it is whole, after its line is in the report: a run that is killed
    leaves neither a half file nor one that the report does not know. `identity` stands for the
    options and the network: a photo that was done with others is not done. `beside` are folders of
    further pictures, which are part of a photo.
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        report: Path,
        identity: str,
        beside: Sequence[Path | None] = (),
    ) -> None:
        self._source, self._out, self._report = source, out, report
        self._beside = [folder for folder in beside if folder is not None]
        self._identity = identity
        self._work = out / WORK_FOLDER
        self._writing = threading.Lock()
        self.records: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Journal":
        """Take the folder for this run; raises OSError, when another run has it too."""
        self._work.mkdir(parents=True, exist_ok=True)
        self._lock = (self._work / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            text = "another `matte folder` writes into this folder"
            raise OSError(error.errno, text, str(self._out)) from None
        for part in self._work.glob("*.part"):  # of a run that was killed
            part.unlink()
        ends_in_a_line = self._read()
        self._file = self._report.open("a", encoding="utf-8")
        if not ends_in_a_line:
            self._file.write("\n")  # a line that was cut off stays one line
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        shutil.rmtree(self._work, ignore_errors=True)
        self._lock.close()

    def _read(self) -> bool:
        """Take the records of earlier runs; say whether the report ends with a whole line."""
        if not self._report.exists():
            return True
        content = self._report.read_text(encoding="utf-8", errors="replace")
        for line in content.splitlines():
            try:
                record = json.loads(line)
                self.records[record["file"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # cut off, or not ours
        return not content or content.endswith("\n")

    def is_done(self, photo: Photo) -> bool:
        """Say whether the result is there, of this photo as it is and of these options."""
        if not self._is_ours(photo):
            return False
        record = self.records[str(photo.file)]
        try:
            size = (self._out / photo.result).stat().st_size
            return (
                record["identity"] == self._identity
                and record["source"] == self._describe_source(photo)
                and record["bytes"] == size
            )
        except (OSError, KeyError, MattingError):  # what is wrong beside it is told when it is read
            return False

    def is_foreign(self, photo: Photo) -> bool:
        """Say whether a file that no run wrote has the name of the result."""
        return (self._out / photo.result).exists() and not self._is_ours(photo)

    def _is_ours(self, photo: Photo) -> bool:
        record = self.records.get(str(photo.file), {})
        return record.get("status") == DONE and record.get("result") == str(photo.result)

    def _describe_source(self, photo: Photo) -> dict[str, Any]:
        told: dict[str, Any] = describe_file(self._source / photo.file)
        found = (find_beside(folder, photo.file) for folder in self._beside)
        beside = [None if path is None else describe_file(path) for path in found]
        return told | ({"beside": beside} if beside else {})

    def read(self, photo: Photo) -> tuple[bytes, dict[str, Any]]:
        """Return the bytes of a photo, and what tells whether it has changed since."""
        source = self._describe_source(photo)
        return (self._source / photo.file).read_bytes(), source

    def write(
        self, photo: Photo, source: dict[str, Any], content: bytes, told: dict[str, Any]
    ) -> None:
        """Write a result and its line; raises OSError."""
        target = self._out / photo.result
        target.parent.mkdir(parents=True, exist_ok=True)
        part = self._work / f"{id(content):x}.part"
        part.write_bytes(content)
        record = {"status": DONE, "result": str(photo.result), "bytes": len(content), **told}
        with self._writing:
            # The old result must not be taken for the one of the new line, were this the end.
            target.unlink(missing_ok=True)
            self._add(photo, record | {"source": source, "identity": self._identity})
            os.replace(part, target)

    def fail(self, photo: Photo, problem: dict[str, Any]) -> None:
        """Write the line of a photo that could not be matted; its older result goes."""
        with self._writing:
            if self._is_ours(photo):
                (self._out / photo.result).unlink(missing_ok=True)
            self._add(photo, {"status": FAILED, "problem": problem})

    def _add(self, photo: Photo, record: dict[str, Any]) -> None:
        record = {"file": str(photo.file), **record}
        self.records[str(photo.file)] = record
        self._file.write(format_line(record))
        self._file.flush()

    def finish(self, files: Iterable[PurePosixPath]) -> None:
        """Leave one line for each of these photos, in their order."""
        lines = [self.records[str(file)] for file in files if str(file) in self.records]
        part = self._report.with_name(f".{self._report.name}.part")
        part.write_text("".join(map(format_line, lines)), encoding="utf-8")
        os.replace(part, self._report)


def describe_file(path: Path) -> dict[str, int]:
    """Return what tells whether a file has changed; raises OSError."""
    found = path.stat()
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def format_line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
