"""Several processes of the service on one machine, behind nginx: started, watched, ended."""

import asyncio
import http.client
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from service.access import read_keys
from service.inference.providers import count_threads
from service.jobs.files.folder import JobFiles
from service.jobs.rows.schema import count_kept_rows
from service.jobs.rows.store import DATABASE, FILES, FOLDER
from service.media.decoder.confinement import die_with_parent
from service.settings import ENV_PREFIX, Settings, SettingsError
from service.workers.merged_metrics import make_registry
from service.workers.nginx import Worker, make_config

EXIT_CANNOT_START = 3
RESTART_S = 1.0
MAX_PORT = 65_535
LOOK_S = 0.2
log = logging.getLogger(__name__)


class Supervisor:
    """Keeps the workers and nginx running until SIGTERM or SIGINT, then lets them end in turn."""

    def __init__(self, settings: Settings, *, is_watched: bool) -> None:
        """Check what is needed; raises SettingsError."""
        self._settings = settings
        self._is_watched = is_watched
        self._nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if self._nginx is None:
            raise SettingsError(
                f"MATTING_WORKERS={settings.workers} needs nginx in front of the workers; "
                "Debian: apt install nginx-light"
            )
        *ports, self._metrics_port = find_ports(settings.port, settings.workers + 1)
        self.workers = [Worker(f"w{number}", port) for number, port in enumerate(ports, 1)]
        check_leftovers(settings)
        self._config = self._write_config()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._is_stopping = False
        self._end = asyncio.Event()
        self._signal = signal.SIGTERM
        self._exit_code = 0

    def run(self) -> int:
        """Serve; return the exit code."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        server, thread = self._start_metrics()
        tasks = {
            worker.name: loop.create_task(self._keep(worker.name, *self._describe(worker)))
            for worker in self.workers
        }
        nginx = [self._nginx or "", *self._config_flags(), "-g", "daemon off;"]
        proxy = loop.create_task(self._keep("nginx", nginx, dict(os.environ)))
        greeting = loop.create_task(self._greet())
        await self._end.wait()
        self._is_stopping = True
        greeting.cancel()
        self._send(self._signal, tasks)
        await asyncio.wait(tasks.values())
        self._send(signal.SIGQUIT, ["nginx"])  # which lets the last answers go out
        await proxy
        server.shutdown()
        server.server_close()
        thread.join()
        return self._exit_code

    async def _keep(self, name: str, command: Sequence[str], environ: dict[str, str]) -> None:
        """Run a process, and again when it ends by itself."""
        while not self._is_stopping:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environ,
                process_group=0,  # a signal of the terminal comes from here, once
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM),
            )
            self._running[name] = process
            code = await process.wait()
            del self._running[name]
            if self._is_stopping:
                return
            log.error("a process ended", extra={"fields": {"process": name, "exit_code": code}})
            if code == EXIT_CANNOT_START:
                self._exit_code = code
                self._end.set()
                return
            await asyncio.sleep(RESTART_S)

    def _stop(self, number: signal.Signals) -> None:
        self._signal = number
        self._end.set()

    def _send(self, number: signal.Signals, names: Iterable[str]) -> None:
        for name in names:
            if process := self._running.get(name):
                process.send_signal(number)

    async def _greet(self) -> None:
        """Say once that all workers are ready."""
        while not all([await asyncio.to_thread(is_ready, worker) for worker in self.workers]):
            await asyncio.sleep(LOOK_S)
        address, count = f"http://{self._settings.host}:{self._settings.port}", len(self.workers)
        if self._is_watched:
            print(f"Ready: {address}, {count} processes; Ctrl-C stops them", file=sys.stderr)
        log.info("serving", extra={"fields": {"address": address, "workers": count}})

    def _describe(self, worker: Worker) -> tuple[list[str], dict[str, str]]:
        """Return the command and the environment of a worker."""
        settings, share = self._settings, len(self.workers)
        cores = count_threads()
        folder = settings.data_dir / worker.name
        folder.mkdir(0o700, exist_ok=True)
        own = {
            "worker": worker.name,
            "workers": 1,
            "host": "127.0.0.1",
            "port": worker.port,
            "data_dir": folder,
            "threads": settings.threads or max(1, cores // share),
            "decoders": settings.decoders or max(1, cores // 2 // share),
        }
        environ = dict(os.environ)
        environ |= {f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in own.items()}
        return [sys.executable, "-m", "service"], environ

    def _write_config(self) -> Path:
        """Write nginx.conf and have nginx check it; raises SettingsError."""
        folder = self._settings.data_dir / "nginx"
        folder.mkdir(0o700, exist_ok=True)
        text = make_config(
            self._settings,
            self.workers,
            folder=str(folder),
            metrics_port=self._metrics_port,
            has_quotas=has_quotas(self._settings),
        )
        path = folder / "nginx.conf"
        path.write_text(text)
        self._config = path
        command = [self._nginx or "", *self._config_flags(), "-t", "-q"]
        checked = subprocess.run(command, capture_output=True, text=True)
        if checked.returncode != 0:
            raise SettingsError(f"nginx does not take its configuration: {checked.stderr.strip()}")
        return path

    def _start_metrics(self) -> tuple[WSGIServer, Thread]:
        registry = make_registry(self.workers)
        return start_http_server(self._metrics_port, "127.0.0.1", registry)

    def _config_flags(self) -> list[str]:
        return ["-p", str(self._config.parent), "-c", str(self._config), "-e", "stderr"]


def find_ports(port: int, count: int) -> list[int]:
    """Return the first ports of loopback after `port` that nobody has; raises SettingsError.

    Near `port` and not where the system would choose: a process that is started again finds its own
    port free there.
    """
    found: list[int] = []
    for candidate in range(port + 1, MAX_PORT + 1) if port else ():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        found.append(candidate)
        if len(found) == count:
            return found
    raise SettingsError(f"MATTING_PORT={port}: workers need ports after it, {count} of them")


def has_quotas(settings: Settings) -> bool:
    """Say whether a key has a quota; raises SettingsError for a file that cannot be read."""
    if settings.keys_file is None:
        return False
    return any(any(h.quotas.values()) for h in read_keys(settings.keys_file)[0].values())


def check_leftovers(settings: Settings) -> None:
    """Raise SettingsError where jobs lie in the data folder that no worker would find."""
    served = {f"w{number}" for number in range(1, settings.workers + 1)}
    folders = [settings.data_dir, *settings.data_dir.glob("w[0-9]*")]
    for folder in folders:
        if folder.name not in served and has_jobs(folder / FOLDER):
            raise SettingsError(
                f"{folder} holds jobs of another number of workers than MATTING_WORKERS="
                f"{settings.workers}: let them end with that number, or remove {folder / FOLDER}"
            )


def has_jobs(folder: Path) -> bool:
    """Say whether a folder of jobs has files of some, or rows of some whose files are elsewhere."""
    if JobFiles(folder / FILES).list_ids():
        return True
    return (folder / DATABASE).exists() and count_kept_rows(folder / DATABASE) > 0


def is_ready(worker: Worker) -> bool:
    """Say whether a worker takes work."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
