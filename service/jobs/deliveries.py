"""Deliveries of finished jobs: results by PUT, then a signed webhook, tried again with back-off.

Webhooks follow Standard Webhooks (https://www.standardwebhooks.com).
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.errors import MattingError
from service.jobs.options import JobOptions
from service.jobs.rows.store import Job, JobStore, LeaseLost
from service.outgoing.calls import CallFailed, OutgoingCalls, describe_failure
from service.outgoing.guard import hide_query
from service.runtime import Runtime
from service.settings.values import decode_secret
from service.shares import SharedPlaces

log = logging.getLogger(__name__)
AT_ONCE, OWN_AT_ONCE = 8, 3  # calls, of all keys and of each: receivers may be slow
LOOK_S = 1.0
GONE = 410
SENT_STATES = ("succeeded", "failed")
# The states of a delivery.
PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"


@dataclass(frozen=True)
class Target:
    """One call: a result by its number, or the webhook where that is None."""

    url: str
    result: int | None = None


class Deliveries:
    """Sends what finished jobs have to send; methods run on the event loop.

    `describe` makes the document that a webhook carries. The log of a job says of each call where
    it went, its state and its tries; a new process goes on with those that are pending.
    """

    def __init__(
        self,
        store: JobStore,
        runtime: Runtime,
        outgoing: OutgoingCalls,
        describe: Callable[[Job], dict[str, Any]],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settings = runtime.settings
        self._metrics = runtime.metrics
        self._outgoing = outgoing
        self._describe = describe
        self._clock = clock
        self._places = SharedPlaces(AT_ONCE, OWN_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Look for what other services have left unsent, where the jobs are shared."""
        if self._store.is_shared:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def schedule(self, job: Job) -> None:
        """Send what a finished job has to send, if there is any and it was not sent before."""
        if job.state not in SENT_STATES or job.id in self._tasks:
            return
        log_is_final = job.deliveries and all(one["state"] != PENDING for one in job.deliveries)
        if log_is_final or not list_targets(job):
            return
        self._store.kept.add(job.id)  # until all is sent, or another service goes on
        if self._is_closed:
            return
        task = asyncio.get_running_loop().create_task(self._send_all(job.id))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def aclose(self) -> None:
        """Stop; what is pending goes on with the next process, or with another service."""
        self._is_closed = True
        tasks = [*self._tasks.values(), *filter(None, [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Take over, one after the other, what a service that is gone has left."""
        while True:
            await asyncio.sleep(LOOK_S)
            with suppress(MattingError):  # a database that is away; the next look asks again
                job_id = await self._store.ask(self._store.claim_delivery)
                if job_id is None:
                    continue
                job = await self._store.ask(self._store.load, job_id)
                if job is not None:
                    self.schedule(job)
                if job_id not in self._tasks:
                    await self._let_go(job_id)

    async def _send_all(self, job_id: str) -> None:
        try:
            await self._deliver(job_id)
            await self._let_go(job_id)
        except LeaseLost:
            self._store.kept.discard(job_id)  # another service goes on
        except MattingError:
            log.warning("deliveries were left to later", extra={"fields": {"job": job_id}})

    async def _let_go(self, job_id: str) -> None:
        self._store.kept.discard(job_id)
        await self._store.ask(self._store.release, job_id)

    async def _deliver(self, job_id: str) -> None:
        job = await self._store.ask(self._store.load, job_id)
        if job is None:
            return
        targets = list_targets(job)
        entries = [dict(one) for one in job.deliveries] or [begin_entry(job, t) for t in targets]
        for target, entry in zip(targets, entries, strict=True):
            while entry["state"] == PENDING:
                if pause_s := self._choose_pause(entry):
                    await asyncio.sleep(pause_s)
                job = await self._store.ask(self._store.load, job_id)
                if job is None or job.state not in SENT_STATES:  # deleted or expired meanwhile
                    return
                async with self._places.hold(job.owner):
                    await self._try(job, target, entry)
                with suppress(MattingError):  # a full disk keeps no log, and stops nothing
                    await self._store.ask(self._store.update, job_id, deliveries=tuple(entries))

    def _choose_pause(self, entry: dict[str, Any]) -> float:
        tries = len(entry["tries"])
        return self._settings.delivery_retry_s * 2 ** (tries - 1) if tries else 0.0

    async def _try(self, job: Job, target: Target, entry: dict[str, Any]) -> None:
        """Make one call and write down what came of it."""
        status, failure = None, None
        try:
            status = await self._call(job, target)
        except (CallFailed, MattingError, TimeoutError, FileNotFoundError) as error:
            failure = describe_failure(error)
        entry["tries"].append({"at": self._clock(), "status": status, "error": failure})
        if status is not None and 200 <= status < 300:
            entry["state"] = DELIVERED
        elif status == GONE or len(entry["tries"]) >= self._settings.delivery_tries:
            entry["state"] = FAILED
            fields = {"job": job.id, "to": entry["url"], "status": status, "why": failure}
            log.warning("a delivery was given up", extra={"fields": fields})
        if entry["state"] != PENDING:
            self._metrics.deliveries.labels(entry["kind"], entry["state"]).inc()

    async def _call(self, job: Job, target: Target) -> int:
        if target.result is None:
            body = json.dumps(self._make_event(job)).encode()
            message_id, second = f"msg_{job.id}", int(self._clock())
            headers = {"Content-Type": "application/json"}
            headers |= sign(self._settings.webhook_secret or "", message_id, second, body)
            return await self._outgoing.post(target.url, body, headers)
        result = job.results[target.result]
        disk, size, kind = self._store.disk, result.bytes, result.content_type
        with await disk.run(self._store.files.open_result, job.id, result) as file:
            return await self._outgoing.put(target.url, file, size, kind, disk)

    def _make_event(self, job: Job) -> dict[str, Any]:
        ended = job.expires_s - self._settings.job_ttl_s
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ended))
        return {"type": f"job.{job.state}", "timestamp": moment, "data": self._describe(job)}


def list_targets(job: Job) -> list[Target]:
    """Return what a job has to send: results only of one that has succeeded."""
    options = JobOptions.model_construct(**job.options)
    puts = [Target(url, number) for number, url in enumerate(options.put_urls)]
    targets = puts if job.state == "succeeded" else []
    return [*targets, Target(options.webhook)] if options.webhook else targets


def begin_entry(job: Job, target: Target) -> dict[str, Any]:
    """Return the log of a call that was not made yet."""
    kind = "webhook" if target.result is None else "result"
    name = None if target.result is None else job.results[target.result].name
    return {
        "kind": kind,
        "name": name,
        "url": hide_query(target.url),
        "state": PENDING,
        "tries": [],
    }


def sign(secret: str, message_id: str, second: int, body: bytes) -> dict[str, str]:
    """Return the headers of a webhook: its id, its time, HMAC-SHA256 over both and the body."""
    signed = f"{message_id}.{second}.".encode() + body
    digest = hmac.digest(decode_secret(secret), signed, hashlib.sha256)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(second),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
