"""The stores of the unit tests: SQLite for PostgreSQL, fakeredis, the real stand-in over HTTP, and a fake Chroma."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakeredis import FakeRedis, FakeServer
from fastapi.testclient import TestClient
from sqlalchemy import Engine, create_engine, event, text

APP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(APP / "backend" / "src"), str(APP / "backend"), str(APP / "ollama_standin")]

import standin  # noqa: E402
from refapp.api import create_app  # noqa: E402
from refapp.chroma import Chroma  # noqa: E402
from refapp.documents import Documents  # noqa: E402
from refapp.models import Base  # noqa: E402
from refapp.ollama import Ollama  # noqa: E402
from refapp.services import Services  # noqa: E402
from refapp.settings import Settings  # noqa: E402

MODEL = "llama3.1:8b"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The smallest valid environment."""
    for name in ("uploads", "exports"):
        (tmp_path / name).mkdir()
    (tmp_path / "database_password").write_text("fixture-database\n")
    (tmp_path / "redis_password").write_text("fixture-redis\n")
    return {
        "APP_MODE": "demo",
        "DATABASE_HOST": "db",
        "DATABASE_NAME": "refapp",
        "DATABASE_USER": "refapp",
        "DATABASE_PASSWORD_FILE": str(tmp_path / "database_password"),
        "REDIS_HOST": "redis",
        "REDIS_PASSWORD_FILE": str(tmp_path / "redis_password"),
        "CHROMA_URL": "http://chroma:8000",
        "OLLAMA_URL": "http://ollama:11434",
        "OLLAMA_MODEL": MODEL,
        "UPLOAD_DIR": str(tmp_path / "uploads"),
        "EXPORT_DIR": str(tmp_path / "exports"),
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return Settings.read(environment)


@pytest.fixture
def standin_url(tmp_path: Path) -> Iterator[str]:
    """The stand-in for Ollama on a free port of the loopback interface."""
    server = standin.Server(("127.0.0.1", 0), tmp_path / "models")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/database", connect_args={"isolation_level": None})
    # A transaction that first reads and then writes would otherwise fail instead of waiting for its turn.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE schema_compatibility (revision TEXT, oldest_compatible TEXT)"))
    set_schema(engine, "0001", "0001")
    yield engine
    engine.dispose()


def set_schema(engine: Engine, revision: str, oldest_compatible: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM schema_compatibility"))
        connection.execute(
            text("INSERT INTO schema_compatibility VALUES (:revision, :oldest)"),
            {"revision": revision, "oldest": oldest_compatible},
        )


class FakeChroma:
    """Enough of Chroma's REST API for one collection, behind an httpx transport."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.away = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away", request=request)
        body = json.loads(request.content) if request.content else {}
        match request.url.path.rpartition("/")[2]:
            case "collections_count":
                return httpx.Response(200, json=1)
            case "collections":
                return httpx.Response(200, json={"id": "fake", "name": body["name"]})
            case "upsert":
                self._upsert(body)
                return httpx.Response(200, json={})
            case "get":
                return httpx.Response(200, json=self._get(body))
            case "query":
                return httpx.Response(200, json=self._query(body))
        return httpx.Response(404, json={"error": "NotFound"})

    def _upsert(self, body: dict[str, Any]) -> None:
        for record, embedding, metadata in zip(body["ids"], body["embeddings"], body["metadatas"], strict=True):
            self.records[record] = {"embedding": embedding, "metadata": metadata}

    def _get(self, body: dict[str, Any]) -> dict[str, Any]:
        document = body["where"]["document_id"]
        own = [each for each in self.records.values() if each["metadata"]["document_id"] == document]
        return {"embeddings": [each["embedding"] for each in own[: body["limit"]]]}

    def _query(self, body: dict[str, Any]) -> dict[str, Any]:
        excluded = body["where"]["document_id"]["$ne"]
        others = [each for each in self.records.values() if each["metadata"]["document_id"] != excluded]

        def distance(left: list[float], right: list[float]) -> float:
            return sum((a - b) ** 2 for a, b in zip(left, right, strict=True))

        metadatas, distances = [], []
        for wanted in body["query_embeddings"]:
            found = sorted((distance(wanted, each["embedding"]), each["metadata"]["passage"], each) for each in others)
            metadatas.append([each["metadata"] for _, _, each in found[: body["n_results"]]])
            distances.append([near for near, _, _ in found[: body["n_results"]]])
        return {"metadatas": metadatas, "distances": distances}


@pytest.fixture
def redis_server() -> FakeServer:
    """Set `connected` to False and Redis is away."""
    return FakeServer()


@pytest.fixture
def chroma() -> FakeChroma:
    return FakeChroma()


@pytest.fixture
def make_services(
    settings: Settings, engine: Engine, standin_url: str, chroma: FakeChroma, redis_server: FakeServer
) -> Callable[..., Services]:
    """Services around the stores above; keyword arguments change limits and batch settings."""
    httpx.post(f"{standin_url}/api/pull", json={"model": MODEL})

    def make(**changes: int) -> Services:
        limits = {name: value for name, value in changes.items() if hasattr(settings.limits, name)}
        batch = {name: value for name, value in changes.items() if hasattr(settings.batch, name)}
        assert len(limits) + len(batch) == len(changes), "an unknown setting"
        return Services.around(
            replace(settings, limits=replace(settings.limits, **limits), batch=replace(settings.batch, **batch)),
            Documents(engine),
            FakeRedis(server=redis_server, decode_responses=True),
            Chroma("http://chroma", transport=httpx.MockTransport(chroma)),
            Ollama(standin_url, MODEL),
        )

    return make


@pytest.fixture
def services(make_services: Callable[..., Services]) -> Services:
    return make_services()


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services), raise_server_exceptions=False) as client:
        yield client


def pdf(*pages: str) -> bytes:
    """A small PDF, one line of text on each page."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, line in enumerate(pages):
        content = f"BT /F1 12 Tf 50 800 Td ({line}) Tj ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Contents {5 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    document, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        offsets.append(len(document))
        document += f"{number} 0 obj\n{each}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(document)}\n%%EOF\n"
    return document + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()
