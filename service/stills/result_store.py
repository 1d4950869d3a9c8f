"""Kept results on disk, to render again without the network."""

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import Gone, InsufficientStorage, NotFound, translate_disk_errors
from service.matting.hint import Region
from service.scratch import ScratchFolder
from service.threads import Workers

PREFIX = "matting-results-"
MAX_FORGOTTEN = 10_000  # ids that are answered 410 rather than 404
SWEEP_S = 10.0


@dataclass(frozen=True, eq=False)
class KeptResult:
    """An upload as it came, and the network's matte of it, (h, w) float32; None: none was made.

    `hint` is the file with strokes that came with it, `region` the part in which the person was
    looked for.
    """

    image: bytes
    matte: NDArray[np.float32] | None
    hint: bytes | None = None
    region: Region | None = None

    @property
    def bytes(self) -> int:
        matte_bytes = 0 if self.matte is None else self.matte.nbytes
        return len(self.image) + len(self.hint or b"") + matte_bytes


@dataclass(frozen=True)
class _Entry:
    owner: str
    expires_s: float
    bytes: int
    has_matte: bool
    has_hint: bool
    region: Region | None


class ResultStore:
    """Keeps results for a while; the ones used longest ago go first when room is short, of
    the owner who has most.

    Results live in a folder of the process and end with it. Methods run on the event loop and do
    their file work in the workers.
    """

    def __init__(
        self,
        data_dir: Path,
        max_bytes: int,
        workers: Workers,
        *,
        clock: Callable[[], float] = time.monotonic,
        name_id: Callable[[str], str] = str,
    ) -> None:
        self._folder = ScratchFolder(data_dir, PREFIX)
        self._max_bytes = max_bytes
        self._workers = workers
        self._clock = clock
        self._name_id = name_id
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # used longest ago first
        self._forgotten: OrderedDict[str, str] = OrderedDict()  # id to owner
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    @property
    def bytes(self) -> int:
        """Bytes of all kept results."""
        return sum(entry.bytes for entry in self._entries.values())

    async def keep(self, owner: str, result: KeptResult, keep_s: float) -> str:
        """Store a result and return its id; raises InsufficientStorage."""
        if result.bytes > self._max_bytes:
            raise InsufficientStorage(
                f"the result has {result.bytes} bytes, the store for results holds "
                f"{self._max_bytes}",
                hint="leave out keep_s",
                limit=self._max_bytes,
                actual=result.bytes,
            )
        self._drop_expired()
        while self._entries and self.bytes + result.bytes > self._max_bytes:
            self._forget(self._choose_oldest(owner, result.bytes))
        result_id = self._name_id(secrets.token_urlsafe(24))
        # In the index first: what is written at the same time must find the room taken.
        self._entries[result_id] = _Entry(
            owner,
            self._clock() + keep_s,
            result.bytes,
            has_matte=result.matte is not None,
            has_hint=result.hint is not None,
            region=result.region,
        )
        try:
            with translate_disk_errors():
                await self._workers.run(self._write, result_id, result)
        except BaseException:  # cancelled, too: nobody will ever know the id
            self._forget(result_id)
            raise
        return result_id

    async def load(self, owner: str, result_id: str) -> KeptResult:
        """Return a kept result; raises NotFound, or Gone when it was kept once."""
        self._drop_expired()
        entry = self._entries.get(result_id)
        if entry is None or entry.owner != owner:
            if self._forgotten.get(result_id) == owner:
                raise Gone(
                    "the result is no longer kept",
                    hint="send the image again, with a longer keep_s if need be",
                )
            raise NotFound("there is no kept result with this id", hint="ids come in X-Result-ID")
        self._entries.move_to_end(result_id)
        try:
            return await self._workers.run(self._read, result_id, entry)
        except FileNotFoundError:  # dropped while this request waited for a worker
            self._forget(result_id)
            raise Gone("the result is no longer kept", hint="send the image again") from None

    async def aclose(self) -> None:
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        self._folder.close()

    def _choose_oldest(self, owner: str, more_bytes: int) -> str:
        """Return what goes for `more_bytes` of an owner: of those who have most, used longest ago.

        So a key that keeps very much pushes out its own results, and nobody else's.
        """
        held = Counter({owner: more_bytes})
        for entry in self._entries.values():
            held[entry.owner] += entry.bytes
        largest = max(self._entries.values(), key=lambda entry: held[entry.owner]).owner
        return next(key for key, entry in self._entries.items() if entry.owner == largest)

    def _paths(self, result_id: str) -> tuple[Path, Path, Path]:
        """Return the files of the image, the matte and the hint."""
        folder = self._folder.path
        image, matte, hint = (folder / f"{result_id}.{end}" for end in ("image", "npy", "hint"))
        return image, matte, hint

    def _write(self, result_id: str, result: KeptResult) -> None:
        image, matte, hint = self._paths(result_id)
        image.write_bytes(result.image)
        if result.matte is not None:
            np.save(matte, result.matte, allow_pickle=False)
        if result.hint is not None:
            hint.write_bytes(result.hint)
        if result_id not in self._entries:  # forgotten while it was written
            for path in (image, matte, hint):
                path.unlink(missing_ok=True)

    def _read(self, result_id: str, entry: _Entry) -> KeptResult:
        """Raise FileNotFoundError when one of the files is gone: either all count or none."""
        image, matte, hint = self._paths(result_id)
        return KeptResult(
            image.read_bytes(),
            np.load(matte, allow_pickle=False) if entry.has_matte else None,
            hint.read_bytes() if entry.has_hint else None,
            entry.region,
        )

    def _forget(self, result_id: str) -> None:
        entry = self._entries.pop(result_id, None)
        if entry is None:
            return
        for path in self._paths(result_id):
            path.unlink(missing_ok=True)
        self._forgotten[result_id] = entry.owner
        while len(self._forgotten) > MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)

    def _drop_expired(self) -> None:
        now_s = self._clock()
        for result_id in [key for key, one in self._entries.items() if one.expires_s <= now_s]:
            self._forget(result_id)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._drop_expired()
