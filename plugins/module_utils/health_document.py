# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading the health document of an application. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Mapping

STATES = ("healthy", "degraded", "unhealthy")


@dataclasses.dataclass(frozen=True)
class Health:
    """What an application says of itself, or what its silence says of it.

    Attributes:
        status: healthy, degraded, unhealthy, or unreachable when no health document came back.
        version: the release that answered, empty when unknown.
        services: service name → ``{"status": str, "latency_ms": number, …}``.
        resources: ``cpu_percent``, ``memory_percent``, ``disk_percent``.
        reason: why the status is not healthy, one clause; empty when it is.
    """

    status: str
    version: str = ""
    services: Mapping[str, Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reason: str = ""


def unreachable(reason: str) -> Health:
    """The health of an application that gave no health document."""
    return Health(status="unreachable", reason=reason)


def parse(status_code: int, body: bytes) -> Health:
    """Read the answer to ``GET /api/health``.

    The document decides, not the HTTP status code: an unhealthy application may answer 503 with a full document.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return unreachable(f"HTTP {status_code} without a health document")
    if not isinstance(document, dict) or document.get("status") not in STATES:
        return unreachable(f"HTTP {status_code} with a document that has no status of {', '.join(STATES)}")
    services = document.get("services") or {}
    if not isinstance(services, dict) or not all(isinstance(service, dict) for service in services.values()):
        return unreachable(f"HTTP {status_code} with a health document whose services are not a mapping")
    resources = document.get("resources")
    ill = [
        f"{name} is {service.get('status', 'of no status')}"
        for name, service in services.items()
        if service.get("status") != "healthy"
    ]
    reason = ", ".join(ill) or str(document.get("reason") or "no reason given")
    return Health(
        status=document["status"],
        version=str(document.get("version") or ""),
        services=services,
        resources=resources if isinstance(resources, dict) else {},
        reason="" if document["status"] == "healthy" else reason,
    )


def accepted(health: Health, accept: list[str], version: str | None = None) -> bool:
    """Whether ``health`` is one of the states waited for and, when given, of the release waited for."""
    return health.status in accept and (version is None or health.version == version)
