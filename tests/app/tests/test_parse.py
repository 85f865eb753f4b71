"""From files to text and passages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import pdf

from refapp.parse import UnreadableError, parse, passages
from refapp.settings import Settings


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "document"
    path.write_bytes(content)
    return path


def test_a_pdf(tmp_path: Path, settings: Settings) -> None:
    parsed = parse(write(tmp_path, pdf("First page.", "Second page.")), settings.limits)
    assert (parsed.media_type, parsed.pages) == ("application/pdf", 2)
    assert parsed.text.split() == ["First", "page.", "Second", "page."]


def test_a_text(tmp_path: Path, settings: Settings) -> None:
    parsed = parse(write(tmp_path, "\ufeffPrüfung".encode()), settings.limits)
    assert (parsed.media_type, parsed.pages, parsed.text) == ("text/plain", 1, "Prüfung")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b" \n", "The document contains no text."),
        (b"\x00\x01", "The file is neither a PDF nor UTF-8 text."),
        (b"\xff\xfe", "The file is neither a PDF nor UTF-8 text."),
        (b"%PDF-1.4\nnothing more", "The PDF is damaged."),
        (b"x" * 31, "The document has more than 30 characters."),
        (pdf("Some text on a page of a PDF, too long."), "The document has more than 30 characters."),
        (pdf("a", "b", "c"), "The document has 3 pages, the limit is 2."),
    ],
)
def test_what_is_refused(tmp_path: Path, settings: Settings, content: bytes, sentence: str) -> None:
    limits = replace(settings.limits, max_pages=2, max_text_characters=30)
    with pytest.raises(UnreadableError) as caught:
        parse(write(tmp_path, content), limits)
    assert str(caught.value) == sentence


def test_every_truncated_pdf_is_refused_or_read(tmp_path: Path, settings: Settings) -> None:
    whole = pdf("A page.")
    for length in range(5, len(whole), 7):
        try:
            parse(write(tmp_path, whole[:length]), settings.limits)
        except UnreadableError:
            continue


def test_passages_keep_every_word_and_the_size() -> None:
    text = " ".join(f"word{number}" for number in range(1000)) + " " + "x" * 500
    pieces = passages(text, size=100)
    assert " ".join(pieces) == text
    assert all(len(piece) <= 100 for piece in pieces[:-1])
    assert passages("") == []
