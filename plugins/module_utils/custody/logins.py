# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logins as sshd tells them, beside the runs that the trail has: a certificate is a shell, so each is accounted for.

sshd says of each login who, from where and with which key; of a certificate also its key id and its CA (auth.c,
``auth_log``). An account without privileges cannot make it say so, as all that it says then begins otherwise.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from ..change import break_glass, window
from ..trail import canonical, commitment, entry
from ..trail.commitment import Opening
from ..trail.entry import Draft
from ..trail.sqlite import SqliteLog
from . import certificate

_ACCEPTED = re.compile(
    r"Accepted (?P<method>\S+) for (?P<account>\S+) from (?P<address>\S+) port \d+ ssh2"
    r"(?:: \S+ (?P<key>SHA256:\S+)(?: ID (?P<key_id>.*) \(serial \d+\) CA \S+ (?P<authority>SHA256:\S+))?)?"
)
_ONE_USE = datetime.timedelta(minutes=10)
_RUN = re.compile(r"flowaudit:(?P<change>[^:]*):(?P<run>[0-9a-f-]{36}):.+")


@dataclasses.dataclass(frozen=True)
class Login:
    """A login to a host."""

    at: datetime.datetime
    method: str  # publickey, password, …; empty when sshd's words are not understood
    account: str = ""
    address: str = ""
    key: str = ""  # fingerprint
    key_id: str = ""  # of a certificate
    authority: str = ""  # fingerprint of its CA


@dataclasses.dataclass(frozen=True)
class Host:
    """The host that logins were on."""

    name: str
    inventory: str
    authority: str  # fingerprint of the CA that it trusts


def read(message: str, at: datetime.datetime) -> Login | None:
    """The login that a message of sshd tells of; none when it tells of something else."""
    if not message.startswith("Accepted "):
        return None
    told = _ACCEPTED.fullmatch(message)
    # Somebody is in, that much is certain.
    return Login(at, **{name: value or "" for name, value in told.groupdict().items()}) if told else Login(at, "")


def entry_of(log: SqliteLog, host: Host, login: Login) -> tuple[Draft, Opening] | None:
    """What the trail should have of a login; none for those by which the service watches the host.

    What names a person (account, address, key) is an opening, which can be erased.
    """
    ours = login.authority == host.authority
    if ours and login.key_id == certificate.watch_id(host.inventory, host.name):
        return None
    said = dataclasses.asdict(login)
    said.pop("at")
    opening = commitment.commit("login", canonical.encode(said))
    draft: Draft = {
        "ts": entry.timestamp(),
        "at": entry.timestamp(login.at.timestamp()),
        "inventory": host.inventory,
        "host": host.name,
        "login": opening.commitment,
    }
    seal = certificate.seal_of(login.key_id) if ours else ""
    if seal and not _is_sealed(log, host.inventory, seal):
        return {**draft, "type": entry.SESSION_UNACCOUNTED, "reason": "unknown_seal"}, opening
    if seal:
        use = _use(log, host, login, seal)
        return {**draft, "type": entry.BREAK_GLASS_USED, "use": use, "seal": seal}, opening
    run, reason = _account(log, host, login, ours)
    if reason:
        return {**draft, "type": entry.SESSION_UNACCOUNTED, "reason": reason}, opening
    return {**draft, "type": entry.SESSION_OPENED, **run}, opening


def _is_sealed(log: SqliteLog, inventory: str, seal: str) -> bool:
    """Whether there is such a credential: a host, which may be in anybody's hands, can say that any was used."""
    return any((value["inventory"], value["seal"]) == (inventory, seal) for value in log.told(entry.BREAK_GLASS_SEALED))


def _use(log: SqliteLog, host: Host, login: Login, seal: str) -> str:
    """The use that a login belongs to: logins within minutes of each other are one."""
    for use in reversed(break_glass.unreviewed(log, host.inventory)):
        at = window.parse_moment("at", use.at)
        if (use.host, use.seal) == (host.name, seal) and abs(login.at - at) < _ONE_USE:
            return use.id
    return entry.new_id()


def _account(log: SqliteLog, host: Host, login: Login, ours: bool) -> tuple[Draft, str]:
    """The run that a login belongs to, or why to none."""
    if not login.key_id:
        return {}, "no_certificate"
    if not ours:
        return {}, "foreign_certificate"
    named = _RUN.fullmatch(login.key_id)
    entries = [] if named is None else _of_run(log, named["run"])
    begun = next((value for value in entries if value["type"] == entry.RUN_AUTHORIZED), None)
    if named is None or begun is None:
        return {}, "unknown_run"
    if begun["inventory"] != host.inventory or host.name not in begun["hosts"]:
        return {}, "other_hosts"
    ended = [value for value in entries if value["type"] in (entry.RUN_END, entry.RUN_ABORTED)]
    if login.at < window.parse_moment("ts", begun["ts"]) - certificate.LEEWAY:
        return {}, "before_run"
    if ended and login.at > window.parse_moment("ts", ended[-1]["ts"]) + certificate.LEEWAY:
        return {}, "after_run"
    return {"run": named["run"], **({"chg": begun["chg"]} if "chg" in begun else {})}, ""


def _of_run(log: SqliteLog, run: str) -> list[dict[str, t.Any]]:
    kinds = (entry.RUN_AUTHORIZED, entry.RUN_END, entry.RUN_ABORTED)
    rows = log.ask(
        "SELECT line FROM entries INDEXED BY entries_run WHERE run = ? AND type IN (?, ?, ?) ORDER BY seq",
        (run, *kinds),
    )
    return [canonical.decode(line.encode()) for (line,) in rows if line is not None]
