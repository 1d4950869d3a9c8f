"""`python -m service`: start the server, or exit with one line that says why not."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import __version__
from service.settings import (
    Settings,
    SettingsError,
    check_exposure,
    describe_settings,
    load_settings,
)
from service.telemetry.tracing import check_tracing

if TYPE_CHECKING:
    from service.inference.engine import OnnxEngine
    from service.preparation import Prepared

EXIT_CANNOT_START, EXIT_STALLED = 3, 4
OTHER_PORT = "choose another port with `make serve PORT=...` or MATTING_PORT"
log = logging.getLogger("service")


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="to listen on (MATTING_HOST)")
    ] = None,
    port: Annotated[int | None, typer.Option(help="TCP port (MATTING_PORT)")] = None,
    workers: Annotated[
        int | None, typer.Option(help="processes, behind nginx (MATTING_WORKERS)")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="print every setting")
    ] = False,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="print a new key for MATTING_KEYS_FILE")
    ] = None,
) -> None:
    """Serve photos and clips over HTTP until SIGTERM or SIGINT.

    Settings are MATTING_* variables; the flags are for convenience. Exit code 3: it cannot start.
    """
    if version:
        print(__version__)
    elif list_settings:
        print(describe_settings())
    elif new_key is not None:
        from service.access import make_key

        print(make_key(new_key))
    else:
        flags = {"host": host, "port": port, "workers": workers}
        code = run({name: value for name, value in flags.items() if value is not None})
        raise typer.Exit(code)


def run(flags: dict[str, Any]) -> int:
    """Serve with the settings of the environment and these; return the exit code."""
    try:
        settings = load_settings(**flags)
        check_exposure(settings)
        if settings.keys_file is not None:
            from service.access import read_keys

            read_keys(settings.keys_file)
        check_tracing(settings)
        has_own_folder = "data_dir" not in settings.model_fields_set
        if has_own_folder:
            settings = settings.model_copy(update={"data_dir": make_folder(settings.port)})
        check_address(settings.host, settings.port)
    except SettingsError as error:
        return _refuse(str(error))
    if settings.workers > 1:
        return serve_workers(settings)
    # Imported after the settings are known to be good: a typing mistake is answered at once.
    gc.disable()  # what is loaded here stays: looking through it for garbage takes a tenth longer
    from service.media.decoder.forks import NoChild, begin_template
    from service.memory import keep_freed_memory

    keep_freed_memory()  # before there are threads, whose heaps would stay
    with contextlib.suppress(NoChild):  # told when the first child is to start
        begin_template()  # it loads what it needs beside what follows
    from service.inference.engine import InferenceError
    from service.inference.models import ModelError
    from service.inference.providers import DeviceError
    from service.jobs.rows.schema import JobStoreBusy, JobStoreError
    from service.log import configure_logging
    from service.media.decoder.confinement import hide_memory
    from service.preparation import prepare

    hide_memory()  # keys are in the environment, and decoder children run as the same user
    is_watched = sys.stderr.isatty() and not settings.worker
    configure_logging(settings.log_level, settings.worker)
    if is_watched:  # the greeting says in one line what these say in several
        logging.getLogger("service.inference.providers").setLevel(logging.ERROR)
    tempfile.tempdir = str(settings.data_dir)  # uploads are spooled there too
    try:
        prepared = prepare(settings)
    except JobStoreBusy as error:
        return _refuse(f"{error}; {OTHER_PORT}" if has_own_folder else str(error))
    except (JobStoreError, ModelError, DeviceError, InferenceError) as error:
        return _refuse(str(error))
    gc.enable()
    gc.freeze()
    return serve_prepared(settings, prepared, is_watched)


def serve_prepared(settings: Settings, prepared: "Prepared", is_watched: bool) -> int:
    """Serve by this process; return the exit code."""
    from service.api.protocol.server import Server, make_config
    from service.app import create_app, drain

    engine, sources = prepared.engine, prepared.sources
    app = create_app(
        settings,
        engine,
        prepared.job_store,
        sources,
        # Whoever runs the service starts it anew; a thread that hangs cannot be waited for.
        on_stall=lambda: os._exit(EXIT_STALLED),
        starter=prepared.starter,
    )
    if not is_watched:
        log.info(
            "serving %s with %s in %s",
            engine.info.name,
            engine.provider,
            engine.precision,
            extra={"fields": {"note": engine.note, "others": [one.info.name for one in sources]}},
        )
    config = make_config(app, settings)
    level = "WARNING" if is_watched else settings.log_level.upper()
    logging.getLogger("uvicorn.error").setLevel(level)
    # uvicorn raises the signal again once it has shut down: ending when told to is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = Server(
        config,
        settings,
        on_start=(lambda port: _greet(settings.host, port, engine)) if is_watched else None,
        on_drain=lambda: drain(app.state.services),
    )
    server.run()
    return 0 if server.started else EXIT_CANNOT_START


def serve_workers(settings: Settings) -> int:
    """Serve by several processes; return the exit code."""
    from service.log import configure_logging
    from service.workers.supervisor import Supervisor

    configure_logging(settings.log_level)
    try:
        return Supervisor(settings, is_watched=sys.stderr.isatty()).run()
    except SettingsError as error:
        return _refuse(str(error))


def make_folder(port: int) -> Path:
    """Return the data folder of a service whose operator names none; raises SettingsError.

    It depends on the port, so that a second service on the same machine has its own.
    """
    folder = Path(tempfile.gettempdir()) / f"matting-{port}"
    try:
        folder.mkdir(0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{folder}: {error.strerror}; name a folder with MATTING_DATA_DIR"
        ) from None
    return folder


def check_address(host: str, port: int) -> None:
    """Raise SettingsError when the address cannot be listened on."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        raise SettingsError(f"{host}, port {port}: {error.strerror}; {OTHER_PORT}") from None


def _greet(host: str, port: int, engine: "OnnxEngine") -> None:
    """Say in one line where the service is and what it runs."""
    device = "CUDA" if engine.provider.startswith("CUDA") else "the CPU"
    if engine.provider.startswith("OpenVINO"):
        device = f"the CPU by OpenVINO in {engine.precision}"
    note = f" ({engine.note})" if engine.note else ""
    shown = f"[{host}]" if ":" in host else host
    print(
        f"Ready: http://{shown}:{port}, API documents at /docs; model {engine.info.name} on "
        f"{device}{note}; Ctrl-C stops the service",
        file=sys.stderr,
    )


def _refuse(reason: str) -> int:
    print(f"cannot start: {reason}", file=sys.stderr)
    return EXIT_CANNOT_START


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    app()
