# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checkpoints: the size and root of a log at a moment (C2SP tlog-checkpoint: https://c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
import dataclasses
import re

from ..errors import FlowauditError
from . import note

_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The log ``origin`` had ``size`` entries and the Merkle root ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def parse(signed: str) -> Checkpoint:
    """The checkpoint of a signed note whose signatures are looked at elsewhere.

    Raises:
        FlowauditError: the note or its text has not the form.
    """
    text, _signatures = note.split(signed)
    return parse_text(text)


def parse_text(text: str) -> Checkpoint:
    """The checkpoint of a note's text; lines after the third (extensions) are passed over."""
    lines = text.split("\n")
    if len(lines) < 4 or not lines[0] or not _SIZE.fullmatch(lines[1]):
        raise FlowauditError("A checkpoint is the log's origin, its size and its root, a line each.")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except ValueError as error:
        raise FlowauditError("The root of a checkpoint is base64.") from error
    if len(root) != 32 or base64.b64encode(root).decode() != lines[2]:
        raise FlowauditError("The root of a checkpoint is the base64 of 32 bytes.")
    return Checkpoint(lines[0], int(lines[1]), root)
