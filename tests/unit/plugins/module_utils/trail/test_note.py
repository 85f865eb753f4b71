# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signed notes, beside the vectors of the specification."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, note

# The example of https://c2sp.org/signed-note, and the key that made it, as golang.org/x/mod/sumdb/note publishes it.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_PRIVATE = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— PeterNeumann {SIGNATURE}\n"
# And that of another implementation.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def signer(name: str = "control/trail/1", seed: int = 1) -> home.FileSigner:
    return home.FileSigner(name, ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def keys(*made: note.VerifierKey) -> dict[tuple[str, bytes], note.VerifierKey]:
    return note.by_name_and_id(made)


@pytest.mark.parametrize(
    ("key", "signed", "text"), [(PETER, NOTE, TEXT), (FOO, FOO_NOTE, "This is an example message.\n")]
)
def test_the_example_of_the_specification_verifies(key: str, signed: str, text: str) -> None:
    parsed = note.parse_key(key)
    assert str(parsed) == key
    assert note.verified(signed, keys(parsed)) == (text, [parsed])


def test_the_example_of_the_specification_is_made_again() -> None:
    peter = home.FileSigner("PeterNeumann", ed25519.Ed25519PrivateKey.from_private_bytes(PETER_PRIVATE))
    assert str(peter.key) == PETER
    assert peter.key.id.hex() == "c74f20a3"
    assert note.sign(TEXT, [peter]) == NOTE


def test_the_id_is_a_hash_over_name_and_key() -> None:
    key = signer().key
    assert key.id == hashlib.sha256(b"control/trail/1\n\x01" + key.public).digest()[:4]


def test_a_key_is_what_openssl_reads() -> None:
    key = signer().key
    loaded = serialization.load_pem_public_key(key.pem().encode())
    assert isinstance(loaded, ed25519.Ed25519PublicKey)
    assert loaded.public_bytes_raw() == key.public


@pytest.mark.parametrize("change", range(len(NOTE.encode())))
def test_every_byte_of_a_note_counts(change: int) -> None:
    raw = NOTE.encode()
    key = note.parse_key(PETER)
    for flip in (0x01, 0x20, 0x80):
        altered = raw[:change] + bytes([raw[change] ^ flip]) + raw[change + 1 :]
        with pytest.raises(FlowauditError):
            note.verified(altered.decode(errors="replace"), keys(key))


def test_only_keys_that_signed_are_told() -> None:
    one, two, three = signer("a", 1), signer("a", 2), signer("b", 3)
    text, signed = note.verified(note.sign("x\n", [one, three]), keys(one.key, two.key, three.key))
    assert (text, signed) == ("x\n", [one.key, three.key])


def test_signatures_of_keys_that_are_not_known_are_passed_over() -> None:
    one = signer()
    unknown = f"— witness {base64.b64encode(os.urandom(80)).decode()}\n"
    signed = note.sign("x\n", [one]) + unknown
    assert note.verified(signed, keys(one.key)) == ("x\n", [one.key])
    text, signatures = note.split(signed)
    assert text == "x\n"
    assert [name for name, _id, _signature in signatures] == ["control/trail/1", "witness"]


def test_a_signature_of_a_known_key_must_hold_beside_others_that_do() -> None:
    one, two = signer("a", 1), signer("b", 2)
    forged = note.sign("y\n", [two]).split("\n\n")[1]
    with pytest.raises(FlowauditError, match=r"The signature of b \([0-9a-f]{8}\) is not by that key"):
        note.verified(note.sign("x\n", [one]) + forged, keys(one.key, two.key))


def test_a_second_signature_of_a_key_says_nothing() -> None:
    """As the specification's own implementation has it: the first counts."""
    one = signer()
    good = note.sign("x\n", [one])
    forged = note.sign("y\n", [one]).split("\n\n")[1]
    assert note.verified(good + forged, keys(one.key)) == ("x\n", [one.key])
    with pytest.raises(FlowauditError, match="is not by that key"):
        note.verified(f"x\n\n{forged}{good.split(chr(10) * 2)[1]}", keys(one.key))


def test_the_same_key_under_another_name_is_another_key() -> None:
    signed = note.sign("x\n", [signer("a", 1)])
    with pytest.raises(FlowauditError, match="None of the keys that are known"):
        note.verified(signed, keys(signer("b", 1).key))
    with pytest.raises(FlowauditError, match="None of the keys that are known"):
        note.verified(signed.replace("— a ", "— b "), keys(signer("b", 1).key))


def test_no_key_verifies_what_it_did_not_sign() -> None:
    key = signer().key
    assert key.verify(signer().sign(b"x"), b"x")
    assert not key.verify(signer().sign(b"x"), b"y")
    assert not key.verify(b"", b"x")
    assert not key.verify(bytes(64), b"x")


def test_what_is_signed_ends_with_a_newline() -> None:
    with pytest.raises(FlowauditError, match="ends with a newline"):
        note.sign("x", [signer()])


def test_the_text_may_have_blank_lines() -> None:
    one = signer()
    text = "x\n\n— a AAAAAAA=\n\ny\n"
    assert note.verified(note.sign(text, [one]), keys(one.key))[0] == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a text, a blank line and signatures"),
        ("x\n", "a text, a blank line and signatures"),
        ("x\n\n", "a text, a blank line and signatures"),
        ("x\n\n— a AAAAAAA=", "a text, a blank line and signatures"),
        ("x\n\n\n", "a text, a blank line and signatures|no signature of a note"),
        ("x\n\n- a AAAAAAA=\n", "no signature of a note: '- a"),
        ("x\n\n— a  AAAAAAA=\n", "no signature of a note"),
        ("x\n\n— a+b AAAAAAA=\n", "no signature of a note"),
        ("x\n\n— a AAAAAAA\n", "no signature of a note"),
        ("x\n\n— a AAAAAA==\n", "no signature of a note"),
        ("x\n\n— a AAAAAAB=\n", "no signature of a note"),
        ("x\n\n— a AAAAAAA= \n", "no signature of a note"),
        ("x\n\n— a AAAAAAA=\n— b\n", "no signature of a note"),
        ("x\r\n\n— a AAAAAAA=\n", "no control characters"),
        ("x\x00\n\n— a AAAAAAA=\n", "no control characters"),
        ("x\t\n\n— a AAAAAAA=\n", "no control characters"),
        ("\udce4\n\n— a AAAAAAA=\n", "text in UTF-8"),
        ("x\n\n— \udce4 AAAAAAA=\n", "text in UTF-8"),
        ("ä" * (note.LARGEST // 2) + "\n\n— a AAAAAAA=\n", "at most one megabyte"),
    ],
)
def test_what_is_no_note_is_named(text: str, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        note.split(text)


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_a_note_is_read_or_refused_and_nothing_else(text: str) -> None:
    for candidate in (text, f"x\n\n— a {text}\n", f"x\n\n— {text} AAAAAAA=\n", f"{text}\n\n— a AAAAAAA=\n"):
        with contextlib.suppress(FlowauditError):
            assert note.split(candidate)[1]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "no verifier key"),
        ("a+b", "no verifier key"),
        ("+c74f20a3+AAAA", "no verifier key"),
        ("a b+c74f20a3+AAAA", "no verifier key"),
        ("a+00000000+ä", "is no base64"),
        ("a+00000000+A", "is no base64"),
        ("a+00000000+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TX=", "is no base64"),
        ("a+00000000+AAAA", "is no Ed25519 key"),
        ("a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(), "is no Ed25519 key"),
        ("a+00000000+" + base64.b64encode(b"\x01" + bytes(33)).decode(), "is no Ed25519 key"),
        (PETER.replace("c74f20a3", "c74f20a4"), "has the id c74f20a4, but its name and key make c74f20a3"),
        (PETER.replace("c74f20a3", "C74F20A3"), "has the id C74F20A3"),
        (PETER.replace("Peter", "peter"), "has the id c74f20a3"),
        ("\udce4+00000000+AAAA", "text in UTF-8"),
    ],
)
def test_what_is_no_key_is_named(key: str, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        note.parse_key(key)


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_a_key_is_read_or_refused_and_nothing_else(text: str) -> None:
    for candidate in (text, f"a+c74f20a3+{text}", f"a+{text}+AAAA", f"{text}+c74f20a3+AAAA"):
        with pytest.raises(FlowauditError):
            note.parse_key(candidate)
