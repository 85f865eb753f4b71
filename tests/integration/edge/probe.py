"""A service behind the edge that answers with what reached it: run on the nuc, routed under /probe."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path
from urllib.parse import unquote

import yaml

CHECKOUT = Path(__file__).resolve().parents[3]
NAME = "flowaudit-test-probe"

#: Read by `python -` in the container: the request as JSON; /probe/status/<n> answers with that status.
PROGRAM = """
import http.server, json, re
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        size, length = 0, self.headers.get("Content-Length")
        left = int(length or 0)
        while left:
            chunk = self.rfile.read(min(left, 1 << 20))
            if not chunk:
                return
            size += len(chunk)
            left -= len(chunk)
        body = json.dumps({"path": self.path, "method": self.command, "size": size, "headers": self.headers.items()})
        body = (body + " " * 2048).encode()
        status = re.match("/probe/status/([0-9]+)", self.path)
        self.send_response(int(status[1]) if status else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Probe", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""

RULES = [
    {"path": "/probe", "roles": ["user", "trainer", "admin"]},
    {"path": "/probe/admin", "roles": ["admin"]},
    {"path": "/probe/upload", "methods": ["POST"], "roles": ["user", "trainer", "admin"], "upload": True},
    {"path": "/probe/anyone", "roles": ["anyone"]},
]
ROUTE = {"prefix": "/probe", "service": "probe"}


def settings() -> dict[str, t.Any]:
    """The role's own policy and routes, with the probe's beside them."""
    defaults = yaml.safe_load((CHECKOUT / "roles/edge/defaults/main.yml").read_text())
    return {
        "edge_policy": [*defaults["edge_policy"], *RULES],
        "edge_routes": [*defaults["edge_routes"], ROUTE],
    }


def service() -> str:
    """The file that tells Traefik where the probe is."""
    return json.dumps(
        {"http": {"services": {"probe": {"loadBalancer": {"servers": [{"url": f"http://{NAME}:8000"}]}}}}}
    )


def headers(answer: t.Any) -> dict[str, str]:
    """The headers that reached the probe, names in lower case."""
    return {name.lower(): value for name, value in answer.json["headers"]}


def reached(answer: t.Any) -> bool:
    return answer.headers.get("X-Probe") == "1"


def meaning(path: str) -> str:
    """What a generous server would take ``path`` for: decoded twice, parameters and trailing dots dropped, one case."""
    path = unquote(unquote(path.split("?", maxsplit=1)[0])).replace("\\", "/").lower()
    segments: list[str] = []
    for part in re.split("/+", path):
        segment = part.split(";")[0]
        if segment == "..":
            segments[-1:] = []
        elif segment.rstrip(". "):
            segments.append(segment.rstrip(". "))
    return "/" + "/".join(segments)
