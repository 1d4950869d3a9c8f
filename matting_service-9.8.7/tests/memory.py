"""How much memory a server takes, its decoder children included."""

import psutil

from tests.helpers import LiveServer


def count_bytes(server: LiveServer) -> int:
    """Return the memory of the service and its decoder children, shared pages counted once."""
    service = psutil.Process(server.pid)
    total = 0
    for process in (service, *service.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
