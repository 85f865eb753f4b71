"""The documents table as this release knows it: with the language, and the summary under a new name."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, DateTime, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from refapp.language import detect


class Base(DeclarativeBase):
    pass


class Status(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    DONE = "done"
    FAILED = "failed"


def now() -> datetime:
    return datetime.now(UTC)


class Document(Base):
    __tablename__ = "documents"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=uuid4)
    filename: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    pages: Mapped[int]
    characters: Mapped[int]
    status: Mapped[str] = mapped_column(Text, default=Status.QUEUED)
    error: Mapped[str | None] = mapped_column(Text)
    passages: Mapped[int | None]
    summary: Mapped[str | None] = mapped_column("abstract", Text)
    language: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now, onupdate=now)

    def set_result(self, *, summary: str, passages: int, text: str) -> None:
        """Take what the worker found out about `text`."""
        self.status, self.error = Status.DONE, None
        self.summary, self.passages, self.language = summary, passages, detect(text)

    def result(self) -> dict[str, Any] | None:
        if self.status != Status.DONE:
            return None
        return {"summary": self.summary, "passages": self.passages, "language": self.language}

    def as_json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "filename": self.filename,
            "media_type": self.media_type,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "pages": self.pages,
            "characters": self.characters,
            "status": self.status,
            "error": self.error,
            "result": self.result(),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }
