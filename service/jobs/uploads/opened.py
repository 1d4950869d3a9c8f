"""The bytes of one upload while a request adds to them."""

import fcntl
import hashlib
import os
from pathlib import Path

from service.errors import Conflict, Locked, translate_disk_errors
from service.jobs.files.folder import sync_folder

DATA, UNCONFIRMED = "data", "unconfirmed"
CHECKSUMS = ("sha1", "sha256", "md5")


def measure_upload(folder: Path) -> int:
    """Return the bytes that are there and, where a checksum came with them, confirmed."""
    size = (folder / DATA).stat().st_size
    try:
        return min(size, int((folder / UNCONFIRMED).read_text() or 0))
    except FileNotFoundError:
        return size


class OpenUpload:
    """The bytes of one upload, locked until `close`; methods block.

    Bytes whose checksum is still to be confirmed are marked, so that they go though the process be
    killed: the file `unconfirmed` says where they begin.
    """

    def __init__(self, folder: Path) -> None:
        # Unbuffered: what a full disk did not take must not wait for the next call.
        self.file = (folder / DATA).open("r+b", buffering=0)
        self._mark = folder / UNCONFIRMED
        self._is_confirmed = True
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with translate_disk_errors():
                self.start = self.offset = self.file.seek(measure_upload(folder))
                if self._mark.exists():  # of a process that was killed
                    self._drop_unconfirmed()
        except BlockingIOError:
            self.file.close()
            raise Locked(
                "another request is writing to this upload",
                hint="ask for its offset with HEAD once that has ended",
                retry_after_s=1,
            ) from None
        except BaseException:
            self.file.close()
            raise

    def expect(self, offset: int, algorithm: str | None) -> None:
        """Begin at an offset, with a checksum to come.

        Raises Conflict for another offset, InsufficientStorage.
        """
        if offset != self.offset:
            raise Conflict(
                f"the upload has {self.offset} bytes, Upload-Offset says {offset}",
                hint="ask for its offset with HEAD and go on from there",
            )
        self._digest = hashlib.new(algorithm or "sha1", usedforsecurity=False)
        if algorithm is not None:
            with translate_disk_errors():
                write_whole(self._mark, str(self.start))
            self._is_confirmed = False

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        with translate_disk_errors():
            while left.nbytes:
                count = self.file.write(left)
                self.offset += count
                left = left[count:]
        if not self._is_confirmed:
            self._digest.update(piece)

    def verify(self, checksum: bytes) -> bool:
        """Say whether the bytes of this request have this checksum; then they stay."""
        self._is_confirmed = self._digest.digest() == checksum
        return self._is_confirmed

    def close(self) -> None:
        """Bring the bytes to the disk, without those whose checksum was not confirmed.

        Raises InsufficientStorage for a disk that fails.
        """
        try:
            with translate_disk_errors():
                if self._is_confirmed:
                    os.fsync(self.file.fileno())
                    self._mark.unlink(missing_ok=True)
                else:
                    self._drop_unconfirmed()
        finally:
            self.file.close()

    def _drop_unconfirmed(self) -> None:
        self.file.truncate(self.start)
        os.fsync(self.file.fileno())
        self._mark.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a small file, whole or not at all, safe on the disk."""
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)
