"""Receive a multipart upload straight into a file, never more of it than allowed.

The framework's own form parser would first spool the whole request, however large, before anyone could object.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

#: Bytes a request may have besides the file: boundaries, headers, small fields.
OVERHEAD_BYTES = 64 * 1024


class BadUploadError(Exception):
    """The request is not a multipart form with one file in the field `file`."""


class TooLargeError(Exception):
    """The file has more bytes than allowed."""


class _FileField:
    """Parser callbacks that copy the content of the field `file` to `target` and drop every other field."""

    def __init__(self, target: BinaryIO, max_bytes: int) -> None:
        self._target = target
        self._left = max_bytes
        self._name, self._value = b"", b""
        self._disposition = b""
        self._copying = False
        self.filename: str | None = None
        self.complete = False

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._copying = options.get(b"name") == b"file" and b"filename" in options
        if self._copying:
            if self.filename is not None:
                raise BadUploadError("Send one file at a time.")
            self.filename = clean_filename(options[b"filename"].decode("utf-8", "replace"))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._copying:
            self._left -= end - start
            if self._left < 0:
                raise TooLargeError
            self._target.write(data[start:end])

    def on_end(self) -> None:
        self.complete = True


async def receive(body: AsyncIterator[bytes], content_type: str, target: BinaryIO, max_bytes: int) -> str:
    """Copy the file of the form to `target` and return its cleaned name."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise BadUploadError("Send a multipart form with the document in the field 'file'.")
    field = _FileField(target, max_bytes)
    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": field.on_part_begin,
            "on_header_field": field.on_header_field,
            "on_header_value": field.on_header_value,
            "on_header_end": field.on_header_end,
            "on_headers_finished": field.on_headers_finished,
            "on_part_data": field.on_part_data,
            "on_end": field.on_end,
        },
    )
    left = max_bytes + OVERHEAD_BYTES
    try:
        async for chunk in body:
            left -= len(chunk)
            if left < 0:
                raise TooLargeError
            parser.write(chunk)
        parser.finalize()
    except MultipartParseError as error:
        raise BadUploadError("The multipart form is damaged.") from error
    if field.filename is None or not field.complete:
        raise BadUploadError("The form has no complete file in the field 'file'.")
    return field.filename


def clean_filename(name: str) -> str:
    """The last component without control characters; it is only shown, never used as a path."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable()).strip()[:255] or "document"
