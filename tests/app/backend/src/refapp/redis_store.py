"""Redis: the job queue, the cache, rate limits and the counters workers share with /api/metrics."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from redis.retry import Retry

from refapp.settings import Limits, RedisSettings, read_secret

#: Every key of the app starts with this, so that an ACL can be narrow.
PREFIX = "flowaudit:"

#: Cache topic of every answer that changes when a document does.
DOCUMENTS = "documents"


class _PasswordFile(CredentialProvider):
    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str, str]:
        return self._settings.username, read_secret(self._settings.password_file)


def make_client(settings: RedisSettings, timeout_s: float = 2.0) -> Redis:
    """A client that fails within `timeout_s`, once: callers decide whether to try again."""
    return Redis(
        host=settings.host,
        port=settings.port,
        credential_provider=_PasswordFile(settings),
        decode_responses=True,
        max_connections=32,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=15,
    )


class Queue:
    """A reliable queue: a job is in the queue or in one worker's processing list until it is acknowledged.

    A worker that dies leaves its processing list behind; when its sign of life (a key with a lifetime) has
    gone, any other worker puts those jobs back.
    """

    JOBS = PREFIX + "queue"
    ATTEMPTS = PREFIX + "attempts"
    WORKERS = PREFIX + "workers"
    ALIVE_SECONDS = 30

    def __init__(self, client: Redis) -> None:
        self._redis = client

    @staticmethod
    def _processing(worker: str) -> str:
        return f"{PREFIX}processing:{worker}"

    @staticmethod
    def _alive(worker: str) -> str:
        return f"{PREFIX}alive:{worker}"

    def push(self, job: str) -> None:
        self._redis.lpush(self.JOBS, job)

    def take(self, worker: str, wait_s: int) -> str | None:
        """The oldest job, now in the worker's processing list; None when there is none for `wait_s`."""
        return cast("str | None", self._redis.blmove(self.JOBS, self._processing(worker), wait_s, "RIGHT", "LEFT"))

    def count_attempt(self, job: str) -> int:
        """The number of this attempt. It survives a crash, so a job that kills its worker is found out."""
        return self._redis.hincrby(self.ATTEMPTS, job, 1)

    def acknowledge(self, worker: str, job: str) -> None:
        self._redis.hdel(self.ATTEMPTS, job)
        self._redis.lrem(self._processing(worker), 1, job)

    def give_back(self, worker: str, job: str) -> None:
        """Put the job at the head of the queue; twice in the queue is harmless, lost is not."""
        self._redis.rpush(self.JOBS, job)
        self.acknowledge(worker, job)

    def sign_of_life(self, worker: str) -> None:
        self._redis.sadd(self.WORKERS, worker)
        self._redis.set(self._alive(worker), "1", ex=self.ALIVE_SECONDS)

    def sign_off(self, worker: str) -> None:
        """Forget a worker whose processing list is empty."""
        self._redis.delete(self._alive(worker))
        if not self._redis.llen(self._processing(worker)):
            self._redis.srem(self.WORKERS, worker)

    def requeue_orphans(self, starting: str | None = None) -> int:
        """Put back the jobs of workers that are gone, and of `starting`, which has none in hand yet."""
        count = 0
        for worker in self._workers():
            if worker != starting and self._redis.exists(self._alive(worker)):
                continue
            while self._redis.lmove(self._processing(worker), self.JOBS, "RIGHT", "RIGHT"):
                count += 1
            if worker != starting:
                self._redis.srem(self.WORKERS, worker)
        return count

    def jobs(self) -> set[str]:
        """Every job that is waiting or in hand."""
        lists = [self.JOBS, *map(self._processing, self._workers())]
        return {job for name in lists for job in cast("list[str]", self._redis.lrange(name, 0, -1))}

    def size(self) -> int:
        return self._redis.llen(self.JOBS)

    def active(self) -> int:
        return sum(self._redis.llen(self._processing(worker)) for worker in self._workers())

    def _workers(self) -> list[str]:
        return sorted(cast("set[str]", self._redis.smembers(self.WORKERS)))


class Progress:
    """How far a document is, in percent."""

    def __init__(self, client: Redis) -> None:
        self._redis = client

    def set(self, document: str, percent: int) -> None:
        self._redis.set(f"{PREFIX}progress:{document}", percent, ex=3600)

    def get(self, document: str) -> int | None:
        value = self._redis.get(f"{PREFIX}progress:{document}")
        return None if value is None else int(cast("str", value))


class Cache:
    """JSON answers with a lifetime. A change to a topic makes every older answer about it unreachable."""

    def __init__(self, client: Redis) -> None:
        self._redis = client

    def _generation(self, topic: str) -> str:
        return f"{PREFIX}cache:{topic}:generation"

    def invalidate(self, topic: str) -> None:
        self._redis.incr(self._generation(topic))

    def get_or_make(self, topic: str, key: str, ttl_s: int, make: Callable[[], Any]) -> Any:
        """The cached answer, or a new one; without Redis simply a new one."""
        try:
            # The generation is read before the answer is made, so an answer overtaken by a change is never found again.
            generation = cast("str | None", self._redis.get(self._generation(topic))) or "0"
            name = f"{PREFIX}cache:{topic}:{generation}:{key}"
            cached = cast("str | None", self._redis.get(name))
        except RedisError:
            return make()
        if cached is not None:
            return json.loads(cached)
        value = make()
        with contextlib.suppress(RedisError):  # the answer is right even if it is not cached
            self._redis.set(name, json.dumps(value), ex=ttl_s)
        return value


class LimitExceededError(Exception):
    """A limit of the installation is reached; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimits:
    """Limits of the whole installation, shared by both colours; time windows are fixed (this minute, this hour)."""

    USER_WINDOW_SECONDS = 900

    def __init__(self, client: Redis, limits: Limits) -> None:
        self._redis = client
        self._limits = limits

    def admit_user(self, identity: str) -> None:
        """At most `max_users` different people within 15 minutes; who they are is kept as a salted hash only."""
        self._redis.set(PREFIX + "salt", secrets.token_hex(16), nx=True, ex=86_400)
        salt = cast("str | None", self._redis.get(PREFIX + "salt")) or ""
        user = hashlib.blake2b(identity.encode(), key=salt.encode(), digest_size=16).hexdigest()
        moment, users = time.time(), PREFIX + "users"
        self._redis.zremrangebyscore(users, 0, moment - self.USER_WINDOW_SECONDS)
        known = self._redis.zscore(users, user) is not None
        if not known and self._redis.zcard(users) >= self._limits.max_users:
            raise LimitExceededError(f"{self._limits.max_users} people are using the system, please try later.", 60)
        self._redis.zadd(users, {user: moment})

    def count_upload(self) -> None:
        """An upload began."""
        self._count("uploads", 60, self._limits.max_uploads_per_minute, "uploads per minute")

    def count_document(self) -> None:
        """A document is about to be accepted."""
        self._count("documents", 3600, self._limits.max_documents_per_hour, "documents per hour")

    def _count(self, name: str, window_s: int, maximum: int, what: str) -> None:
        window, elapsed = divmod(int(time.time()), window_s)
        key = f"{PREFIX}limit:{name}:{window}"
        count = self._redis.incr(key)
        self._redis.expire(key, 2 * window_s)
        if count > maximum:
            raise LimitExceededError(f"At most {maximum} {what} are possible, please try later.", window_s - elapsed)


class Counters:
    """Numbers that workers count and the API shows: one endpoint has them all, and restarts do not reset them."""

    KEY = PREFIX + "metrics"
    LLM_BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0)  # seconds

    def __init__(self, client: Redis) -> None:
        self._redis = client

    def count_document(self, status: str) -> None:
        self._redis.hincrby(self.KEY, f"documents|{status}", 1)

    def count_llm_call(self, provider: str, model: str, duration_s: float) -> None:
        bucket = next((str(bound) for bound in self.LLM_BUCKETS if duration_s <= bound), "+Inf")
        self._redis.hincrby(self.KEY, f"llm_calls|{provider}|{model}", 1)
        self._redis.hincrby(self.KEY, f"llm_bucket|{provider}|{bucket}", 1)
        self._redis.hincrbyfloat(self.KEY, f"llm_sum|{provider}", duration_s)

    def read(self) -> dict[tuple[str, ...], float]:
        """Values by name and labels, for example ('documents', 'success')."""
        values = cast("dict[str, str]", self._redis.hgetall(self.KEY))
        return {tuple(name.split("|")): float(value) for name, value in values.items()}
