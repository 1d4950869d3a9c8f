"""The extra `fine`: PyMatting, which compiles itself when it is loaded for the first time.

That takes a minute of one core, once for each installation: numba keeps the compiled code beside
the package, or in the data folder where that is read-only. Later loads take a second.
"""

import asyncio
import importlib
import logging
import os
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from service.errors import InvalidOption, NotReady

PACKAGE = "pymatting"
WAIT_S = 10.0  # that a request waits for the load; it is one of seconds unless it compiles
RETRY_S = 20
log = logging.getLogger(__name__)


class FineMatting:
    """Whether `refine=fine` can be had; loads what it needs when it is asked for.

    `state` is "absent", "unused", "loading", "ready" or "failed". Made on any thread, used on the
    event loop.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        load: Callable[[], object] = lambda: importlib.import_module(PACKAGE),
        wait_s: float = WAIT_S,
    ) -> None:
        self._data_dir = data_dir
        self._import = load
        self._wait_s = wait_s
        self._loaded: asyncio.Future[None] | None = None

    @property
    def state(self) -> str:
        if not is_installed():
            return "absent"
        if self._loaded is None:
            return "unused"
        if not self._loaded.done():
            return "loading"
        return "failed" if self._loaded.exception() else "ready"

    def check_installed(self) -> None:
        """Raise InvalidOption where the extra is missing."""
        if not is_installed():
            raise InvalidOption(
                "refine=fine is not installed on this server",
                hint="its operator can: pip install 'matting-service[fine]'",
            )

    async def load(self) -> None:
        """Load it unless that was done. Raises NotReady while it compiles, or when it cannot."""
        if self._loaded is None:
            self._loaded = self._start()
        await asyncio.wait({self._loaded}, timeout=self._wait_s)
        if not self._loaded.done():
            raise NotReady(
                "refine=fine is being compiled, once for this installation",
                hint="ask again in a minute, or leave out refine",
                retry_after_s=RETRY_S,
            )
        if self._loaded.exception() is not None:
            raise NotReady(
                "refine=fine cannot be loaded",
                hint="leave out refine; the service's log has the reason",
                retry_after_s=RETRY_S,
            )

    def _start(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        loaded: asyncio.Future[None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if error is None:
                loaded.set_result(None)
            else:
                loaded.set_exception(error)

        def run() -> None:
            start_s = time.monotonic()
            error = None
            try:
                place_cache(self._data_dir)
                self._import()
            except Exception as caught:  # whatever a compiler throws: the service goes on without
                error = caught
                log.error("refine=fine cannot be loaded", exc_info=True)
            else:
                took_s = round(time.monotonic() - start_s, 1)
                log.info("refine=fine is loaded", extra={"fields": {"took_s": took_s}})
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, error)

        log.info("loading PyMatting for refine=fine; the first time it compiles for a minute")
        # A daemon: a service that is told to end does not wait for a compiler.
        threading.Thread(target=run, name="load-fine", daemon=True).start()
        return loaded


def is_installed() -> bool:
    """Return whether the extra is there."""
    return find_spec(PACKAGE) is not None


def place_cache(data_dir: Path) -> None:
    """Let numba keep what it compiled in the data folder, where the package's is read-only."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None or os.access(Path(found.origin).parent, os.W_OK):
        return
    os.environ.setdefault("NUMBA_CACHE_DIR", str(data_dir / "numba"))
