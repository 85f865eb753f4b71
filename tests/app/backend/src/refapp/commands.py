"""The commands of the image: flowaudit-backend, flowaudit-worker, flowaudit-health, flowaudit-restored."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime

from refapp import logs
from refapp.settings import ConfigurationError, Settings

#: As long as the slowest upload may take; the container gets as long (stop_grace_period).
GRACEFUL_SHUTDOWN_SECONDS = 600
HEALTH_URL = "http://127.0.0.1:8000/api/health"


def _settings() -> Settings:
    try:
        return Settings.read(os.environ)
    except ConfigurationError as error:
        sys.exit(str(error))


def backend() -> None:
    """Serve the API on port 8000; on SIGTERM finish the requests in hand."""
    settings = _settings()
    import uvicorn

    from refapp.api import create_app
    from refapp.services import Services

    logs.configure()
    uvicorn.run(
        create_app(Services.connect(settings)),
        host="0.0.0.0",  # noqa: S104 - a container's own network
        port=8000,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
    )


def worker() -> None:
    """Work on the queue; on SIGTERM finish the jobs in hand."""
    settings = _settings()
    from refapp.services import Services
    from refapp.worker import Worker

    logs.configure()
    process = Worker(Services.connect(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.stop())
    sys.exit(process.run())


def restored() -> None:
    """`flowaudit-restored database`, `flowaudit-restored vectors TIME`: fit again to what was brought back.

    After the database, answers that were cached before say what is no longer so. After the vectors, documents that were
    done since their backup have none.
    """
    match sys.argv[1:]:
        case ["database"]:
            since = None
        case ["vectors", text]:
            since = _time(text)
        case _:
            sys.exit("usage: flowaudit-restored database | vectors TIME")
    from refapp.redis_store import DOCUMENTS
    from refapp.services import Services

    services = Services.connect(_settings())
    services.cache.invalidate(DOCUMENTS)
    found = services.documents.reopen(since) if since else []
    for document in found:
        services.queue.push(str(document))
    print(f"caches forgotten, {len(found)} documents in the queue again")


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        sys.exit(f"'{text}' is no time; write it as 2026-01-31T12:00:00Z")


def health() -> None:
    """`flowaudit-health backend|worker`: the exit status says whether it is well enough to keep running."""
    checks = {"backend": _backend_is_well, "worker": _worker_is_well}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit("usage: flowaudit-health backend|worker")
    sys.exit(0 if checks[sys.argv[1]]() else 1)


def _backend_is_well() -> bool:
    try:
        with urllib.request.urlopen(HEALTH_URL, timeout=5) as answer:
            status = json.load(answer)["status"]
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace"))  # ends up in the container's health log
        return False
    except OSError as error:
        print(error)
        return False
    print(status)
    return status in ("healthy", "degraded")


def _worker_is_well() -> bool:
    from refapp.heartbeat import HEARTBEAT, STALE_SECONDS

    try:
        age = time.time() - HEARTBEAT.stat().st_mtime
    except FileNotFoundError:
        print("no heartbeat")
        return False
    print(f"heartbeat {age:.0f} s ago")
    return age < STALE_SECONDS
