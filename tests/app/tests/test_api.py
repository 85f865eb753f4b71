"""The HTTP API: uploads and their limits, lists, neighbours, errors, metrics."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeChroma, pdf
from fakeredis import FakeServer
from fastapi.testclient import TestClient
from httpx import Response

from refapp.api import create_app
from refapp.logs import JsonFormatter
from refapp.services import Services
from refapp.settings import Settings
from refapp.upload import clean_filename
from refapp.worker import Worker

TEXT = b"Invoices above ten thousand euros need two signatures."


def upload(client: TestClient, content: bytes = TEXT, name: str = "audit.txt", user: str = "ada") -> Response:
    answer: Response = client.post(
        "/api/documents/upload", files={"file": (name, content)}, headers={"X-Auth-User": user}
    )
    return answer


def files(settings: Settings) -> list[str]:
    return sorted(path.suffix for path in settings.upload_dir.rglob("*") if path.is_file())


def test_an_upload_is_stored_recorded_and_queued(client: TestClient, services: Services) -> None:
    answer = upload(client, pdf("A page."), "../../etc/Prüfung.pdf")
    assert answer.status_code == 201
    document = client.get(f"/api/documents/{answer.json()['id']}").json()
    assert (document["status"], document["filename"]) == ("queued", "Prüfung.pdf")
    assert (document["media_type"], document["pages"], document["result"]) == ("application/pdf", 1, None)
    assert (services.settings.upload_dir / f"{document['id']}.pdf").read_bytes() == pdf("A page.")
    assert services.queue.jobs() == {document["id"]}


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("C:\\files\\a.pdf", "a.pdf"), ("a\x07\u202eb.pdf", "ab.pdf"), ("x" * 300, "x" * 255), ("../", "document")],
)
def test_file_names_are_cleaned(name: str, cleaned: str) -> None:
    assert clean_filename(name) == cleaned


def test_a_large_upload_in_many_chunks_arrives_whole(client: TestClient, services: Services) -> None:
    content = "\r\n--x".join(f"line {number}" for number in range(30_000)).encode()
    answer = upload(client, content)
    assert (services.settings.upload_dir / f"{answer.json()['id']}.txt").read_bytes() == content


@pytest.mark.parametrize(
    ("limit", "content", "status"),
    [
        ({"max_upload_bytes": 10}, TEXT, 413),
        ({"max_upload_bytes": len(TEXT)}, TEXT, 201),
        ({"max_upload_bytes": 10}, b"x" * 200_000, 413),
        ({"max_text_characters": 10}, TEXT, 422),
        ({"max_pages": 1}, pdf("a", "b"), 422),
        ({}, b"", 422),
        ({}, b"\x89PNG\x00", 422),
    ],
)
def test_limits_of_a_document(
    make_services: Callable[..., Services], limit: dict[str, int], content: bytes, status: int
) -> None:
    services = make_services(**limit)
    with TestClient(create_app(services)) as client:
        answer = upload(client, content)
        assert answer.status_code == status
        assert ("error" in answer.json()) == (status != 201)
        assert files(services.settings) == ([".txt"] if status == 201 else [])


def test_an_upload_without_declared_length_is_cut_off(make_services: Callable[..., Services]) -> None:
    """Chunked transfer says no length beforehand; only counting helps."""
    services = make_services(max_upload_bytes=1000)
    head = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n'
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield head
        for _ in range(1000):
            sent += 1
            yield b"x" * 10_000

    with TestClient(create_app(services)) as client:
        answer = client.post(
            "/api/documents/upload",
            content=body(),
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
    assert answer.status_code == 413
    assert files(services.settings) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"file": "x"}},
        {"files": {"other": ("a.txt", TEXT)}},
        {"data": {"file": "no file"}, "files": {"other": ("a", b"")}},
        {"files": [("file", ("a", TEXT)), ("file", ("b", TEXT))]},
        {"content": b"--b\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": TEXT, "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_a_bad_form_is_refused(client: TestClient, services: Services, request_: dict[str, Any]) -> None:
    answer = client.post("/api/documents/upload", **request_)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert files(services.settings) == []


@pytest.mark.parametrize("limit", ["max_uploads_per_minute", "max_documents_per_hour"])
def test_rates_are_limited(make_services: Callable[..., Services], limit: str) -> None:
    with TestClient(create_app(make_services(**{limit: 2}))) as client:
        answers = [upload(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_users_are_limited_and_not_recorded(make_services: Callable[..., Services]) -> None:
    services = make_services(max_users=2)
    with TestClient(create_app(services)) as client:
        # Names a hexadecimal digest cannot hold by chance.
        people = ["ingrid", "yusuf", "ingrid", "zoltan"]
        assert [upload(client, user=person).status_code for person in people] == [201, 201, 201, 429]
    stored = str(services.redis.zrange("flowaudit:users", 0, -1))
    assert not any(person in stored for person in people)


def test_nothing_stays_behind_when_the_queue_is_away(
    client: TestClient, services: Services, redis_server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = services.documents.add

    def add_then_lose_redis(document: object) -> None:
        add(document)  # type: ignore[arg-type]
        redis_server.connected = False

    monkeypatch.setattr(services.documents, "add", add_then_lose_redis)
    answer = upload(client)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert services.documents.page(0, 10) == ([], 0)
    assert files(services.settings) == []


def test_the_list_is_paged_and_fresh(client: TestClient) -> None:
    assert client.get("/api/documents").json() == {"total": 0, "offset": 0, "documents": []}
    ids = [upload(client).json()["id"] for _ in range(3)]
    page = client.get("/api/documents", params={"offset": 1, "limit": 2}).json()
    assert page["total"] == 3
    assert [document["id"] for document in page["documents"]] == [ids[1], ids[0]]


def test_the_list_comes_from_the_cache(client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get("/api/documents").json()
    monkeypatch.setattr(services.documents, "page", lambda *_: pytest.fail("not from the cache"))
    assert client.get("/api/documents").json() == first


def test_the_list_does_without_the_cache(client: TestClient, redis_server: FakeServer) -> None:
    redis_server.connected = False
    assert client.get("/api/documents").status_code == 200


def test_similar_documents(client: TestClient, services: Services, tmp_path: Path) -> None:
    worker = Worker(services, heartbeat=tmp_path / "heartbeat")
    texts = [TEXT, TEXT + b" Really.", b"The weather is sunny today."]
    first, near, far = [upload(client, text).json()["id"] for text in texts]
    for document in (first, near, far):
        worker.handle(document)
    found = client.get(f"/api/documents/{first}/similar").json()["similar"]
    assert [each["id"] for each in found] == [near, far]
    assert found[0]["distance"] < found[1]["distance"]


def test_similar_without_chroma(client: TestClient, chroma: FakeChroma) -> None:
    document = upload(client).json()["id"]
    chroma.away = True
    assert client.get(f"/api/documents/{document}/similar").status_code == 503


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/documents/00000000-0000-0000-0000-000000000000", 404),
        ("/api/documents/00000000-0000-0000-0000-000000000000/similar", 404),
        ("/api/documents/one", 422),
        ("/api/documents?limit=1000", 422),
        ("/api/nothing", 404),
    ],
)
def test_errors_are_small_json(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_settings_show_limits_and_no_secrets(client: TestClient) -> None:
    answer = client.get("/api/settings")
    assert answer.json()["limits"]["max_pages"] == 100
    assert answer.json()["batch"]["max_concurrent_llm_calls"] == 2
    assert answer.headers["Cache-Control"] == "private, max-age=600"
    assert "password" not in answer.text


def test_metrics(client: TestClient, services: Services) -> None:
    upload(client)
    client.get("/api/nothing/at/all")
    services.counters.count_document("success")
    services.counters.count_llm_call("ollama", "llama3.1:8b", 3.0)
    metrics = client.get("/api/metrics").text
    for line in (
        'flowaudit_http_requests_total{endpoint="/api/documents/upload",method="POST",status="201"} 1.0',
        'flowaudit_http_requests_total{endpoint="unmatched",method="GET",status="404"} 1.0',
        'flowaudit_http_request_duration_seconds_count{endpoint="/api/documents/upload"} 1.0',
        'flowaudit_documents_processed_total{status="success"} 1.0',
        'flowaudit_documents_processed_total{status="failed"} 0.0',
        'flowaudit_llm_calls_total{model="llama3.1:8b",provider="ollama"} 1.0',
        'flowaudit_llm_duration_seconds_bucket{le="2.0",provider="ollama"} 0.0',
        'flowaudit_llm_duration_seconds_bucket{le="5.0",provider="ollama"} 1.0',
        'flowaudit_llm_duration_seconds_sum{provider="ollama"} 3.0',
        "flowaudit_queue_size 1.0",
        "flowaudit_active_tasks 0.0",
        'flowaudit_build_info{colour="",version="1.0.0"} 1.0',
    ):
        assert line in metrics.splitlines()


def test_logs_hold_nothing_personal(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        document = upload(client, name="Akte-Meier.txt", user="meier").json()["id"]
        client.get(f"/api/documents/{document}?who=meier")
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name == "refapp.api"]
    assert [line["endpoint"] for line in lines] == ["/api/documents/upload", "/api/documents/{document_id}"]
    assert "meier" not in json.dumps(lines).lower()
