# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One connection to the custody service: one run, judged, recorded as who it is, given one certificate.

Nothing that the other side says of itself is believed: who it is says the kernel, what was approved say the signatures,
whom to believe says the trail, which this user alone can write.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import grp
import os
import pwd
import re
import secrets
import threading
import typing as t
from collections.abc import Sequence

from ..change import break_glass, gate_file, history, model, staging, trust, window
from ..change import gate as gates
from ..change.authorization import Authorization
from ..change.policy import Refusal
from ..errors import FlowauditError
from ..trail import entry, provenance
from ..trail.commitment import Opening
from ..trail.entry import Draft
from ..trail.home import Home
from ..trail.run import aborted, unended
from ..trail.sqlite import SqliteLog
from . import certificate, protocol, request
from .protocol import Message, Peer, Refused
from .settings import Inventory, Settings

_RUN = re.compile(r"[0-9a-f-]{36}")
# Less than what the clock may lag behind the trail (change.policy), or an entry could keep everybody out.
_AHEAD = datetime.timedelta(seconds=1)
_TS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_TEXTS = ("task", "host", "name", "src", "fqcn", "play")
# What a run says of itself. All else is said by those who may: by signatures, or by this service.
_OF_A_RUN = frozenset(
    {
        *(entry.RUN_START, entry.RUN_END, entry.RUN_ABORTED, entry.PLAYBOOK_START, entry.PLAYBOOK_END),
        *(entry.PLAY_START, entry.TASK_START, entry.TASK_DISPATCHED, entry.TASK_RESULT, entry.TASK_RETRY),
        *(entry.TASK_ASYNC, entry.INCLUDE, entry.NOTIFIED, entry.PROMPT, entry.NO_HOSTS, entry.EVENT, entry.GAP),
    }
)
_ENDS = frozenset({entry.RUN_END, entry.RUN_ABORTED})


class Desk:
    """What all sessions share."""

    def __init__(self, settings: Settings, now: t.Callable[[], datetime.datetime] | None = None) -> None:
        self.settings = settings
        self.home = Home(settings.trail)
        self.now = now or (lambda: datetime.datetime.now(datetime.UTC))
        # What is let begin counts for who asks next; one inventory's repository holds up no other's.
        self.judging = {name: threading.Lock() for name in settings.inventories}
        self._alive: set[str] = set()
        with self.log() as log:
            log.demand_key()
            self.home.custody.touch(mode=0o600)
            # Their connections ended with the service before this one.
            for run in unended(log):
                log.append([aborted(log, run)])

    def log(self) -> _Closing:
        """The trail; each thread opens it for itself."""
        return _Closing(SqliteLog.open_or_create(self.home, provenance.collection_version()))

    def inventory(self, name: t.Any) -> Inventory:
        """An inventory in custody.

        Raises:
            FlowauditError: it is none.
        """
        if not isinstance(name, str) or name not in self.settings.inventories:
            raise FlowauditError(
                f"The inventory {name!r} is not in the custody of this control node; root names those that are"
                " (role control_node, control_node_inventories)."
            )
        return self.settings.inventories[name]

    def is_alive(self, run: str) -> bool:
        """Whether the connection of a run is open."""
        return run in self._alive

    def begun(self, run: str) -> None:
        """A run has a connection."""
        self._alive.add(run)

    def ended(self, run: str) -> None:
        """It has none any more."""
        self._alive.discard(run)


class _Closing:
    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    def __enter__(self) -> SqliteLog:
        return self._log

    def __exit__(self, *_error: object) -> None:
        self._log.close()


@dataclasses.dataclass
class _Run:
    id: str
    change_id: str = ""
    started: bool = False
    ended: bool = False


class Session:
    """Answers one connection; its methods are called by one thread."""

    def __init__(self, desk: Desk, peer: Peer, log: SqliteLog) -> None:
        self._desk = desk
        self._peer = peer
        self._log = log
        self._run: _Run | None = None
        self._certificate = ""

    def answer(self, message: Message) -> Message:
        """The answer to a message.

        Raises:
            Refused: no.
            FlowauditError: it makes no sense, or nothing can be recorded.
        """
        answers = {
            "authorize": self._authorize,
            "append": self._append,
            "checkpoint": self._checkpoint,
            "deny": self._deny,
            "adopt": self._adopt,
            "status": self._status,
            "stand": self._stand,
            "prove": self._prove,
            "uses": self._uses,
            "seal": self._seal,
        }
        answer = answers.get(str(message.get("do")))
        if answer is None:
            raise FlowauditError("The custody service is of another version than this collection.")
        return answer(message)

    @property
    def idle(self) -> bool:
        """Whether no run has begun: a connection that is silent then holds a place for nothing."""
        return self._run is None

    def lost(self) -> None:
        """The connection is gone: a run that did not say its end has been killed."""
        run, self._run = self._run, None
        if run is None:
            return
        try:
            if not run.ended:
                self._log.append([aborted(self._log, run.id)])
        finally:
            self._desk.ended(run.id)

    # ── Whether it may begin ─────────────────────────────────────────────────────────────────────────────────────────

    def _authorize(self, message: Message) -> Message:
        if self._run is not None:
            raise FlowauditError("A connection is one run, and this one has begun.")
        self._demand_member()
        inventory = self._desk.inventory(message.get("inventory"))
        command = request.read(message.get("command"))
        run = entry.new_id()
        with self._desk.judging[inventory.name]:
            now = self._desk.now()
            try:
                granted = self._judged(inventory, command, now)
            except gates.Denied as denied:
                self._record_denial(inventory.name, command, denied.refusals)
                raise Refused(str(denied), [(item.code, item.message, item.mend) for item in denied.refusals]) from None
            # All that can fail before it is recorded; handed over when the run's beginning is.
            made, hosts = self._certified(inventory, granted, command, message, run, now)
            draft = {**granted.fields, "hosts": hosts, "type": entry.RUN_AUTHORIZED}
            # Where it will be seen, should it log in; nothing, where nobody looks.
            draft["watched"] = sorted(set(hosts) & set(inventory.hosts)) if inventory.hosts else None
            draft |= {"ts": entry.timestamp(), "run": run}
            if granted.change_id:
                draft["chg"] = granted.change_id
            self._log.append([draft], granted.openings)
            self._run, self._certificate = _Run(run, granted.change_id), made
            self._desk.begun(run)
        return {
            "run": run,
            "inventory": granted.inventory,
            "change_id": granted.change_id,
            "hosts": None if granted.hosts is None else sorted(granted.hosts),
            "fields": granted.fields,
            "flags": list(granted.flags),
        }

    def _judged(self, inventory: Inventory, command: gates.Command, now: datetime.datetime) -> Authorization:
        gate = self._gate(inventory)
        if gate.protected != inventory.protected:
            is_not = "" if inventory.protected else "not "
            message = f"The inventory {inventory.name} is {is_not}protected, whatever its file says."
            raise gates.Denied([Refusal("unprotected", message, "Take the change of its gate.yml back.")])
        if inventory.protected and trust.accepted(self._log, inventory.name) is None:
            message = f"Nobody has said yet whom to believe about {inventory.name}."
            mend = f"root does: flowaudit-custody adopt {inventory.name}"
            raise gates.Denied([Refusal("policy", message, mend)])
        # Git is not asked: it would run, as this user, whatever the repository's configuration names as a filter. What
        # lies there is bound by its digest, committed or not.
        granted = gates.judge(gate, command, self._log, now, alive=self._desk.is_alive, dirty=False)
        if command.check and granted.fields.get("kind") == model.Kind.EMERGENCY:
            # Its certificate would be one like any other, and no review would fall due.
            message = f"{granted.change_id} is an emergency change, which is not tried first."
            raise gates.Denied([Refusal("check", message, "Run it without --check.")])
        return granted

    def _gate(self, inventory: Inventory) -> gates.Gate:
        gate = gate_file.load(inventory.gate)
        if gate.name != inventory.name:
            raise FlowauditError(f"{inventory.gate} is the gate of {gate.name}, not of {inventory.name}.")
        return gate

    def _certified(
        self,
        inventory: Inventory,
        granted: Authorization,
        command: gates.Command,
        message: Message,
        run: str,
        now: datetime.datetime,
    ) -> tuple[str, list[str]]:
        """The certificate for a run, and the hosts it is for; empty when none is asked for."""
        public_key, hosts = message.get("public_key"), list(granted.fields["hosts"])
        if not isinstance(public_key, str):
            return "", hosts
        if granted.hosts is None:
            hosts = _hosts(message.get("inventory_hosts"), command)
        longest = self._desk.settings.maximum_validity
        # What needs no approval has no window to fit into either.
        until = now + (min(granted.duration, longest) if granted.change_id else longest)
        authority = certificate.Authority.load(self._desk.settings.authority(inventory.name))
        name = certificate.key_id(granted.change_id, run, provenance.account(self._peer.uid))
        principals = [certificate.principal(host) for host in hosts]
        return authority.certify(public_key, principals, name, now, until), hosts

    # ── Recording ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _append(self, message: Message) -> Message:
        drafts, openings = protocol.read_entries(message)
        if not drafts:
            raise FlowauditError("There is nothing to record.")
        run = self._run or self._new_run(drafts)
        begins = not run.started
        taken = [self._checked(run, draft, begins and number == 0) for number, draft in enumerate(drafts)]
        # The actor's, which the client makes as it does without this service, is not believed.
        openings = [opening for opening in openings if opening.kind == "diff"]
        if begins:
            self._demand_member()
            # Who it is says the kernel. An opening is kept once, so each entry has its own.
            actor = self._actor()
            taken[0] |= {"actor": actor.commitment, "node": provenance.node()}
            openings.append(actor)
        places = self._log.append(taken, openings)
        # Not before: what could not be recorded may be sent again.
        self._run, run.started = run, True
        run.ended = any(draft["type"] in _ENDS for draft in taken)
        self._desk.begun(run.id)
        answer: Message = {"first": places.start, "count": len(places)}
        if begins and self._certificate and not run.ended:
            answer["certificate"], self._certificate = self._certificate, ""
        return answer

    def _new_run(self, drafts: Sequence[Draft]) -> _Run:
        """A run that nobody had to let begin."""
        run = drafts[0].get("run")
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise FlowauditError("A run has an id.")
        if self._log.ask("SELECT 1 FROM entries INDEXED BY entries_run WHERE run = ? LIMIT 1", (run,)):
            raise FlowauditError(f"There was a run {run} already.")
        # For a change is what was let begin for it.
        return _Run(run)

    def _checked(self, run: _Run, draft: Draft, first: bool) -> Draft:
        kind = draft.get("type")
        if run.ended or (first and kind != entry.RUN_START):
            raise FlowauditError("There is no run that this is said of.")
        if not first and kind == entry.RUN_START:
            raise FlowauditError("A run begins once.")
        if kind not in _OF_A_RUN or draft.get("run") != run.id:
            raise FlowauditError("A run says what it does, and nothing else.")
        told = draft.get("ts")
        if not isinstance(told, str) or not _TS.fullmatch(told):
            raise FlowauditError("An entry has its moment (ts), written as entries have it.")
        if window.parse_moment("ts", told) > self._desk.now() + _AHEAD:
            raise FlowauditError("What is recorded has happened, and is not to come.")
        if not all(isinstance(draft.get(name, ""), str) for name in _TEXTS):
            raise FlowauditError(f"An entry's {', '.join(_TEXTS)} are texts.")
        kept = {key: value for key, value in draft.items() if key not in ("v", "seq", "prev", "chg", "actor")}
        if run.change_id:
            kept["chg"] = run.change_id
        return kept

    def _actor(self) -> Opening:
        return provenance.actor_of(self._peer.uid, self._peer.login_uid)

    def _demand_member(self) -> None:
        """A process keeps the groups that it began with; who was taken out of the group has no runs any more."""
        group, uid = self._desk.settings.group, self._peer.uid
        if group and uid != 0 and not _is_member(uid, group):
            raise Refused(f"{provenance.account(uid)} is not in the group {group} any more.")

    def _checkpoint(self, _message: Message) -> Message:
        return {"note": self._log.add_checkpoint(), "size": self._log.size()}

    def _deny(self, message: Message) -> Message:
        """What the other side found wrong before it could ask."""
        command = request.read(message.get("command"))
        name = message.get("inventory")
        self._record_denial(name if isinstance(name, str) else "", command, command.problems)
        return {}

    def _record_denial(self, inventory: str, command: gates.Command, refusals: Sequence[Refusal]) -> None:
        actor = self._actor()
        draft: Draft = {
            "type": entry.RUN_DENIED,
            "ts": entry.timestamp(),
            "inventory": inventory[:64],
            "command": command.program,
            "playbooks": list(command.playbooks),
            "reasons": sorted({refusal.code for refusal in refusals}),
            "node": provenance.node(),
            "actor": actor.commitment,
        }
        if model.ID.fullmatch(command.change_id):
            draft["chg"] = command.change_id
        self._log.append([draft], [actor])

    # ── What is known of a change ────────────────────────────────────────────────────────────────────────────────────

    def _stand(self, message: Message) -> Message:
        """What the trail has of a change; what its files say of a revocation or a review is remembered from now on."""
        inventory = self._desk.inventory(message.get("inventory"))
        gate = self._gate(inventory)
        change_id = message.get("change_id")
        if not isinstance(change_id, str):
            raise FlowauditError("Say which change.")
        # Whoever may sign is said by the terms that are believed, not by those that lie there.
        if not gate.protected or trust.accepted(self._log, inventory.name) is None:
            raise FlowauditError(f"Nobody has said yet whom to believe about {inventory.name}.")
        trust.accept(self._log, gate.terms, gate.repository.policy_approvals(gate.terms.digest))
        standing = gates.stand(gate, change_id, self._log, remember=message.get("remember") is not False)
        return {"state": str(standing.state), "entries": history.entries(self._log, change_id)}

    def _prove(self, message: Message) -> Message:
        """The proof of a run on staging, for a change of another inventory."""
        run = message.get("run")
        if not isinstance(run, str):
            raise FlowauditError("Say which run.")
        return {"proof": base64.b64encode(staging.prove(self._log, run)).decode()}

    # ── Break-glass ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _uses(self, message: Message) -> Message:
        """The uses of a sealed credential that are to be reviewed; reviews that are signed count from now on."""
        inventory = self._desk.inventory(message.get("inventory"))
        gate = self._gate(inventory)
        terms = trust.accepted(self._log, inventory.name)
        if terms is None:
            raise FlowauditError(f"Nobody has said yet whom to believe about {inventory.name}.")
        with self._desk.judging[inventory.name]:
            uses = break_glass.remember(self._log, gate.repository, terms)
        return {"uses": [dataclasses.asdict(use) for use in uses]}

    def _seal(self, message: Message) -> Message:
        """A certificate for a key that is sealed and kept in a safe; root makes it, who prints it."""
        if self._peer.uid != 0:
            raise Refused("A credential is sealed by root.")
        inventory = self._desk.inventory(message.get("inventory"))
        public_key, days = message.get("public_key"), message.get("days")
        if not isinstance(public_key, str) or not isinstance(days, int) or not 1 <= days <= certificate.LONGEST_SEAL:
            raise FlowauditError(f"A credential is sealed for 1 to {certificate.LONGEST_SEAL} days.")
        seal, now = secrets.token_hex(4), self._desk.now()
        until = now + datetime.timedelta(days=days)
        authority = certificate.Authority.load(self._desk.settings.authority(inventory.name))
        principals = [certificate.seal_principal(seal)]
        made = authority.certify(public_key, principals, certificate.seal_id(seal), now, until)
        draft: Draft = {
            "type": entry.BREAK_GLASS_SEALED,
            "ts": entry.timestamp(),
            "inventory": inventory.name,
            "seal": seal,
            "until": entry.timestamp(until.timestamp()),
        }
        self._log.append([draft])
        return {"seal": seal, "until": draft["until"], "certificate": made}

    # ── Whom to believe ──────────────────────────────────────────────────────────────────────────────────────────────

    def _adopt(self, message: Message) -> Message:
        """Take an inventory's policy and signers as they are: once, by root, who has looked at them."""
        if self._peer.uid != 0:
            raise Refused("Whom to believe is said by root.")
        inventory = self._desk.inventory(message.get("inventory"))
        gate = self._gate(inventory)
        known = trust.accepted(self._log, inventory.name)
        # Those that count: what was adopted once is changed by signatures alone.
        counting = gate.terms.digest if known is None else known.digest
        wanted = message.get("digest") or counting
        if wanted != counting:
            raise Refused(
                f"Policy and signers of {inventory.name} are not those that somebody has looked at: their digest is"
                f" sha256:{counting}, not sha256:{wanted}."
            )
        if known is None:
            trust.accept(self._log, gate.terms, {})
        elif known.document != gate.terms.document:
            raise Refused(
                f"The policy or the signers of {inventory.name} differ from those that were adopted; those before have"
                " to sign them (flowaudit.ops.change_policy)."
            )
        return {"digest": counting, "changed": known is None}

    def _status(self, _message: Message) -> Message:
        """What hosts have to trust, and whom this control node believes."""
        told = {}
        for name, inventory in self._desk.settings.inventories.items():
            known = trust.accepted(self._log, name) if inventory.protected else None
            told[name] = {
                "protected": inventory.protected,
                "adopted": "" if known is None else f"sha256:{known.digest}",
                "authority": certificate.Authority.load(self._desk.settings.authority(name)).public,
            }
            try:
                told[name]["terms"] = f"sha256:{self._gate(inventory).terms.digest}"
            except FlowauditError as error:
                told[name]["problem"] = str(error)
        return {"origin": self._log.origin, "size": self._log.size(), "inventories": told}


def _is_member(uid: int, group: str) -> bool:
    try:
        account = pwd.getpwuid(uid)
        return grp.getgrnam(group).gr_gid in os.getgrouplist(account.pw_name, account.pw_gid)
    except KeyError:
        return False


def _hosts(named: t.Any, command: gates.Command) -> list[str]:
    """The hosts of an inventory that needs no changes: they trust a CA that no other hosts trust."""
    if not isinstance(named, list) or not all(isinstance(host, str) and model.HOST.fullmatch(host) for host in named):
        raise FlowauditError("An inventory has hosts, each with a name.")
    return sorted(set(named) if command.hosts is None else set(named) & set(command.hosts))
