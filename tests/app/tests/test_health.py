"""Classification, and the four checks."""

from __future__ import annotations

import time

import httpx
import pytest
from conftest import FakeChroma, set_schema
from fakeredis import FakeServer
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from refapp import health
from refapp.health import Health, overall
from refapp.services import Services

WELL = {name: {"status": "healthy"} for name in ("db", "redis", "ollama", "chroma")}


@pytest.mark.parametrize(
    ("ill", "status"),
    [
        ({}, "healthy"),
        ({"db": "unhealthy"}, "unhealthy"),
        ({"redis": "unhealthy"}, "unhealthy"),
        ({"chroma": "unhealthy"}, "degraded"),
        ({"ollama": "unhealthy"}, "degraded"),
        ({"ollama": "degraded"}, "degraded"),
        ({"chroma": "unhealthy", "ollama": "unhealthy"}, "degraded"),
        ({"chroma": "unhealthy", "redis": "unhealthy"}, "unhealthy"),
    ],
)
def test_overall(ill: dict[str, str], status: str) -> None:
    assert overall(WELL | {name: {"status": state} for name, state in ill.items()}) == status


def test_a_complaint_of_the_release_is_unhealthy() -> None:
    assert overall(WELL, "broken on purpose") == "unhealthy"


def test_the_report(client: TestClient) -> None:
    answer = client.get("/api/health")
    report = answer.json()
    assert answer.status_code == 200
    assert list(report) == ["status", "timestamp", "version", "colour", "services", "resources"]
    assert (report["status"], report["version"], report["colour"]) == ("healthy", "1.0.0", None)
    assert report["services"]["ollama"]["model_loaded"] == "llama3.1:8b"
    assert report["services"]["chroma"]["collections"] == 1
    assert all(isinstance(service["latency_ms"], int) for service in report["services"].values())
    assert set(report["resources"]) == {"cpu_percent", "memory_percent", "disk_percent"}


def test_redis_away_is_unhealthy(client: TestClient, redis_server: FakeServer) -> None:
    redis_server.connected = False
    answer = client.get("/api/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["services"]["redis"] | {"latency_ms": 0} == {
        "status": "unhealthy",
        "latency_ms": 0,
        "error": "ConnectionError",
    }


def test_chroma_away_is_degraded(client: TestClient, chroma: FakeChroma) -> None:
    chroma.away = True
    answer = client.get("/api/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_a_missing_model_is_degraded(services: Services) -> None:
    services.ollama.model = "missing"
    report = Health(services).report()
    assert report["status"] == "degraded"
    assert report["services"]["ollama"]["error"] == "Model missing is not there."


@pytest.mark.parametrize(
    ("revision", "oldest_compatible", "sentence"),
    [
        ("0000", "0000", "The database schema is 0000, release 1.0.0 needs 0001: migrate it."),
        ("0002", "0001", None),
        (
            "0003",
            "0003",
            "The database schema is 0003, which needs a release of schema 0003 or newer; "
            "release 1.0.0 knows 0001: deploy a newer release or downgrade the schema.",
        ),
    ],
)
def test_the_schema_must_fit(
    client: TestClient, engine: Engine, revision: str, oldest_compatible: str, sentence: str | None
) -> None:
    set_schema(engine, revision, oldest_compatible)
    answer = client.get("/api/health")
    assert answer.json()["services"]["db"].get("error") == sentence
    assert answer.status_code == (503 if sentence else 200)
    assert client.get("/api/documents").status_code == (503 if sentence else 200)


def test_a_store_that_hangs_takes_the_timeout_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> int:
        time.sleep(1)
        return 0

    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(type(services.chroma), "count_collections", hang)
    monkeypatch.setattr(type(services.ollama), "has_model", hang)
    began = time.monotonic()
    report = Health(services).report()
    assert time.monotonic() - began < 0.8
    assert report["status"] == "degraded"
    assert report["services"]["chroma"]["error"] == "No answer within 300 ms."


def test_health_is_a_metric(client: TestClient, chroma: FakeChroma) -> None:
    chroma.away = True
    client.get("/api/health")
    metrics = client.get("/api/metrics").text
    assert 'flowaudit_health{service="chroma"} 0.0' in metrics
    assert 'flowaudit_health{service="db"} 1.0' in metrics


def test_nothing_is_contacted_at_start(settings: object) -> None:
    """A process comes up while its stores are away; httpx would raise at once for these hosts."""
    from refapp.settings import Settings

    assert isinstance(settings, Settings)
    services = Services.connect(settings)
    with pytest.raises(httpx.ConnectError):
        services.chroma.count_collections(1.0)
