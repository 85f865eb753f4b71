# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logins as sshd tells them; that it tells them so is seen in tests/custody."""

from __future__ import annotations

import datetime
import json
import pathlib
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import certificate, logins
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, home, sqlite

NOW = datetime.datetime.now(datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)
RUN = "01900000-0000-7000-8000-000000000001"
CA = "SHA256:our/CA"
HOST = logins.Host("nuc1", "production", CA)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Iterator[sqlite.SqliteLog]:
    made = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.4.0", "test")
    fields = {"run": RUN, "chg": "CHG-2026-0042", "inventory": "production", "hosts": ["nuc1"]}
    made.append([{"type": entry.RUN_AUTHORIZED, "ts": entry.timestamp(NOW.timestamp()), **fields}])
    yield made
    made.close()


def message(key_id: str, authority: str = CA) -> str:
    key = f"ED25519-CERT SHA256:a+b/c ID {key_id} (serial 12345) CA ED25519 {authority}"
    return f"Accepted publickey for ops from 192.0.2.7 port 41882 ssh2: {key}"


def of(log: sqlite.SqliteLog, text: str, at: datetime.datetime = NOW, host: logins.Host = HOST) -> dict[str, t.Any]:
    login = logins.read(text, at)
    assert login is not None
    found = logins.entry_of(log, host, login)
    if found is None:
        return {}
    draft, opening = found
    log.append([draft], [opening])
    return draft | {"details": json.loads(opening.value)}


def test_a_run_accounts_for_its_login(log: sqlite.SqliteLog) -> None:
    found = of(log, message(certificate.key_id("CHG-2026-0042", RUN, "alice")), NOW + MINUTE)
    assert found["type"] == entry.SESSION_OPENED
    assert (found["run"], found["chg"], found["host"]) == (RUN, "CHG-2026-0042", "nuc1")
    assert found["details"] == {
        "method": "publickey",
        "account": "ops",
        "address": "192.0.2.7",
        "key": "SHA256:a+b/c",
        "key_id": f"flowaudit:CHG-2026-0042:{RUN}:alice",
        "authority": CA,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Accepted password for ops from 192.0.2.7 port 1 ssh2", "no_certificate"),
        ("Accepted publickey for ops from 192.0.2.7 port 1 ssh2: ED25519 SHA256:abc", "no_certificate"),
        ("Accepted something that no sshd of today says", "no_certificate"),
        (message(certificate.key_id("-", RUN, "alice"), "SHA256:other"), "foreign_certificate"),
        (message(certificate.watch_id("production", "nuc1"), "SHA256:other"), "foreign_certificate"),
        (message(certificate.seal_id("1f2e3d4c"), "SHA256:other"), "foreign_certificate"),
        (message("alice"), "unknown_run"),
        (message(""), "no_certificate"),
        (message(certificate.key_id("", RUN.replace("1", "2"), "alice")), "unknown_run"),
        (message(certificate.watch_id("production", "nuc2")), "unknown_run"),
        (message(f"{certificate.key_id('', RUN, 'alice')} (serial 1) CA RSA SHA256:x"), "foreign_certificate"),
    ],
)
def test_what_no_run_accounts_for(log: sqlite.SqliteLog, text: str, reason: str) -> None:
    if "CA RSA" in text:
        text = text.replace(f" CA ED25519 {CA}", " CA ED25519 SHA256:x")
    found = of(log, text)
    assert (found["type"], found["reason"]) == (entry.SESSION_UNACCOUNTED, reason)


def test_another_host_or_another_time_is_not_the_runs(log: sqlite.SqliteLog) -> None:
    own = message(certificate.key_id("", RUN, "alice"))
    assert of(log, own, host=logins.Host("nuc2", "production", CA))["reason"] == "other_hosts"
    assert of(log, own, host=logins.Host("nuc1", "staging", CA))["reason"] == "other_hosts"
    assert of(log, own, NOW - 2 * MINUTE)["reason"] == "before_run"
    log.append([{"type": entry.RUN_END, "ts": entry.timestamp(NOW.timestamp()), "run": RUN, "status": "ok"}])
    assert of(log, own, NOW + 2 * MINUTE)["reason"] == "after_run"
    # The clocks of control node and host need not agree to the second.
    assert of(log, own, NOW + MINUTE / 2)["type"] == entry.SESSION_OPENED


def test_a_sealed_credential_is_known_by_its_key_id(log: sqlite.SqliteLog) -> None:
    told = message(certificate.seal_id("1f2e3d4c"))
    # A host may say anything.
    assert of(log, told)["reason"] == "unknown_seal"
    fields = {"ts": entry.timestamp(), "seal": "1f2e3d4c", "until": entry.timestamp()}
    log.append([{"type": entry.BREAK_GLASS_SEALED, "inventory": "staging", **fields}])
    assert of(log, told)["reason"] == "unknown_seal"
    log.append([{"type": entry.BREAK_GLASS_SEALED, "inventory": "production", **fields}])
    found = of(log, told)
    assert (found["type"], found["seal"]) == (entry.BREAK_GLASS_USED, "1f2e3d4c")
    assert found["use"] and found["at"] == entry.timestamp(NOW.timestamp())
    # Logins within minutes are one use, later ones another.
    assert of(log, told, NOW + 5 * MINUTE)["use"] == found["use"]
    assert of(log, told, NOW + 14 * MINUTE)["use"] == found["use"]
    assert of(log, told, NOW + 30 * MINUTE)["use"] != found["use"]
    assert of(log, told, host=logins.Host("nuc2", "production", CA))["use"] != found["use"]
    assert of(log, message(certificate.seal_id("x" * 60_000)))["reason"] == "unknown_run"


def test_what_watches_is_not_reported(log: sqlite.SqliteLog) -> None:
    assert of(log, message(certificate.watch_id("production", "nuc1"))) == {}


@pytest.mark.parametrize("text", ["", "Invalid user Accepted publickey for ops", "Connection closed", " Accepted x"])
def test_what_is_no_login(text: str) -> None:
    assert logins.read(text, NOW) is None
