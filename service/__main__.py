"""`python -m service`: start the server, or exit with one line that says why not."""

import argparse
import logging
import os
import signal
import sys
import tempfile

from service import __version__
from service.settings import SettingsError, check_exposure, describe_settings, load_settings

EXIT_CANNOT_START, EXIT_STALLED = 3, 4


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
    parser.add_argument("--new-key", metavar="NAME", help="print a new key for MATTING_KEYS_FILE")
    flags = vars(parser.parse_args(argv))
    if flags.pop("list_settings"):
        print(describe_settings())
        return 0
    if name := flags.pop("new_key"):
        from service.access import make_key

        print(make_key(name))
        return 0
    try:
        settings = load_settings(
            **{name: value for name, value in flags.items() if value is not None}
        )
        check_exposure(settings)
        if settings.keys_file is not None:
            from service.access import read_keys

            read_keys(settings.keys_file)
    except SettingsError as error:
        return _refuse(str(error))
    # Imported after the settings are known to be good: a typing mistake is answered at once.
    from service.api.server import Server, make_config
    from service.app import create_app, drain
    from service.inference.engine import OnnxEngine
    from service.inference.models import ModelError
    from service.inference.providers import DeviceError
    from service.jobs.schema import JobStoreError
    from service.jobs.store import JobStore
    from service.log import configure_logging
    from service.media.decoder.confinement import hide_memory

    hide_memory()  # keys are in the environment, and decoder children run as the same user
    configure_logging(settings.log_level)
    tempfile.tempdir = str(settings.data_dir)  # uploads are spooled there too
    try:
        job_store = JobStore.open(settings.data_dir)
        engine = OnnxEngine(settings)
    except (JobStoreError, ModelError, DeviceError) as error:
        return _refuse(str(error))
    # Whoever runs the service starts it anew; a thread that hangs cannot be waited for.
    app = create_app(settings, engine, job_store, on_stall=lambda: os._exit(EXIT_STALLED))
    config = make_config(app, settings)
    logging.getLogger("uvicorn.error").setLevel(settings.log_level.upper())
    # uvicorn raises the signal again once it has shut down: ending when told to is a success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = Server(config, settings, on_drain=lambda: drain(app.state.services))
    server.run()
    return 0 if server.started else EXIT_CANNOT_START


def _refuse(reason: str) -> int:
    print(f"cannot start: {reason}", file=sys.stderr)
    return EXIT_CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
