"""The disk of the service: the room on it, and folders that end with their process."""

import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path

from service.errors import InsufficientStorage

SPOOL_BYTES = 1 << 20  # an upload above this size lies on disk


class ScratchFolder:
    """A folder in `parent`, made when it is first asked for; those of dead processes go."""

    def __init__(self, parent: Path, prefix: str) -> None:
        remove_orphans(parent, prefix)
        self._parent = parent
        self._prefix = prefix
        self._path: Path | None = None
        self._making = threading.Lock()

    @property
    def path(self) -> Path:
        with self._making:
            if self._path is None:
                path = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self._parent))
                self._lock = open_locked(path / "lock")
                self._path = path
            return self._path

    def close(self) -> None:
        """Remove the folder and what is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._lock)
            self._path = None


def open_locked(path: Path) -> int:
    """Return a descriptor that holds the lock of a folder; raises BlockingIOError."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def remove_orphans(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed: nobody holds their locks."""
    for folder in parent.glob(f"{prefix}*"):
        try:
            lock = open_locked(folder / "lock")
        except OSError:  # in use, or not ours
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def check_free_space(folder: Path, more_bytes: int, *, min_bytes: int, min_percent: float) -> None:
    """Raise InsufficientStorage when a clip of so many bytes would leave too little free."""
    disk = os.statvfs(folder)
    share = disk.f_blocks * disk.f_frsize * min_percent / 100
    least, free = max(min_bytes, int(share)), disk.f_bavail * disk.f_frsize
    if free - more_bytes < least:
        raise InsufficientStorage(
            f"{free} bytes are free on the disk of the service; besides the clip {least} must stay "
            "free",
            hint="try again later, or delete jobs that are no longer needed",
            limit=least,
            actual=free,
            retry_after_s=60,
        )
