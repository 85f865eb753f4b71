"""The worker: the steps, retries, and that no job is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from conftest import FakeChroma, set_schema
from sqlalchemy import Engine

from refapp import commands, heartbeat
from refapp.documents import stored_file
from refapp.models import Document, Status, now
from refapp.services import Services
from refapp.worker import Worker

TEXT = (
    "The audit covers invoices. Invoices need two signatures. The weather was fine. Three invoices had one signature."
)


def add(services: Services, text: str = TEXT) -> str:
    document = Document(
        filename="a.txt", media_type="text/plain", size_bytes=len(text), sha256="", pages=1, characters=len(text)
    )
    services.documents.add(document)
    stored_file(services.settings.upload_dir, document).write_text(text)
    services.queue.push(str(document.id))
    return str(document.id)


def get(services: Services, job: str) -> Document:
    document = services.documents.get(UUID(job))
    assert document is not None
    return document


@pytest.fixture
def make_worker(tmp_path: Path) -> Callable[..., Worker]:
    def make(services: Services, name: str = "one", delay_s: float = 0.0) -> Worker:
        return Worker(services, name=name, retry_delays_s=[delay_s], heartbeat=tmp_path / "heartbeat")

    return make


def test_the_steps(services: Services, make_worker: Callable[..., Worker], chroma: FakeChroma) -> None:
    job = add(services)
    assert services.queue.take("one", 1) == job
    make_worker(services).handle(job)
    document = get(services, job)
    assert (document.status, document.passages, document.error) == (Status.DONE, 1, None)
    assert document.summary == TEXT.replace("The weather was fine. ", "")
    assert list(chroma.records) == [f"{job}:0"]
    export = json.loads((services.settings.export_dir / f"{job}.json").read_text())
    assert export["result"]["summary"] == document.summary
    assert (services.queue.size(), services.queue.active()) == (0, 0)
    assert services.counters.read()[("documents", "success")] == 1
    assert services.counters.read()[("llm_calls", "ollama", "llama3.1:8b")] == 2


def test_passages_are_embedded_in_chunks(
    make_services: Callable[..., Services], make_worker: Callable[..., Worker], chroma: FakeChroma
) -> None:
    services = make_services(batch_chunk_size=3)
    job = add(services, "word " * 2500)
    make_worker(services).handle(job)
    count = get(services, job).passages
    assert count is not None
    assert count > 3
    assert sorted(chroma.records) == sorted(f"{job}:{number}" for number in range(count))


def test_a_repeated_job_changes_nothing(services: Services, make_worker: Callable[..., Worker]) -> None:
    job = add(services)
    make_worker(services).handle(job)
    before = get(services, job).as_json()
    make_worker(services).handle(job)
    assert get(services, job).as_json() == before


def test_a_store_that_comes_back(
    services: Services, make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = add(services)
    calls: list[int] = []

    def store(*_: object) -> None:
        calls.append(1)
        if len(calls) < 5:
            raise httpx.ConnectError("away")

    monkeypatch.setattr(services.chroma, "store", store)
    make_worker(services).handle(job)
    assert (get(services, job).status, len(calls)) == (Status.DONE, 5)


def test_a_store_that_stays_away(services: Services, make_worker: Callable[..., Worker], chroma: FakeChroma) -> None:
    chroma.away = True
    job = add(services)
    services.queue.take("one", 1)
    make_worker(services).handle(job)
    document = get(services, job)
    assert (document.status, document.error) == (Status.FAILED, "A store was away in each of 5 attempts.")
    assert services.queue.jobs() == set()
    assert services.counters.read()[("documents", "failed")] == 1


def test_a_job_that_kills_its_worker_is_given_up(services: Services, make_worker: Callable[..., Worker]) -> None:
    job = add(services)
    for _ in range(5):
        services.queue.count_attempt(job)
    make_worker(services).handle(job)
    assert get(services, job).error == "Given up after 5 attempts."


def test_a_missing_file_fails_at_once(services: Services, make_worker: Callable[..., Worker]) -> None:
    job = add(services)
    stored_file(services.settings.upload_dir, get(services, job)).unlink()
    make_worker(services).handle(job)
    assert get(services, job).error == "The document's file is missing."


def test_told_to_stop_between_attempts_the_job_goes_back(
    services: Services, make_worker: Callable[..., Worker], chroma: FakeChroma
) -> None:
    chroma.away = True
    job = add(services)
    services.queue.take("one", 1)
    worker = make_worker(services, delay_s=60)
    worker.stop()
    worker.handle(job)
    assert (services.queue.size(), services.queue.active()) == (1, 0)
    assert get(services, job).status == Status.PROCESSING


def test_a_schema_that_does_not_fit_costs_no_attempt(
    services: Services, make_worker: Callable[..., Worker], engine: Engine
) -> None:
    job = add(services)
    services.queue.take("one", 1)
    set_schema(engine, "0003", "0003")
    make_worker(services).handle(job)
    assert services.queue.size() == 1
    set_schema(engine, "0001", "0001")
    assert get(services, job).status == Status.QUEUED


def run_until(worker: Worker, condition: Callable[[], bool], timeout_s: float = 20) -> int:
    """Run the worker in a thread until the condition holds, then stop it; its exit status."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(worker.run()))
    thread.start()
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    held = condition()
    worker.stop()
    thread.join(timeout_s)
    assert held, "the condition did not come true"
    return statuses[0]


def test_on_stop_the_job_in_hand_is_finished(
    services: Services, make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = threading.Event()
    summarise = services.ollama.summarise

    def slowly(text: str) -> str:
        started.set()
        time.sleep(1)
        return summarise(text)

    monkeypatch.setattr(services.ollama, "summarise", slowly)
    job = add(services)
    assert run_until(make_worker(services), started.is_set) == 0
    assert get(services, job).status == Status.DONE
    assert services.queue.jobs() == set()


def test_at_most_so_many_model_calls_at_once(
    make_services: Callable[..., Services], make_worker: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = make_services(max_concurrent_parses=4, max_concurrent_llm_calls=2)
    lock, running, most = threading.Lock(), 0, 0

    def summarise(_: str) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1
        return "A summary."

    monkeypatch.setattr(services.ollama, "summarise", summarise)
    jobs = [add(services) for _ in range(8)]
    run_until(make_worker(services), lambda: all(get(services, job).status == Status.DONE for job in jobs))
    assert most == 2


def test_jobs_of_a_dead_worker_are_done(services: Services, make_worker: Callable[..., Worker]) -> None:
    job = add(services)
    services.queue.sign_of_life("dead")
    services.queue.take("dead", 1)
    assert services.queue.requeue_orphans() == 0
    services.redis.delete("flowaudit:alive:dead")  # what its lifetime does
    run_until(make_worker(services), lambda: get(services, job).status == Status.DONE)


def test_a_restarted_worker_takes_its_own_jobs_up_again(services: Services, make_worker: Callable[..., Worker]) -> None:
    job = add(services)
    services.queue.sign_of_life("one")
    services.queue.take("one", 1)
    run_until(make_worker(services, name="one"), lambda: get(services, job).status == Status.DONE)


def test_a_worker_that_starts_stays_known(services: Services) -> None:
    services.queue.sign_of_life("one")
    services.queue.requeue_orphans(starting="one")
    add(services)
    services.queue.take("one", 1)
    assert (services.queue.size(), services.queue.active()) == (0, 1)


def test_documents_without_a_job_are_found(
    services: Services, make_worker: Callable[..., Worker], engine: Engine
) -> None:
    job = add(services)
    services.redis.flushall()
    with engine.begin() as connection:
        connection.execute(Document.__table__.update().values(created_at=now() - timedelta(minutes=2)))  # type: ignore[attr-defined]
    run_until(make_worker(services), lambda: get(services, job).status == Status.DONE)


def test_the_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    beat = tmp_path / "heartbeat"
    monkeypatch.setattr(heartbeat, "HEARTBEAT", beat)
    monkeypatch.setattr("sys.argv", ["flowaudit-health", "worker"])

    def status() -> object:
        with pytest.raises(SystemExit) as caught:
            commands.health()
        return caught.value.code

    assert status() == 1
    beat.touch()
    assert status() == 0
    monkeypatch.setattr(heartbeat, "STALE_SECONDS", -1.0)
    assert status() == 1
    assert "no heartbeat" in capsys.readouterr().out
