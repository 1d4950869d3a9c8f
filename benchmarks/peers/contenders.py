"""Who takes part: this service over HTTP, and peers in processes of their own."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import httpx
import psutil

WORKER = Path(__file__).with_name("worker.py")
TIMEOUT_S = 600


@dataclass(frozen=True)
class Took:
    """What one file took: seconds, seconds of all cores, and memory of all processes so far."""

    wall_s: float
    core_s: float
    rss_mib: float


class Contender(Protocol):
    """Something that mattes files."""

    does_clips: bool

    def photo(self, path: Path, out: Path) -> Took:
        """Write the alpha of a photo as PNG."""

    def clip(self, path: Path, out: Path) -> Took:
        """Write a clip with the people over green as MP4."""


@dataclass(frozen=True)
class Service:
    """This service with one of its models; `process` is its first process."""

    client: httpx.Client
    process: psutil.Process
    model: str
    does_clips: bool = True

    def photo(self, path: Path, out: Path) -> Took:
        return self._post("/v1/image", path, out)

    def clip(self, path: Path, out: Path) -> Took:
        return self._post("/v1/video", path, out, outputs="composite", background="lime")

    def _post(self, route: str, path: Path, out: Path, **options: str) -> Took:
        start_s, start_core_s = perf_counter(), self._read_core_s()
        with path.open("rb") as file:
            data = {"model": self.model} | options
            answer = self.client.post(route, files={"file": file}, data=data)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text[:300]}")
        out.write_bytes(answer.content)
        wall_s = perf_counter() - start_s
        family = [self.process, *self.process.children(recursive=True)]
        rss_mib = sum(process.memory_info().rss for process in family) / 2**20
        return Took(wall_s, self._read_core_s() - start_core_s, rss_mib)

    def _read_core_s(self) -> float:
        """Return the processor time of the service, of its children, and of this client."""
        own = self.process.cpu_times()
        family = [psutil.Process(), *self.process.children(recursive=True)]
        times = [own, *(process.cpu_times() for process in family)]
        ended_s = own.children_user + own.children_system
        return float(sum(time.user + time.system for time in times) + ended_s)


def find_service(port: int, model: str) -> Service:
    """Return the service that this process has started on `port`."""
    process = psutil.Process().children()[-1]
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S)
    return Service(client, process, model)


@dataclass(frozen=True)
class Worker:
    """A peer that answers lines of JSON (see worker.py)."""

    process: subprocess.Popen[str]
    does_clips: bool

    def photo(self, path: Path, out: Path) -> Took:
        return self._ask(photo=str(path), out=str(out))

    def clip(self, path: Path, out: Path) -> Took:
        return self._ask(clip=str(path), out=str(out))

    def _ask(self, **job: str) -> Took:
        assert self.process.stdin is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return Took(**self.read())

    def read(self) -> dict[str, float]:
        """Return the next answer; raises SystemExit when the peer has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args}: ended")
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def open_worker(python: Path, kind: str) -> Iterator[Worker]:
    """Start a peer in its environment; `make bench-peers` makes those."""
    pipe = subprocess.PIPE
    command = [python, WORKER, kind]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        worker = Worker(process, does_clips=kind == "rvm")
        worker.read()
        yield worker
        process.terminate()
