# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Erase personal data: the openings of commitments go, the entries and their hashes stay."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from . import entry
from .sqlite import SqliteLog


def commitments_of(log: SqliteLog, account: str) -> list[str]:
    """The commitments to an actor with this account, as it is or as it logged in, and to its logins to hosts."""
    rows = log.ask("SELECT commitment, kind, value FROM openings WHERE kind IN ('actor', 'login') ORDER BY seq")
    return [commitment for commitment, kind, value in rows if account in _accounts(kind, json.loads(value))]


def _accounts(kind: str, value: dict[str, t.Any]) -> set[t.Any]:
    if kind == "actor":
        return {value.get("user"), value.get("login_user")}
    # Of a run's certificate the key id ends with who ran it (custody.certificate.key_id).
    return {value.get("account"), str(value.get("key_id")).rpartition(":")[2]}


def erase(log: SqliteLog, commitments: Sequence[str], reason: str) -> list[str]:
    """Delete the openings that are there, and record that; returns their commitments.

    The entry names the commitments and the reason, never what was erased.

    Raises:
        FlowauditError: the trail cannot be written; nothing was erased.
    """
    if not reason.strip():
        raise FlowauditError("Say why the data is erased (reason): it is recorded, and cannot be added later.")
    # Asked for as they are: one that was altered and opens nothing has to go too.
    there = sorted(set(commitments) & {found for (found,) in log.ask("SELECT commitment FROM openings")})
    if not there:
        return []
    draft = {"type": entry.REDACTION, "ts": entry.timestamp(), "commitments": there, "reason": reason.strip()}
    log.erase(there, draft)
    log.forget()
    return there
