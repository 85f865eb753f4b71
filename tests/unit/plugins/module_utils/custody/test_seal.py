# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said of sealed credentials, and of alarms; they are sent in tests/custody."""

from __future__ import annotations

import typing as t

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import alarm, seal
from ansible_collections.flowaudit.ops.plugins.module_utils.custody.settings import Target

KEY = "ssh-ed25519 AAAA"


def sheets(language: str, hosts: dict[str, Target]) -> list[str]:
    sealed = seal.Sealed("production", "1f2e3d4c", "2027-11-28", "ops", hosts, "KEY", "CERTIFICATE", "a-b")
    return seal.sheets(sealed, language).split(seal.PAGE)


@pytest.mark.parametrize("language", ["en", "de"])
def test_two_sheets_for_two_envelopes(language: str) -> None:
    hosts = {"nuc1": Target("192.0.2.10", KEY), "nuc2": Target("nuc2.example.org", KEY, 2222)}
    first, second, rest = sheets(language, hosts)
    assert rest == ""
    assert "KEY" in first and "CERTIFICATE" in first and "a-b" not in first
    assert "a-b" in second and "KEY" not in second
    assert "-i break-glass ops@192.0.2.10   # nuc1\n" in first
    assert "-i break-glass -p 2222 ops@nuc2.example.org   # nuc2\n" in first
    assert max(map(len, first.splitlines())) <= 100
    assert "ops@<host>" in sheets(language, {})[0]


def test_a_passphrase_can_be_read_and_is_another_each_time() -> None:
    words = [seal.passphrase() for _number in range(50)]
    assert len(set(words)) == 50
    assert {len(group) for word in words for group in word.split("-")} == {5}
    assert not set("".join(words)) & set("01lo")


def test_a_key_is_opened_by_its_passphrase_alone() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    made = seal.encrypted(private, "a-b").encode()
    read = serialization.load_ssh_private_key(made, b"a-b")
    assert isinstance(read, ed25519.Ed25519PrivateKey)
    assert read.private_bytes_raw() == private.private_bytes_raw()
    with pytest.raises(ValueError, match="Corrupt data"):
        serialization.load_ssh_private_key(made, b"a-c")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"type": "break_glass.used", "seal": "1f2e", "at": "T"},
            "BREAK-GLASS: the sealed credential 1f2e was used",
        ),
        ({"type": "host.unwatched", "since": "T"}, "Logins to nuc1 (production) have not been watched since T"),
        (
            {"type": "session.unaccounted", "at": "T", "reason": "after_run", "seq": 7},
            "Somebody logged in to nuc1 (production) at T after its run had ended; the trail has it as entry 7.",
        ),
        ({"type": "session.unaccounted", "at": "T", "reason": "new", "seq": 7}, "Somebody logged in to nuc1"),
    ],
)
def test_an_alarm_is_a_sentence(more: dict[str, t.Any], sentence: str) -> None:
    assert alarm.sentence({"inventory": "production", "host": "nuc1", **more}).startswith(sentence)
