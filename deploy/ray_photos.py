"""Matte a folder of photos on a Ray cluster, and go on where an earlier run ended.

    python -m deploy.ray_photos IN OUT --cpus 2 --format webp --output cutout

IN and OUT are folders that all machines mount. The options are those of `matte folder`, and so are
the names of the results; a result has its name once it is whole, and a photo that has one is done.
`OUT/.matte/ray.json` says with which options; `OUT/report/` has a line of JSON for each photo.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray

from cli.local import Place, explain
from cli.stills.backend import open_backend
from cli.stills.folder import identify
from cli.stills.journal import WORK_FOLDER
from cli.stills.request import StillRequest, make_request
from cli.stills.tree import check_folders, find_photos
from service.errors import InvalidOption, MattingError

BATCH = 16  # photos of a task: a worker that dies has at most these to do again
Batch = dict[str, Any]


class PhotoMatter:
    """Mattes photos in a worker of the cluster that keeps the network."""

    def __init__(self, source: str, out: str, given: dict[str, str], cpus: int) -> None:
        os.environ["MATTING_THREADS"] = str(cpus)
        self._source, self._out = Path(source), Path(out)
        self._request = make_request(given)
        self._loop, self._stack = asyncio.new_event_loop(), AsyncExitStack()
        backend = open_backend(Place(given.get("model"), None, None, None), photos=cpus)
        self._backend = self._loop.run_until_complete(self._stack.enter_async_context(backend))
        self._limit = asyncio.Semaphore(cpus)

    def __call__(self, batch: Batch) -> Batch:
        """Matte photos, columns `file` and `result`; return the lines of the report."""
        pairs = [(str(a), str(b)) for a, b in zip(batch["file"], batch["result"], strict=True)]
        return {"line": np.array(self._loop.run_until_complete(self._matte_all(pairs)))}

    async def _matte_all(self, pairs: list[tuple[str, str]]) -> list[str]:
        return await asyncio.gather(*(self._matte(file, result) for file, result in pairs))

    async def _matte(self, file: str, result: str) -> str:
        async with self._limit:
            try:
                content = await asyncio.to_thread((self._source / file).read_bytes)
                matted = await self._backend.matte(content, self._request)
                await asyncio.to_thread(write_whole, self._out / result, matted.content)
            except (MattingError, OSError) as error:
                text = explain(error) if isinstance(error, MattingError) else str(error)
                return json.dumps({"file": file, "status": "failed", "problem": text})
        return json.dumps({"file": file, "status": "done", "result": result} | matted.metadata)


def write_whole(path: Path, content: bytes) -> None:
    """Give a file its name once it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    part.replace(path)


def claim(out: Path, request: StillRequest, given: dict[str, str]) -> None:
    """Write down what OUT is made with; raises InvalidOption when that was something else."""
    told = {"identity": identify(request, given.get("model", "auto")), "options": given}
    path = out / WORK_FOLDER / "ray.json"
    if path.exists():
        before = json.loads(path.read_text())
        if before["identity"] != told["identity"]:
            raise InvalidOption(
                f"{out} was begun with {before['options']}", hint="take these, or another OUT"
            )
        return
    write_whole(path, json.dumps(told).encode())


def matte_folder(source: Path, out: Path, given: dict[str, str], *, cpus: int) -> tuple[int, int]:
    """Matte what is not done yet; return how many photos were done before and are there now.

    Raises InvalidOption, ImpossibleOutput and OSError.
    """
    request = make_request(given)
    check_folders(source, out)
    claim(out, request, given)
    photos = find_photos(source, out, request.suffix)
    waiting = [one for one in photos if not (out / one.result).exists()]
    if waiting:
        rows = [{"file": str(one.file), "result": str(one.result)} for one in waiting]
        blocks = max(1, len(rows) // BATCH)
        worker_count = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
        matted = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            PhotoMatter,
            fn_constructor_args=(str(source), str(out), given, cpus),
            batch_size=BATCH,
            num_cpus=cpus,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=worker_count),
        )
        report = out / "report"
        report.mkdir(exist_ok=True)
        with (report / f"{time.time_ns()}.jsonl").open("w") as file:
            for row in matted.iter_rows():
                file.write(f"{row['line']}\n")
    done = sum((out / one.result).exists() for one in photos)
    return len(photos) - len(waiting), done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--cpus", type=int, default=2, help="cores of each worker")
    known, rest = parser.parse_known_args()
    names, values = rest[::2], rest[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        parser.error("options are --name value")
    given = {n[2:].replace("-", "_"): v for n, v in zip(names, values, strict=True)}
    ray.init(address="auto")
    try:
        before, done = matte_folder(known.source, known.out, given, cpus=known.cpus)
    except MattingError as error:
        parser.error(explain(error))
    print(f"{done} photos have a result, {before} of them from before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
