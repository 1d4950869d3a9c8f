"""Processes that share each batch and add up their gradients (gloo, on the machine's loopback)."""

import datetime
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from training.loop.stop import TrainError

# The others wait while the first one validates.
PATIENCE = datetime.timedelta(hours=24)
POLL_S = 0.2
END_S = 10.0


class Group:
    """The place of this process among `size`; number 0 leads: it validates, saves and speaks."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace the float32 tensors by their sums over all processes."""
        if self.size == 1:
            return
        flat = _flatten_dense_tensors(tensors)
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise TrainError("another training process has ended") from error
        for tensor, total in zip(tensors, _unflatten_dense_tensors(flat, tensors), strict=True):
            tensor.copy_(total)

    def wait(self) -> None:
        """Return when all processes are here."""
        self.add_up([torch.zeros(1)])


@contextmanager
def share_work(size: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> Iterator[Group]:
    """Start `size` - 1 processes that run `work(group, *arguments)`; give this one's group.

    Both sides must take the same number of steps. Raises TrainError with the message of a process
    that failed.
    """
    if size == 1:
        yield Group()
        return
    context = multiprocessing.get_context("spawn")
    helpers: list[tuple[BaseProcess, Connection]] = []
    with tempfile.TemporaryDirectory(prefix="matte-train-") as folder:
        place = str(Path(folder) / "meeting")
        try:
            for rank in range(1, size):
                here, there = context.Pipe()
                process = context.Process(
                    target=run_helper, args=(rank, size, place, there, work, arguments)
                )
                process.start()
                there.close()
                helpers.append((process, here))
            for process, connection in helpers:
                await_message(process, connection)
            join_group(0, size, place)
            yield Group(0, size)
        except TrainError as error:
            messages = [read_message(connection) for _, connection in helpers]
            raise TrainError(next(filter(None, messages), str(error))) from error
        finally:
            leave_group()
            for process, _ in helpers:
                process.join(END_S)
                process.kill()  # nothing, where it has ended


def run_helper(
    rank: int,
    size: int,
    place: str,
    connection: Connection,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Take part in the work; the leader decides when to stop, signals are for it alone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    connection.send("")  # here, and all modules are loaded
    message = ""
    try:
        join_group(rank, size, place)
        work(Group(rank, size), *arguments)
    except (RuntimeError, ValueError, OSError) as error:
        message = str(error)
    finally:
        connection.send(message)
        leave_group()


def await_message(process: BaseProcess, connection: Connection) -> None:
    """Return when the process has said that it is here; TrainError if it ends before."""
    while not connection.poll(POLL_S):
        if not process.is_alive():
            raise TrainError(f"a training process ended with {process.exitcode} at its start")
    connection.recv()


def read_message(connection: Connection) -> str:
    """Return what a failed process said; empty if it said nothing."""
    try:
        return connection.recv() if connection.poll(POLL_S) else ""
    except EOFError:
        return ""


def join_group(rank: int, size: int, place: str) -> None:
    """Meet the other processes in the file `place`."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=size, timeout=PATIENCE
    )


def leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
