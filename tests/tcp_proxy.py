"""A TCP proxy that cuts connections, as networks do."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Cut:
    """When a connection is cut: after so many bytes to the service, or of its answer."""

    sent: int | None = None
    answered: int | None = None


@dataclass
class Proxy:
    """Connections are cut as `cuts` say, one each, those after the last one never.

    `requests` has what each connection sent.
    """

    port: int
    target_port: int
    cuts: list[Cut] = field(default_factory=list)
    requests: list[bytearray] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, client: socket.socket) -> None:
        cut = self.cuts.pop(0) if self.cuts else Cut()
        seen = bytearray()
        self.requests.append(seen)
        with client, socket.create_connection(("127.0.0.1", self.target_port)) as service:
            back = threading.Thread(target=pump, args=(service, client, cut.answered))
            back.start()
            pump(client, service, cut.sent, seen)
            back.join()


def pump(
    source: socket.socket, target: socket.socket, most: int | None, seen: bytearray | None = None
) -> None:
    """Hand bytes on until one side ends or `most` have passed; then both connections end."""
    passed = 0
    try:
        while piece := source.recv(4096):
            piece = piece if most is None else piece[: most - passed]
            target.sendall(piece)
            passed += len(piece)
            if seen is not None:
                seen += piece
            if passed == most:
                break
    except OSError:
        pass
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def open_proxy(target_port: int, *cuts: Cut) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine in threads; all have ended afterwards."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1], target_port, list(cuts))
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=proxy.serve, args=(client,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(30)
