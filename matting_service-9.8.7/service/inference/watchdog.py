"""Watching the network: a run that does not end can only be ended with its process."""

import asyncio
import logging
from collections.abc import Callable

from service.inference.health import Health
from service.inference.registry import Models

CHECKS = 10  # in the time that a run may take
log = logging.getLogger(__name__)


async def watch_network(
    models: Models, health: Health, stall_s: float, on_stall: Callable[[], None]
) -> None:
    """Call `on_stall` once a run of the network takes longer than `stall_s`, then end.

    A thread that hangs in a library cannot be stopped: liveness is false from then on, and whoever
    runs the service starts it anew.
    """
    while models.run_s <= stall_s:
        await asyncio.sleep(stall_s / CHECKS)
    log.critical("the network hangs", extra={"fields": {"run_s": round(models.run_s, 1)}})
    health.stalled = True
    on_stall()
