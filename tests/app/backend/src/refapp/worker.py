"""The worker: takes jobs from the queue until it is told to stop, and loses none."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from uuid import UUID

import httpx
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from refapp.database import SchemaMismatchError
from refapp.heartbeat import HEARTBEAT, HEARTBEAT_SECONDS
from refapp.parse import UnreadableError
from refapp.pipeline import Pipeline
from refapp.services import Services

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
RETRY_DELAYS_SECONDS = (2.0, 5.0, 15.0, 45.0)

#: An accepted document without a job is put in the queue after this; a moment without one is normal.
SWEEP_AFTER_SECONDS = 60.0

#: What passes when a store comes back.
STORE_AWAY = (RedisError, SQLAlchemyError, httpx.HTTPError, OSError)


class Worker:
    """A few threads do the jobs; the main thread shows that they live and brings back what others left behind."""

    def __init__(
        self,
        services: Services,
        *,
        name: str | None = None,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_SECONDS,
        heartbeat: Path = HEARTBEAT,
    ) -> None:
        self._services = services
        self._queue = services.queue
        self._pipeline = Pipeline(services)
        self._name = name or socket.gethostname()
        self._retry_delays_s = retry_delays_s
        self._heartbeat = heartbeat
        self._stop = Event()

    def stop(self) -> None:
        """Finish the jobs in hand, then end."""
        self._stop.set()

    def run(self) -> int:
        """Work until stopped; the exit status."""
        logger.info("worker starts")
        slots: list[Thread] = []
        while not self._stop.is_set():
            if any(not slot.is_alive() for slot in slots):
                logger.error("a slot died")
                return 1  # the other slots' jobs are orphans, which the next worker picks up
            if self._keep_house(starting=not slots) and not slots:
                slots = self._start_slots()
            self._stop.wait(HEARTBEAT_SECONDS)
        while any(slot.is_alive() for slot in slots):
            self._keep_alive()
            slots[0].join(HEARTBEAT_SECONDS)
            slots = [slot for slot in slots if slot.is_alive()]
        self._sign_off()
        logger.info("worker ends")
        return 0

    def _start_slots(self) -> list[Thread]:
        count = self._services.settings.batch.max_concurrent_parses
        slots = [Thread(target=self._work, name=f"slot-{number}", daemon=True) for number in range(count)]
        for slot in slots:
            slot.start()
        return slots

    # In the main thread.

    def _keep_house(self, starting: bool) -> bool:
        """Show that this worker lives, put back lost jobs; False when a store was away."""
        try:
            self._heartbeat.touch()
            self._queue.sign_of_life(self._name)
            orphans = self._queue.requeue_orphans(starting=self._name if starting else None)
            swept = self._sweep() if starting else 0
        except (*STORE_AWAY, SchemaMismatchError) as error:
            logger.warning("waiting: %s", _describe(error))
            return False
        if orphans or swept:
            logger.info("jobs put back", extra={"fields": {"orphans": orphans, "swept": swept}})
        return True

    def _sweep(self) -> int:
        """Queue documents that have no job, as after Redis was lost or the database restored."""
        jobs = self._queue.jobs()
        lost = [str(each) for each in self._services.documents.unfinished(SWEEP_AFTER_SECONDS) if str(each) not in jobs]
        for job in lost:
            self._queue.push(job)
        return len(lost)

    def _keep_alive(self) -> None:
        self._heartbeat.touch()
        with contextlib.suppress(RedisError):  # at worst a job in hand is done twice
            self._queue.sign_of_life(self._name)

    def _sign_off(self) -> None:
        self._heartbeat.unlink(missing_ok=True)
        try:
            self._queue.sign_off(self._name)
        except RedisError as error:
            logger.warning("could not sign off: %s", _describe(error))

    # In the slots.

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._services.documents.check()  # no job for a release that does not fit the schema
                job = self._queue.take(self._name, wait_s=1)
            except (*STORE_AWAY, SchemaMismatchError) as error:
                logger.warning("waiting: %s", _describe(error))
                self._stop.wait(HEARTBEAT_SECONDS)
                continue
            if job is not None:
                self.handle(job)

    def handle(self, job: str) -> None:
        """Try until the job is done or has failed; when told to stop between attempts, give it back."""
        retries = 0
        while True:
            try:
                return self._attempt(job)
            except STORE_AWAY as error:
                logger.warning("job waits: %s", _describe(error), extra={"fields": {"document": job}})
            except SchemaMismatchError as error:
                # Not the document's fault and not this release's to solve.
                logger.warning("job given back: %s", error, extra={"fields": {"document": job}})
                return self._give_back(job)
            delay = self._retry_delays_s[min(retries, len(self._retry_delays_s) - 1)]
            retries += 1
            if self._stop.wait(delay):
                return self._give_back(job)

    def _attempt(self, job: str) -> None:
        """One attempt. Raises one of STORE_AWAY as long as another one is worth while."""
        began = time.monotonic()
        document, number = UUID(job), self._queue.count_attempt(job)
        outcome = "failed"
        if number > MAX_ATTEMPTS:
            # The last attempt ended before it could be recorded: the worker or the database went away.
            self._pipeline.fail(document, f"Given up after {MAX_ATTEMPTS} attempts.")
        else:
            try:
                self._pipeline.process(document)
                outcome = "success"
            except UnreadableError as error:
                self._pipeline.fail(document, str(error))
            except STORE_AWAY:
                if number < MAX_ATTEMPTS:
                    raise
                self._pipeline.fail(document, f"A store was away in each of {MAX_ATTEMPTS} attempts.")
            except SchemaMismatchError:
                raise
            except Exception:
                logger.exception("job failed", extra={"fields": {"document": job}})
                self._pipeline.fail(document, "Something went wrong here.")
        self._queue.acknowledge(self._name, job)
        fields = {
            "document": job,
            "outcome": outcome,
            "attempt": number,
            "duration_ms": round((time.monotonic() - began) * 1000),
        }
        logger.info("job ended", extra={"fields": fields})

    def _give_back(self, job: str) -> None:
        try:
            self._queue.give_back(self._name, job)
        except RedisError as error:
            # It stays in this worker's processing list, from where the next worker fetches it.
            logger.warning("job not given back: %s", _describe(error))


def _describe(error: Exception) -> str:
    """The kind of error; only our own texts are known to be free of addresses and data."""
    return str(error) if isinstance(error, SchemaMismatchError) else type(error).__name__
