"""The stand-in for Ollama over real HTTP, and its command line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import APP

import standin


@pytest.fixture
def api(standin_url: str) -> httpx.Client:
    return httpx.Client(base_url=standin_url)


@pytest.fixture
def model(api: httpx.Client) -> str:
    assert api.post("/api/pull", json={"model": "llama3.1:8b", "stream": False}).json() == {"status": "success"}
    return "llama3.1:8b"


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_it_says_what_it_is(api: httpx.Client) -> None:
    assert api.get("/").text == "Ollama is running"
    assert api.get("/api/version").json()["version"].endswith("-standin")
    assert "X-Ollama-Standin" in api.get("/api/tags").headers


def test_pull_is_a_stream_and_the_model_is_there(api: httpx.Client) -> None:
    assert api.get("/api/tags").json() == {"models": []}
    statuses = [line["status"] for line in lines(api.post("/api/pull", json={"model": "llama3.1"}))]
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")
    assert [model["name"] for model in api.get("/api/tags").json()["models"]] == ["llama3.1:latest"]


def test_models_survive_a_restart(model: str, tmp_path: Path) -> None:
    assert (tmp_path / "models/manifests/registry.ollama.ai/library/llama3.1/8b").is_file()
    assert [each["name"] for each in standin.Models(tmp_path / "models").all()] == [model]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "a:..", "a:b/c", ".hidden"])
def test_names_are_not_paths(api: httpx.Client, name: str) -> None:
    answer = api.post("/api/pull", json={"model": name})
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid model name"})


@pytest.mark.parametrize("action", ["embed", "generate", "chat", "show"])
def test_a_missing_model(api: httpx.Client, action: str) -> None:
    answer = api.post(f"/api/{action}", json={"model": "x"})
    assert (answer.status_code, answer.json()) == (404, {"error": "model 'x' not found"})


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"{}"])
def test_a_bad_request(api: httpx.Client, content: bytes) -> None:
    assert api.post("/api/generate", content=content).status_code == 400


def test_similar_texts_are_near(api: httpx.Client, model: str) -> None:
    texts = [
        "two invoices need a signature",
        "an invoice needs two signatures, invoices need a signature",
        "sunny weather",
    ]
    answer = api.post("/api/embed", json={"model": model, "input": texts}).json()
    first, near, far = answer["embeddings"]
    assert len(first) == 64
    assert math.isclose(math.hypot(*first), 1.0)

    def nearness(other: list[float]) -> float:
        return sum(a * b for a, b in zip(first, other, strict=True))

    assert nearness(near) > nearness(far) + 0.3
    single = api.post("/api/embed", json={"model": model, "input": texts[0]}).json()
    assert single["embeddings"] == [first]


TEXT = (
    "Audits cover invoices. The weather was fine. Invoices need signatures. Audits found invoices without signatures."
)
SUMMARY = "Audits cover invoices. Invoices need signatures. Audits found invoices without signatures."


def test_generate(api: httpx.Client, model: str) -> None:
    whole = api.post("/api/generate", json={"model": model, "prompt": TEXT, "stream": False}).json()
    assert (whole["response"], whole["done"], whole["done_reason"]) == (SUMMARY, True, "stop")
    stream = lines(api.post("/api/generate", json={"model": model, "prompt": TEXT}))
    assert "".join(line["response"] for line in stream) == SUMMARY
    assert [line["done"] for line in stream] == [False] * (len(stream) - 1) + [True]
    assert [each["name"] for each in api.get("/api/ps").json()["models"]] == [model]


def test_chat(api: httpx.Client, model: str) -> None:
    messages = [{"role": "system", "content": "Summarise."}, {"role": "user", "content": TEXT}]
    whole = api.post("/api/chat", json={"model": model, "messages": messages, "stream": False}).json()
    assert whole["message"] == {"role": "assistant", "content": SUMMARY}
    stream = lines(api.post("/api/chat", json={"model": model, "messages": messages}))
    assert "".join(line["message"]["content"] for line in stream) == SUMMARY


def test_show(api: httpx.Client, model: str) -> None:
    assert api.post("/api/show", json={"model": model}).json()["capabilities"] == ["completion", "embedding"]


def test_the_command_line(standin_url: str) -> None:
    def ollama(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(APP / "ollama_standin" / "standin.py"), *arguments]
        environment = os.environ | {"OLLAMA_HOST": standin_url}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert ollama("pull", "llama3.1:8b").stdout.splitlines()[-1] == "success"
    assert "llama3.1:8b" in ollama("list").stdout
    refused = ollama("pull", "../x")
    assert (refused.returncode, refused.stderr) == (1, "Error: invalid model name\n")
    assert "standin" in ollama("--version").stdout


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ("127.0.0.1", 11434)),
        ("ollama", ("ollama", 11434)),
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),  # noqa: S104
        ("http://ollama:11434", ("ollama", 11434)),
    ],
)
def test_ollama_host(monkeypatch: pytest.MonkeyPatch, value: str, expected: tuple[str, int]) -> None:
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert standin.host_and_port("127.0.0.1") == expected
