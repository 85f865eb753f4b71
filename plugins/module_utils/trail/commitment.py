# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commitments: an entry holds c = SHA-256(salt ‖ value), the opening (salt, value) is kept beside the log.

Who has the opening can prove that the entry is about this value; without it the entry says nothing. Deleting the
opening deletes the value, and the log verifies as before.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import secrets

_SALT = 32  # bytes


@dataclasses.dataclass(frozen=True)
class Opening:
    """A value that an entry only commits to; ``kind`` says what it is (``actor``, ``diff``)."""

    kind: str
    salt: bytes
    value: bytes

    @property
    def commitment(self) -> str:
        """What the entry holds: ``c:`` and the base64 of 32 bytes."""
        return "c:" + base64.b64encode(hashlib.sha256(self.salt + self.value).digest()).decode()

    def opens(self, commitment: str) -> bool:
        """Whether this is what the commitment commits to; a damaged file may hold anything."""
        return isinstance(self.salt, bytes) and isinstance(self.value, bytes) and self.commitment == commitment


def commit(kind: str, value: bytes) -> Opening:
    """An opening of the value with a salt of its own, so that equal values do not show as equal."""
    return Opening(kind, secrets.token_bytes(_SALT), value)
