"""Where and how often the worker shows that it lives. A module of its own: the health check imports nothing else."""

from pathlib import Path

HEARTBEAT = Path("/tmp/flowaudit-worker.heartbeat")  # noqa: S108 - the one writable place of a read-only container
HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
