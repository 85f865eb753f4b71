"""Documents in PostgreSQL and their files on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from refapp.database import check_schema
from refapp.models import Document, Status, now

SUFFIXES = {"application/pdf": ".pdf", "text/plain": ".txt"}


def stored_file(upload_dir: Path, document: Document) -> Path:
    return upload_dir / f"{document.id}{SUFFIXES[document.media_type]}"


class Documents:
    """Each method is one transaction, and none works on a schema this release does not know."""

    def __init__(self, engine: Engine) -> None:
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with self._sessions.begin() as session:
            check_schema(session.connection())
            yield session

    def check(self) -> None:
        """Raise unless the database answers and its schema fits."""
        with self._transaction():
            pass

    def add(self, document: Document) -> None:
        with self._transaction() as session:
            session.add(document)

    def remove(self, document_id: UUID) -> None:
        with self._transaction() as session:
            session.delete(session.get_one(Document, document_id))

    def get(self, document_id: UUID) -> Document | None:
        with self._transaction() as session:
            return session.get(Document, document_id)

    def page(self, offset: int, limit: int) -> tuple[list[Document], int]:
        """Documents, newest first, and how many there are in all."""
        newest = select(Document).order_by(Document.created_at.desc(), Document.id).offset(offset).limit(limit)
        with self._transaction() as session:
            return list(session.scalars(newest)), session.scalar(select(func.count(Document.id))) or 0

    def unfinished(self, older_than_s: float) -> list[UUID]:
        """Accepted at least `older_than_s` ago and still neither done nor failed."""
        with self._transaction() as session:
            return list(
                session.scalars(
                    select(Document.id)
                    .where(Document.status.in_([Status.QUEUED, Status.PROCESSING]))
                    .where(Document.created_at < now() - timedelta(seconds=older_than_s))
                    .order_by(Document.created_at)
                )
            )

    def reopen(self, since: datetime) -> list[UUID]:
        """Have what was done since then done again: its vectors may be gone."""
        with self._transaction() as session:
            done = select(Document).where(Document.status == Status.DONE, Document.updated_at > since)
            found = list(session.scalars(done.with_for_update()))
            for document in found:
                document.status = Status.QUEUED
            return [document.id for document in found]

    def begin(self, document_id: UUID) -> Document | None:
        """The document, now `processing`; None if it is gone or finished."""
        with self._transaction() as session:
            document = session.get(Document, document_id, with_for_update=True)
            if document is None or document.status in (Status.DONE, Status.FAILED):
                return None
            document.status = Status.PROCESSING
            return document

    @contextmanager
    def finishing(self, document_id: UUID, *, summary: str, passages: int, text: str) -> Iterator[Document]:
        """The document with its result; it is `done` only if the block succeeds."""
        with self._transaction() as session:
            document = session.get_one(Document, document_id)
            document.set_result(summary=summary, passages=passages, text=text)
            session.flush()
            yield document

    def fail(self, document_id: UUID, reason: str) -> None:
        with self._transaction() as session:
            document = session.get(Document, document_id)
            if document is not None:
                document.status, document.error = Status.FAILED, reason
