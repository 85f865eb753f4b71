"""The few calls of Ollama's HTTP API the app needs."""

from __future__ import annotations

from typing import Any

import httpx

PROVIDER = "ollama"


class Ollama:
    """`timeout_s` is long: a summary on a CPU may take two minutes."""

    def __init__(
        self, url: str, model: str, *, timeout_s: float = 120.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.model = model
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(timeout_s, connect=5.0), transport=transport)

    def has_model(self, timeout_s: float) -> bool:
        wanted = self.model if ":" in self.model else f"{self.model}:latest"
        answer = self._client.get("/api/tags", timeout=timeout_s).raise_for_status()
        return any(model["name"] == wanted for model in answer.json()["models"])

    def embed(self, passages: list[str]) -> list[list[float]]:
        embeddings: list[list[float]] = self._post("/api/embed", input=passages)["embeddings"]
        return embeddings

    def summarise(self, text: str) -> str:
        answer = self._post(
            "/api/generate",
            system="Summarise the document in at most three sentences, in the language of the document.",
            prompt=text,
            stream=False,
        )
        return str(answer["response"]).strip()

    def _post(self, path: str, **body: Any) -> Any:
        return self._client.post(path, json={"model": self.model, **body}).raise_for_status().json()
