# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signed notes with Ed25519 keys (C2SP signed-note: https://c2sp.org/signed-note).

A note is a text that ends with a newline, a blank line, and a line for each signature::

    — <name of the key> <base64 of key id (4 bytes) and signature>

A verifier key is ``<name>+<key id in hex>+<base64 of 0x01 and the public key>``. A reader passes over signatures of
keys and of algorithms it does not know, so a second line (a witness, a post-quantum key) can be added at any time.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import typing as t
from collections.abc import Iterable, Mapping

from ..errors import FlowauditError

ED25519 = b"\x01"
LARGEST = 1 << 20  # bytes; the specification lets a reader refuse more

_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = re.compile(r"— (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+={0,2})")


@dataclasses.dataclass(frozen=True)
class VerifierKey:
    """A public key and the name it signs under; ``public`` has 32 bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256 over name, newline, algorithm and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def pem(self) -> str:
        """The key as ``openssl`` reads it (SubjectPublicKeyInfo, RFC 8410)."""
        encoded = base64.b64encode(bytes.fromhex("302a300506032b6570032100") + self.public).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n"

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Whether the signature over the text is by this key."""
        # Loaded when it is needed: it takes as long as all else of a start together.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519

        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class Signer(t.Protocol):
    """Something that holds a private key, here or behind a socket."""

    @property
    def key(self) -> VerifierKey: ...

    def sign(self, text: bytes) -> bytes: ...


def parse_key(text: str) -> VerifierKey:
    """Read a verifier key.

    Raises:
        FlowauditError: it is none, or not of Ed25519, or its id is not that of its name and key.
    """
    parts = text.strip().split("+", 2)
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]):
        raise FlowauditError(f"This is no verifier key (name+id+key): {text.strip()[:80]!r}")
    name, key_id, encoded = parts
    _check_text(name)
    raw = _from_base64(encoded)
    if raw is None:
        raise FlowauditError(f"The verifier key of {name} is no base64.")
    if raw[:1] != ED25519 or len(raw) != 33:
        raise FlowauditError(f"The verifier key of {name} is no Ed25519 key.")
    key = VerifierKey(name, raw[1:])
    if key.id.hex() != key_id:
        raise FlowauditError(
            f"The verifier key of {name} has the id {key_id}, but its name and key make {key.id.hex()}."
        )
    return key


def sign(text: str, signers: Iterable[Signer]) -> str:
    """The note of a text that ends with a newline."""
    if not text.endswith("\n"):
        raise FlowauditError("The text of a note ends with a newline.")
    lines = []
    for signer in signers:
        value = base64.b64encode(signer.key.id + signer.sign(text.encode())).decode()
        lines.append(f"— {signer.key.name} {value}\n")
    return f"{text}\n{''.join(lines)}"


def split(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text of a note, and its signatures as (name, key id, signature), none of them verified.

    Raises:
        FlowauditError: it has not the form of a note.
    """
    if _check_text(note) > LARGEST:
        raise FlowauditError("A note has at most one megabyte.")
    text, separator, rest = note.rpartition("\n\n")
    if not separator or not rest.endswith("\n"):
        raise FlowauditError("A note is a text, a blank line and signatures.")
    text += "\n"
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise FlowauditError("A note has no control characters.")
    signatures = []
    for line in rest[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        value = _from_base64(match["value"]) if match else None
        if match is None or value is None or len(value) < 5:
            raise FlowauditError(f"This is no signature of a note: {line[:80]!r}")
        signatures.append((match["name"], value[:4], value[4:]))
    return text, signatures


def verified(note: str, keys: Mapping[tuple[str, bytes], VerifierKey]) -> tuple[str, list[VerifierKey]]:
    """The text of a note, and which of the keys (by name and id) have signed it.

    Raises:
        FlowauditError: no note, or a signature that names one of the keys is not by it, or none names one.
    """
    text, signatures = split(note)
    signed = []
    for name, key_id, signature in signatures:
        key = keys.get((name, key_id))
        if key is None or key in signed:
            continue
        if not key.verify(signature, text.encode()):
            raise FlowauditError(f"The signature of {name} ({key_id.hex()}) is not by that key.")
        signed.append(key)
    if not signed:
        raise FlowauditError("None of the keys that are known has signed this.")
    return text, signed


def _from_base64(text: str) -> bytes | None:
    """The bytes; none when the text is not the one that these bytes have."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return value if base64.b64encode(value).decode() == text else None


def _check_text(text: str) -> int:
    """How many bytes the text has in UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise FlowauditError("A note and the names of keys are text in UTF-8.") from error


def by_name_and_id(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    """The keys as ``verified`` takes them."""
    return {(key.name, key.id): key for key in keys}
