"""What is done with a document: parse, embed, summarise, record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from uuid import UUID

from refapp.documents import stored_file
from refapp.models import Document
from refapp.ollama import PROVIDER
from refapp.parse import Parsed, UnreadableError, parse, passages
from refapp.redis_store import DOCUMENTS
from refapp.services import Services

#: Characters of a document the model gets to see; more does not fit the context of a small model.
SUMMARY_INPUT_CHARACTERS = 12_000


class Pipeline:
    """Every step can be repeated: a job that was interrupted anywhere is simply done again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._model_calls = BoundedSemaphore(self._settings.batch.max_concurrent_llm_calls)

    def process(self, document_id: UUID) -> None:
        document = self._services.documents.begin(document_id)
        self._services.cache.invalidate(DOCUMENTS)
        if document is None:
            return
        report = self._progress(str(document_id))
        parsed = self._parse(document)
        pieces = passages(parsed.text)
        self._embed(str(document_id), pieces, report)
        with self._model_call():
            summary = self._services.ollama.summarise(parsed.text[:SUMMARY_INPUT_CHARACTERS])
        self._record(document_id, summary, len(pieces), parsed.text)

    def fail(self, document_id: UUID, reason: str) -> None:
        self._services.documents.fail(document_id, reason)
        self._services.cache.invalidate(DOCUMENTS)
        self._services.counters.count_document("failed")

    def _parse(self, document: Document) -> Parsed:
        try:
            return parse(stored_file(self._settings.upload_dir, document), self._settings.limits)
        except FileNotFoundError as error:
            raise UnreadableError("The document's file is missing.") from error

    def _embed(self, document_id: str, pieces: list[str], report: Callable[[float], None]) -> None:
        """Embeddings for all passages, a chunk at a time: 90 % of the work as far as progress is concerned."""
        size = self._settings.batch.batch_chunk_size
        for first in range(0, len(pieces), size):
            report(90 * first / len(pieces))
            chunk = pieces[first : first + size]
            with self._model_call():
                embeddings = self._services.ollama.embed(chunk)
            self._services.chroma.store(document_id, chunk, embeddings, first)

    def _record(self, document_id: UUID, summary: str, count: int, text: str) -> None:
        with self._services.documents.finishing(document_id, summary=summary, passages=count, text=text) as document:
            export = self._settings.export_dir / f"{document_id}.json"
            part = export.with_suffix(".part")
            part.write_text(json.dumps(document.as_json(), ensure_ascii=False, indent=2), encoding="utf-8")
            part.replace(export)
        self._services.cache.invalidate(DOCUMENTS)
        self._services.counters.count_document("success")

    @contextmanager
    def _model_call(self) -> Iterator[None]:
        """Wait for a free call, then count and time it, unless it fails."""
        with self._model_calls:
            began = time.monotonic()
            yield
            duration = time.monotonic() - began
        self._services.counters.count_llm_call(PROVIDER, self._services.ollama.model, duration)

    def _progress(self, document_id: str) -> Callable[[float], None]:
        """A function that notes the percentage reached, but not more often than the settings say."""
        interval = self._settings.batch.progress_update_interval_seconds
        due = time.monotonic()

        def report(percent: float) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                self._services.progress.set(document_id, round(percent))

        return report
