# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Traefik's file that names the colour that serves (file provider, dynamic configuration). Pure: no I/O."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping

# JSON is YAML, and needs no library on the host.
_HEADER = "# Written by flowaudit.ops: the colour that serves. Traefik sees a change within 50 ms.\n"
_SERVER = re.compile(r'"url": "http://(?P<project>[^"]+)-(?P<colour>blue|green)-')


def text(project: str, colour: str, public: Mapping[str, int], *, maintenance: bool = False) -> str:
    """The file.

    Args:
        project: stem of the Compose projects' names, ``<project>-blue`` and ``<project>-green``.
        colour: the one that serves.
        public: service → its port in the container.
        maintenance: whether everybody gets the edge's maintenance page instead (503 with Retry-After).
    """
    http: dict[str, t.Any] = {}
    if maintenance:
        http["routers"] = {
            "release-maintenance": {
                "entryPoints": ["websecure"],
                "rule": "PathPrefix(`/`) && !PathPrefix(`/edge-pages/`)",
                "priority": 900000,
                "middlewares": ["headers", "to-maintenance"],
                "service": "auth",
            }
        }
    http["services"] = {
        service: {"loadBalancer": {"servers": [{"url": f"http://{project}-{colour}-{service}:{port}"}]}}
        for service, port in public.items()
    }
    return _HEADER + json.dumps({"http": http}, indent=2) + "\n"


def colour_of(content: str) -> str:
    """The colour a switch file names; empty when it names none or both."""
    colours = {match["colour"] for match in _SERVER.finditer(content)}
    return colours.pop() if len(colours) == 1 else ""


def is_maintenance(content: str) -> bool:
    return '"release-maintenance"' in content
