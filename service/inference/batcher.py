"""Greedy batching: a free engine takes all that waits, without delay."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, Draining, MattingError
from service.inference.engine import OUT_OF_MEMORY, Engine, InferenceError, State
from service.inference.fair_queue import SOMEBODY, Caller, FairQueue
from service.inference.health import Health
from service.inference.lanes import LANES, Lanes
from service.inference.models import NetworkInput
from service.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Matte:
    """A matte at network size, (h, w) float32 in [0, 1], and where its time went in seconds.

    `share_s` is the part of `inference_s` that was its own: of a batch or of runs side by side.
    `state` is what a recurrent network wants to see again with the next frame.
    """

    alpha: NDArray[np.float32]
    queue_s: float = 0
    inference_s: float = 0
    share_s: float = 0
    state: State = ()


@dataclass
class Entry:
    """One picture that waits, as the network takes it, the state before it, and whom to tell."""

    tensor: NetworkInput
    state: State
    deadline_s: float
    queued_s: float
    future: asyncio.Future[Matte] = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def cost(self) -> int:
        """Values of the input, the measure of fair shares."""
        return self.tensor.size


class InferenceFailed(MattingError):
    title = "The network failed on this picture"


class Batcher:
    """Runs entries of equal size together, one batch after another or two side by side (`Lanes`).

    Whose entry is next says `FairQueue`; those of its size go with it, up to the batch size. A
    batch that fails is run again one by one, so that one picture cannot fail the others. When
    memory has run out the engine gives it back, and runs half as many at once from then on.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        health: Health,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._queue: FairQueue[Entry] = FairQueue()
        self._counted = 0
        self._arrived = asyncio.Event()
        self._closed = False
        self._lanes = Lanes(engine, self._arrived.set, clock)
        self._runs: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(LANES, thread_name_prefix="inference")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def infer(
        self,
        tensor: NetworkInput,
        *,
        timeout_s: float,
        caller: Caller = SOMEBODY,
        state: State = (),
    ) -> Matte:
        """Return the matte of one input of `prepare_input`; `state` is that of the frame before.

        Raises DeadlineExceeded when it waited longer than `timeout_s`, InferenceFailed when the
        network cannot do it, Draining at shutdown. Cancelling the call takes it out of the queue.
        """
        if self._closed:
            raise Draining("the service is shutting down", retry_after_s=1)
        future: asyncio.Future[Matte] = asyncio.get_running_loop().create_future()
        now_s = self._clock()
        entry = Entry(tensor, state, now_s + timeout_s, now_s, future)
        self._queue.push(caller, entry)
        self._arrived.set()
        self._count_waiting()
        try:
            # Also while a run hangs, and nothing is taken out of the queue.
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise _refuse_late(timeout_s) from None
        finally:
            self._queue.remove(caller, entry)
            self._count_waiting()

    @property
    def waiting(self) -> int:
        """Pictures that no run has begun with."""
        return len(self._queue)

    @property
    def run_s(self) -> float:
        """Seconds since the oldest run in progress began, 0 when there is none."""
        return self._lanes.run_s

    async def aclose(self) -> None:
        """Finish the batches that run; fail what waits."""
        self._closed = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        await asyncio.gather(*self._runs)
        await self._lanes.aclose()
        for entry in self._queue:
            if not entry.future.done():
                entry.future.set_exception(Draining("the service is shutting down"))
        self._queue = FairQueue()
        self._count_waiting()
        self._threads.shutdown()

    async def _work(self) -> None:
        while not self._closed:
            queue = self._queue
            engine = self._lanes.choose(len(queue), is_live=queue.has_live)
            entries = [] if engine is None else self._pop_batch(engine.max_batch_size)
            if engine is not None and entries:
                run = asyncio.create_task(self._run(engine, entries))
                self._runs.add(run)
                run.add_done_callback(self._runs.discard)
                await asyncio.sleep(0)  # from here on it is counted
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _pop_batch(self, most: int) -> list[Entry]:
        """Take the entries to run next; those that are too late go out."""
        entries: list[Entry] = []
        while self._queue and not entries:
            for entry in self._queue.pop_batch(most):
                if entry.future.done():
                    continue
                if self._clock() > entry.deadline_s:
                    waited_s = self._clock() - entry.queued_s
                    entry.future.set_exception(_refuse_late(waited_s))
                    continue
                entries.append(entry)
        self._count_waiting()
        return entries

    def _count_waiting(self) -> None:
        waiting = len(self._queue)
        # The queues of all models add up.
        self._metrics.queue_depth.inc(waiting - self._counted)
        self._counted = waiting

    def _run_engine(
        self, engine: Engine, entries: list[Entry]
    ) -> tuple[NDArray[np.float32], State]:
        first, *others = (entry.tensor for entry in entries)
        # One alone is not copied.
        batch: NetworkInput = np.stack([first, *others]) if others else first[np.newaxis]
        if engine.info.is_recurrent:
            alphas, state = engine.run_next(batch, entries[0].state)
        else:
            alphas, state = engine.run(batch), ()
        if np.shape(alphas) != (batch.shape[0], *engine.info.read_size(batch)):
            raise InferenceError("shape", f"mattes {np.shape(alphas)} for input {batch.shape}")
        return alphas, state

    async def _run(self, engine: Engine, entries: list[Entry]) -> None:
        """Run a batch, and what failed of it once more; nothing else begins on its cores."""
        with self._lanes.run(engine) as restart:
            await self._run_batch(engine, entries, restart)

    async def _run_batch(
        self,
        engine: Engine,
        entries: list[Entry],
        restart: Callable[[], None],
        *,
        is_last_try: bool = False,
    ) -> None:
        restart()
        start_s = self._clock()
        name = engine.info.name
        loop = asyncio.get_running_loop()
        try:
            alphas, state = await loop.run_in_executor(
                self._threads, self._run_engine, engine, entries
            )
        except Exception as error:  # whatever an engine throws, the loop must live
            kind = error.kind if isinstance(error, InferenceError) else "unforeseen"
            self._metrics.inference_failures.labels(kind).inc()
            log.warning("a run of the network failed", exc_info=True)
            runs_out = kind == OUT_OF_MEMORY and not is_last_try
            if runs_out:
                await self._recover(engine)
            if len(entries) > 1 or runs_out:
                await self._run_parts(entries, restart, halves=runs_out)
                return
            self._health.report_failure(name, f"the network `{name}` failed: {kind}")
            if not entries[0].future.done():
                entries[0].future.set_exception(
                    InferenceFailed("the network failed on this picture")
                )
            return
        self._health.report_success(name)
        run_s = self._clock() - start_s
        self._metrics.batch_size.observe(len(entries))
        share_s = run_s / len(entries) / self._lanes.count(engine)
        for entry, alpha in zip(entries, alphas, strict=True):
            if not entry.future.done():
                queue_s = start_s - entry.queued_s
                entry.future.set_result(Matte(alpha, queue_s, run_s, share_s, state))

    async def _run_parts(
        self, entries: list[Entry], restart: Callable[[], None], *, halves: bool
    ) -> None:
        """Run what failed again: one by one, or as many at once as the engine takes now."""
        waiting = entries
        while waiting := [entry for entry in waiting if not entry.future.done()]:
            size = min(self.engine.max_batch_size, -(-len(entries) // 2)) if halves else 1
            is_last = len(entries) == 1
            await self._run_batch(self.engine, waiting[:size], restart, is_last_try=is_last)
            waiting = waiting[size:]

    async def _recover(self, engine: Engine) -> None:
        """Give memory back: that of the engine for runs side by side, if it is this one."""
        fields: dict[str, object] = {"model": engine.info.name}
        if not self._lanes.give_up(engine):
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, engine.recover)
            except Exception:  # the next run says it again
                log.exception("the network could not be loaded again")
            fields["max_batch_size"] = engine.max_batch_size
        log.warning("memory of the network ran out", extra={"fields": fields})


def _refuse_late(waited_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"waited {waited_s:.1f} s for the network",
        hint="send the request again later",
        retry_after_s=1,
    )
