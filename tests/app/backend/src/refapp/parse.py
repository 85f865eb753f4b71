"""From a file to text, within the limits; and from text to passages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from refapp.settings import Limits

MediaType = Literal["application/pdf", "text/plain"]


class UnreadableError(Exception):
    """The document cannot be processed, now or later; the text is for its owner."""


@dataclass(frozen=True)
class Parsed:
    media_type: MediaType
    pages: int
    text: str


def parse(path: Path, limits: Limits) -> Parsed:
    """Read a PDF or a UTF-8 text; what it is, its first bytes say, not its name."""
    with path.open("rb") as file:
        is_pdf = file.read(5) == b"%PDF-"
    parsed = _parse_pdf(path, limits) if is_pdf else _parse_text(path, limits)
    if not parsed.text.strip():
        raise UnreadableError("The document contains no text.")
    return parsed


def _parse_pdf(path: Path, limits: Limits) -> Parsed:
    try:
        reader = PdfReader(path)
        if reader.is_encrypted:
            raise UnreadableError("The PDF is encrypted.")
        pages = len(reader.pages)
        if pages > limits.max_pages:
            raise UnreadableError(f"The document has {pages} pages, the limit is {limits.max_pages}.")
        texts: list[str] = []
        left = limits.max_text_characters
        for page in reader.pages:
            texts.append(page.extract_text())
            left -= len(texts[-1])
            _check_characters(left, limits)  # page by page, so that a bomb is not unpacked to its end
    except UnreadableError:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        # pypdf lets many kinds of error through when a file is malformed.
        raise UnreadableError("The PDF is damaged.") from error
    return Parsed("application/pdf", pages, _clean("\n\n".join(texts)))


def _parse_text(path: Path, limits: Limits) -> Parsed:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("The file is neither a PDF nor UTF-8 text.") from error
    if "\0" in text:
        raise UnreadableError("The file is neither a PDF nor UTF-8 text.")
    _check_characters(limits.max_text_characters - len(text), limits)
    return Parsed("text/plain", 1, text)


def _check_characters(left: int, limits: Limits) -> None:
    if left < 0:
        raise UnreadableError(f"The document has more than {limits.max_text_characters} characters.")


def _clean(text: str) -> str:
    """PostgreSQL and JSON want neither NULs nor lone surrogates; fonts in PDFs produce both."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


def passages(text: str, size: int = 1200) -> list[str]:
    """Cut text at word boundaries into pieces of at most `size` characters (a longer word is a piece of its own)."""
    pieces: list[str] = []
    words: list[str] = []
    length = 0
    for word in text.split():
        if words and length + len(word) > size:
            pieces.append(" ".join(words))
            words, length = [], 0
        words.append(word)
        length += len(word) + 1
    return [*pieces, " ".join(words)] if words else pieces
