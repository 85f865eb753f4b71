"""A stand-in for Ollama: the same HTTP API and command line, no language model.

For tests and demos without model weights. What it answers is computed honestly from the input: embeddings are
hashed bags of words, so texts that share words really are near each other; a summary is made of the most
significant sentences of the text. Version and headers say "standin". Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VERSION = "1.0.0-standin"
DIMENSIONS = 64
SUMMARY_SENTENCES = 3
KEEP_ALIVE = timedelta(minutes=5)
MAX_REQUEST_BYTES = 64 * 2**20

Json = dict[str, Any]

# --- Text -------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def embed(text: str) -> list[float]:
    """A vector of length 1: each word adds to one dimension, with a sign, both taken from its hash."""
    vector = [0.0] * DIMENSIONS
    for word in words(text):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        vector[int.from_bytes(digest[:4]) % DIMENSIONS] += 1 if digest[4] & 1 else -1
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else [1.0] + [0.0] * (DIMENSIONS - 1)


def summarise(text: str) -> str:
    """The sentences whose words are the most frequent in the text, in their order."""
    sentences = [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text) if part.strip()]
    frequency = Counter(word for word in words(text) if len(word) > 3)  # short words say little

    def significance(number: int) -> float:
        terms = [word for word in words(sentences[number]) if word in frequency]
        # The square root keeps neither the longest nor the shortest sentences always in front.
        return sum(frequency[term] for term in set(terms)) / math.sqrt(len(terms)) if terms else 0.0

    best = sorted(range(len(sentences)), key=significance, reverse=True)[:SUMMARY_SENTENCES]
    return " ".join(sentences[number] for number in sorted(best))


# --- Models -----------------------------------------------------------------------------------------------------------


class ModelNotFoundError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")


class InvalidModelError(Exception):
    def __init__(self) -> None:
        super().__init__("invalid model name")


class Models:
    """Manifests and blobs in Ollama's layout; the only blob of a model says that there are no weights."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "manifests" / "registry.ollama.ai" / "library"
        self._blobs = directory / "blobs"
        self._used: dict[str, datetime] = {}

    @staticmethod
    def full_name(name: str) -> str:
        """With its tag. Names become paths, so nothing but a plain name passes."""
        base, _, tag = name.partition(":")
        if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", part) for part in (base, tag or "latest")):
            raise InvalidModelError
        return f"{base}:{tag or 'latest'}"

    def _manifest(self, full_name: str) -> Path:
        base, _, tag = full_name.partition(":")
        return self._library / base / tag

    def pull(self, name: str) -> Iterator[Json]:
        """Make the model, reporting as the real one does while it downloads."""
        full_name = self.full_name(name)
        yield {"status": "pulling manifest"}
        blob = f"Stand-in for {full_name}: there are no weights in here.\n".encode()
        digest = "sha256:" + hashlib.sha256(blob).hexdigest()
        for completed in (0, len(blob)):
            yield {
                "status": f"pulling {digest[7:19]}",
                "digest": digest,
                "total": len(blob),
                "completed": completed,
            }
        self._write(self._blobs / digest.replace(":", "-"), blob)
        yield {"status": "verifying sha256 digest"}
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": len(blob)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "layers": [layer],
            "annotations": {"standin": "true"},
        }
        yield {"status": "writing manifest"}
        self._write(self._manifest(full_name), json.dumps(manifest).encode())
        yield {"status": "success"}

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{threading.get_ident()}.part")
        part.write_bytes(content)
        part.replace(path)

    def describe(self, name: str) -> Json:
        full_name = self.full_name(name)
        path = self._manifest(full_name)
        try:
            manifest = path.read_bytes()
        except OSError as error:
            raise ModelNotFoundError(name) from error
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return {
            "name": full_name,
            "model": full_name,
            "modified_at": modified.isoformat(),
            "size": sum(layer["size"] for layer in json.loads(manifest)["layers"]),
            "digest": hashlib.sha256(manifest).hexdigest(),
            "details": details(),
        }

    def all(self) -> list[Json]:
        names = [f"{path.parent.name}:{path.name}" for path in self._library.glob("*/[!.]*")]
        return [self.describe(name) for name in sorted(names)]

    def use(self, name: str) -> str:
        """Note that the model is in use; its name as asked for."""
        self._used[str(self.describe(name)["name"])] = datetime.now(UTC)
        return name

    def running(self) -> list[Json]:
        now = datetime.now(UTC)
        return [
            self.describe(name) | {"size_vram": 0, "expires_at": (used + KEEP_ALIVE).isoformat()}
            for name, used in sorted(self._used.items())
            if used + KEEP_ALIVE > now
        ]


def details() -> Json:
    return {
        "parent_model": "",
        "format": "standin",
        "family": "standin",
        "families": ["standin"],
        "parameter_size": "0",
        "quantization_level": "none",
    }


# --- Server -----------------------------------------------------------------------------------------------------------


class BadRequestError(Exception):
    pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ollama-standin/" + VERSION
    sys_version = ""
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        models = self.server.models
        match urlsplit(self.path).path:
            case "/":
                self._send(200, b"Ollama is running", "text/plain; charset=utf-8")
            case "/api/version":
                self._send_json(200, {"version": VERSION})
            case "/api/tags":
                self._send_json(200, {"models": models.all()})
            case "/api/ps":
                self._send_json(200, {"models": models.running()})
            case _:
                self._send(404, b"404 page not found", "text/plain")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        actions = {
            "/api/pull": self._pull,
            "/api/show": self._show,
            "/api/embed": self._embed,
            "/api/generate": self._generate,
            "/api/chat": self._chat,
        }
        action = actions.get(urlsplit(self.path).path)
        if action is None:
            self._send(404, b"404 page not found", "text/plain")
            return
        try:
            body = self._body()
            name = body.get("model") or body.get("name")  # `name` is the older field, still accepted
            if not isinstance(name, str) or not name:
                raise BadRequestError("model is required")
            action(name, body)
        except ModelNotFoundError as error:
            self._send_json(404, {"error": str(error)})
        except (BadRequestError, InvalidModelError) as error:
            self._send_json(400, {"error": str(error)})

    def _pull(self, name: str, body: Json) -> None:
        self.server.models.full_name(name)  # an invalid name is an error before the stream begins
        self._answer(body, list(self.server.models.pull(name)))

    def _show(self, name: str, _: Json) -> None:
        model = self.server.models.describe(name)
        self._send_json(
            200,
            {
                "modelfile": f"# stand-in\nFROM {model['name']}",
                "parameters": "",
                "template": "{{ .Prompt }}",
                "details": model["details"],
                "model_info": {"general.architecture": "standin", "standin.embedding_length": DIMENSIONS},
                "capabilities": ["completion", "embedding"],
                "modified_at": model["modified_at"],
            },
        )

    def _embed(self, name: str, body: Json) -> None:
        began = time.perf_counter_ns()
        texts = body.get("input", [])
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadRequestError("invalid input type")
        self.server.models.use(name)
        answer = {
            "model": name,
            "embeddings": [embed(text) for text in texts],
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": 0,
            "prompt_eval_count": sum(len(words(text)) for text in texts),
        }
        self._send_json(200, answer)

    def _generate(self, name: str, body: Json) -> None:
        self._complete(name, body, str(body.get("prompt", "")), lambda text: {"response": text})

    def _chat(self, name: str, body: Json) -> None:
        messages = body.get("messages") or []
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise BadRequestError("invalid messages")
        prompt = "\n\n".join(str(message.get("content", "")) for message in messages if message.get("role") == "user")
        self._complete(name, body, prompt, lambda text: {"message": {"role": "assistant", "content": text}})

    def _complete(self, name: str, body: Json, prompt: str, wrap: Any) -> None:
        """Answer with a summary of the prompt: word by word as a stream, or all at once."""
        began = time.perf_counter_ns()
        self.server.models.use(name)
        pieces = re.findall(r"\S+\s*", summarise(prompt))
        duration = time.perf_counter_ns() - began

        def line(text: str, **more: Any) -> Json:
            return {"model": name, "created_at": datetime.now(UTC).isoformat(), **wrap(text), **more}

        statistics = {
            "done": True,
            "done_reason": "stop" if prompt else "load",
            "total_duration": duration,
            "load_duration": 0,
            "prompt_eval_count": len(words(prompt)),
            "prompt_eval_duration": duration,
            "eval_count": len(pieces),
            "eval_duration": duration,
        }
        if body.get("stream", True):
            self._answer(body, [*(line(piece, done=False) for piece in pieces), line("", **statistics)])
        else:
            self._answer(body, [line("".join(pieces), **statistics)])

    def _body(self) -> Json:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            raise BadRequestError("missing or too large request body")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise BadRequestError("invalid JSON") from error
        if not isinstance(body, dict):
            raise BadRequestError("a JSON object is required")
        return body

    def _answer(self, body: Json, lines: list[Json]) -> None:
        """JSON lines, unless the client asked for one answer: then only the last."""
        if not body.get("stream", True):
            self._send_json(200, lines[-1])
            return
        self._start(200, "application/x-ndjson", {"Transfer-Encoding": "chunked"})
        for line in lines:
            data = json.dumps(line).encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _send_json(self, status: int, content: Json) -> None:
        self._send(status, json.dumps(content).encode(), "application/json; charset=utf-8")

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self._start(status, content_type, {"Content-Length": str(len(content))})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _start(self, status: int, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "X-Ollama-Standin": VERSION, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """One line a request, without the client's address."""
        print(format % args, flush=True)


class Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], directory: Path) -> None:
        super().__init__(address, Handler)
        self.models = Models(directory)


# --- Command line -----------------------------------------------------------------------------------------------------


def host_and_port(default_host: str) -> tuple[str, int]:
    """From OLLAMA_HOST, which may be a host, host:port or a URL."""
    value = os.environ.get("OLLAMA_HOST") or default_host
    parts = urlsplit(value if "//" in value else f"//{value}")
    return parts.hostname or default_host, parts.port or 11434


def serve(_: argparse.Namespace) -> None:
    directory = Path(os.environ.get("OLLAMA_MODELS") or "/root/.ollama/models")
    server = Server(host_and_port("0.0.0.0"), directory)  # noqa: S104 - a container's own network
    # shutdown() waits for serve_forever() to end, which runs in the thread the signal interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Stand-in for Ollama {VERSION} on port {server.server_port}, models in {directory}", flush=True)
    server.serve_forever()
    server.server_close()


def _request(path: str, body: Json | None = None) -> Iterator[Json]:
    host, port = host_and_port("127.0.0.1")
    host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - the server's setting, used by a client beside it
    url = f"http://{host}:{port}{path}"
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http
            for line in answer:
                yield json.loads(line)
    except urllib.error.HTTPError as error:
        sys.exit("Error: " + json.loads(error.read())["error"])
    except OSError as error:
        sys.exit(f"Error: could not connect to {url}: {error}")


def pull(arguments: argparse.Namespace) -> None:
    for line in _request("/api/pull", {"model": arguments.name}):
        print(line["status"])


def show_list(_: argparse.Namespace) -> None:
    print(f"{'NAME':<32}{'ID':<16}{'SIZE':<10}MODIFIED")
    for answer in _request("/api/tags"):
        for model in answer["models"]:
            size = f"{model['size']} B"
            print(f"{model['name']:<32}{model['digest'][:12]:<16}{size:<10}{model['modified_at'][:19]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="ollama", description="A stand-in for Ollama, without a language model.")
    parser.add_argument("--version", "-v", action="version", version=f"ollama version is {VERSION}")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("serve", help="start the server").set_defaults(run=serve)
    puller = commands.add_parser("pull", help="make a model available")
    puller.add_argument("name")
    puller.set_defaults(run=pull)
    commands.add_parser("list", aliases=["ls"], help="show the models").set_defaults(run=show_list)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
