"""Is the app well? Four real checks in parallel, each with two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal

import psutil

from refapp.database import SchemaMismatchError
from refapp.release import VERSION, self_check
from refapp.services import Services

HealthStatus = Literal["healthy", "degraded", "unhealthy"]

TIMEOUT_SECONDS = 2.0

#: Without these nothing works; without the others documents can still be listed and accepted.
ESSENTIAL = frozenset({"db", "redis"})


class PoorlyError(Exception):
    """The service answers, but not as it should; the text says what is wrong."""


def overall(services: Mapping[str, Mapping[str, Any]], complaint: str | None = None) -> HealthStatus:
    """The worst that follows from the services' states and the release's own complaint."""
    ill = {name for name, service in services.items() if service["status"] != "healthy"}
    if complaint or ill & ESSENTIAL:
        return "unhealthy"
    return "degraded" if ill else "healthy"


class Health:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._started = time.monotonic()
        # More threads than checks: a check stuck in name resolution must not delay the next round.
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="health")
        psutil.cpu_percent()  # the first call only starts the measurement

    def report(self) -> dict[str, Any]:
        checks: dict[str, Callable[[], dict[str, Any]]] = {
            "db": self._check_database,
            "redis": self._check_redis,
            "ollama": self._check_ollama,
            "chroma": self._check_chroma,
        }
        deadline = time.monotonic() + TIMEOUT_SECONDS
        running = {name: self._threads.submit(_measure, check) for name, check in checks.items()}
        services = {name: _result(future, deadline) for name, future in running.items()}
        complaint = self_check(time.monotonic() - self._started)
        report = {
            "status": overall(services, complaint),
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "version": VERSION,
            "colour": self._services.settings.colour,
            "services": services,
            "resources": {
                "cpu_percent": psutil.cpu_percent(),
                "memory_percent": psutil.virtual_memory().percent,
                "disk_percent": psutil.disk_usage(str(self._services.settings.upload_dir)).percent,
            },
        }
        return report | ({"error": complaint} if complaint else {})

    def _check_database(self) -> dict[str, Any]:
        self._services.documents.check()
        return {}

    def _check_redis(self) -> dict[str, Any]:
        self._services.redis.ping()
        return {}

    def _check_ollama(self) -> dict[str, Any]:
        ollama = self._services.ollama
        if not ollama.has_model(TIMEOUT_SECONDS):
            raise PoorlyError(f"Model {ollama.model} is not there.")
        return {"model_loaded": ollama.model}

    def _check_chroma(self) -> dict[str, Any]:
        return {"collections": self._services.chroma.count_collections(TIMEOUT_SECONDS)}


def _measure(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        status, details = "healthy", check()
    except PoorlyError as error:
        status, details = "degraded", {"error": str(error)}
    except SchemaMismatchError as error:
        status, details = "unhealthy", {"error": str(error)}
    except Exception as error:
        # Anything a client library can raise; its text may hold addresses, its name does not.
        status, details = "unhealthy", {"error": type(error).__name__}
    return {"status": status, "latency_ms": round((time.monotonic() - began) * 1000)} | details


def _result(future: Future[dict[str, Any]], deadline: float) -> dict[str, Any]:
    try:
        return future.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        future.cancel()
        milliseconds = round(TIMEOUT_SECONDS * 1000)
        return {"status": "unhealthy", "latency_ms": milliseconds, "error": f"No answer within {milliseconds} ms."}
