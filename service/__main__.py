"""`python -m service`: start the server, or say in one line why it cannot."""

import argparse
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from service import __version__
from service.api.socket_protocol import SocketProtocol
from service.settings import Settings, SettingsError, describe_settings, load_settings

EXIT_CANNOT_START = 3
log = logging.getLogger("service")


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code (3: it cannot start).

    Settings come from `MATTING_*` variables; the two flags are for convenience.
    """
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="The matting service; settings are MATTING_* variables.",
    )
    parser.add_argument("--host", help="address to listen on (MATTING_HOST)")
    parser.add_argument("--port", type=int, help="TCP port (MATTING_PORT)")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--list-settings", action="store_true", help="print every setting")
    flags = vars(parser.parse_args(argv))
    if flags.pop("list_settings"):
        print(describe_settings())
        return 0
    try:
        settings = load_settings(
            **{name: value for name, value in flags.items() if value is not None}
        )
    except SettingsError as error:
        return _refuse(str(error))
    # Imported after the settings are known to be good: a typing mistake is answered at once.
    from service.app import create_app
    from service.inference.engine import OnnxEngine
    from service.inference.models import ModelError
    from service.inference.providers import DeviceError
    from service.inference.registry import find_sources
    from service.jobs.schema import JobStoreError
    from service.jobs.store import JobStore
    from service.log import configure_logging

    configure_logging(settings.log_level)
    tempfile.tempdir = str(settings.data_dir)  # uploads are spooled there too
    try:
        job_store = JobStore.open(settings.data_dir)
        engine = OnnxEngine(settings)
        sources = find_sources(settings)
    except (JobStoreError, ModelError, DeviceError) as error:
        return _refuse(str(error))
    app = create_app(settings, engine, job_store, sources)
    log.info(
        "serving %s with %s in %s",
        engine.info.name,
        engine.provider,
        engine.precision,
        extra={"fields": {"note": engine.note, "others": [one.info.name for one in sources]}},
    )
    config = make_config(app, settings)
    logging.getLogger("uvicorn.error").setLevel(settings.log_level.upper())
    # uvicorn raises the signal again once it has shut down: ending when told to is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = _Server(config, on_shutdown=lambda: app.state.services.jobs.drain())
    server.run()
    return 0 if server.started else EXIT_CANNOT_START


def make_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn serves the app."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="h11",  # bounds the size of headers; httptools does not
        ws=SocketProtocol,
        ws_max_size=settings.socket_message_max_bytes,
        ws_ping_interval=settings.socket_ping_s,
        ws_ping_timeout=settings.socket_ping_s,
        ws_per_message_deflate=False,  # pictures do not shrink, and a bomb would grow
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout_s),
    )


class _Server(uvicorn.Server):
    """Tells the app at once that it is ending: streams of events would hold up the end."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)


def _refuse(reason: str) -> int:
    print(f"cannot start: {reason}", file=sys.stderr)
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
