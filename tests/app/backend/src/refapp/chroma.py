"""The few calls of Chroma's REST API (v2) the app needs."""

from __future__ import annotations

from typing import Any

import httpx

COLLECTION = "documents"


class Chroma:
    def __init__(self, url: str, *, timeout_s: float = 10.0, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=f"{url}/api/v2/tenants/default_tenant/databases/default_database/",
            timeout=timeout_s,
            transport=transport,
        )

    def count_collections(self, timeout_s: float) -> int:
        return int(self._answer(self._client.get("collections_count", timeout=timeout_s)))

    def store(self, document: str, passages: list[str], embeddings: list[list[float]], first: int) -> None:
        """Write passages numbered from `first`; writing them again changes nothing, so a job can be repeated."""
        numbers = range(first, first + len(passages))
        body = {
            "ids": [f"{document}:{number}" for number in numbers],
            "documents": passages,
            "embeddings": embeddings,
            "metadatas": [{"document_id": document, "passage": number} for number in numbers],
        }
        self._answer(self._client.post(f"collections/{self._collection()}/upsert", json=body))

    def similar(self, document: str, limit: int) -> list[tuple[str, float]]:
        """Other documents and their distance (squared L2) at the nearest passage, nearest first."""
        collection = self._collection()
        own = self._answer(
            self._client.post(
                f"collections/{collection}/get",
                json={"where": {"document_id": document}, "limit": 10, "include": ["embeddings"]},
            )
        )["embeddings"]
        if not own:
            return []
        found = self._answer(
            self._client.post(
                f"collections/{collection}/query",
                json={
                    "query_embeddings": own,
                    "n_results": 5 * limit,
                    "where": {"document_id": {"$ne": document}},
                    "include": ["metadatas", "distances"],
                },
            )
        )
        nearest: dict[str, float] = {}
        for metadatas, distances in zip(found["metadatas"], found["distances"], strict=True):
            for metadata, distance in zip(metadatas, distances, strict=True):
                other = metadata["document_id"]
                nearest[other] = min(distance, nearest.get(other, distance))
        return sorted(nearest.items(), key=lambda item: item[1])[:limit]

    def _collection(self) -> str:
        """The collection's id. Asked each time: after a restore it is another one."""
        answer = self._client.post("collections", json={"name": COLLECTION, "get_or_create": True})
        return str(self._answer(answer)["id"])

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        return response.raise_for_status().json()
