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
import re
import threading
import typing as t
from collections.abc import Sequence

from ..change import gate as gates
from ..change import gate_file, history, model, staging, trust, window
from ..change.authorization import Authorization
from ..change.policy import Refusal
from ..errors import FlowauditError
from ..trail import entry, provenance
from ..trail.entry import Draft
from ..trail.home import Home
from ..trail.run import aborted, unended
from ..trail.sqlite import SqliteLog
from . import certificate, protocol, request
from .protocol import Message, Peer, Refused
from .settings import Inventory, Settings

_RUN = re.compile(r"[0-9a-f-]{36}")
_AHEAD = datetime.timedelta(minutes=1)
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
        self.judging = threading.Lock()  # what is let begin counts for who asks next
        self._alive: set[str] = set()
        with self.log() as log:
            log.demand_key()
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
        self._actor = provenance.actor_of(peer.uid, peer.login_uid)
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
        }
        answer = answers.get(str(message.get("do")))
        if answer is None:
            raise FlowauditError("The custody service is of another version than this collection.")
        return answer(message)

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
        inventory = self._desk.inventory(message.get("inventory"))
        command = request.read(message.get("command"))
        run = entry.new_id()
        with self._desk.judging:
            now = self._desk.now()
            try:
                granted = self._judged(inventory, command, now)
            except gates.Denied as denied:
                self._record_denial(inventory.name, command, denied.refusals)
                raise Refused(str(denied), [(item.code, item.message, item.mend) for item in denied.refusals]) from None
            # All that can fail before it is recorded; handed over when the run's beginning is.
            self._certificate = self._certified(inventory, granted, command, message, run, now)
            draft = {**granted.fields, "type": entry.RUN_AUTHORIZED, "ts": entry.timestamp(), "run": run}
            if granted.change_id:
                draft["chg"] = granted.change_id
            self._log.append([draft], granted.openings)
            self._run = _Run(run, granted.change_id)
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
        if inventory.protected:
            if not gate.protected:
                message = f"The inventory {inventory.name} is protected, whatever its file says."
                raise gates.Denied([Refusal("unprotected", message, "Take the change of its gate.yml back.")])
            if trust.accepted(self._log, inventory.name) is None:
                message = f"Nobody has said yet whom to believe about {inventory.name}."
                mend = f"root does: flowaudit-custody adopt {inventory.name}"
                raise gates.Denied([Refusal("policy", message, mend)])
        # Git is not asked: it would run, as this user, whatever the repository's configuration names as a filter. What
        # lies there is bound by its digest, committed or not.
        return gates.judge(gate, command, self._log, now, alive=self._desk.is_alive, dirty=False)

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
    ) -> str:
        """The certificate for a run; empty when none is asked for."""
        public_key = message.get("public_key")
        if not isinstance(public_key, str):
            return ""
        hosts = granted.fields["hosts"]
        if granted.hosts is None:
            hosts = _hosts(message.get("inventory_hosts"), command)
        longest = self._desk.settings.maximum_validity
        # What needs no approval has no window to fit into either.
        until = now + (min(command.duration, longest) if granted.change_id else longest)
        authority = certificate.Authority.load(self._desk.settings.authority(inventory.name))
        name = certificate.key_id(granted.change_id, run, provenance.account(self._peer.uid))
        return authority.certify(public_key, hosts, name, now, until)

    # ── Recording ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _append(self, message: Message) -> Message:
        drafts, openings = protocol.read_entries(message)
        run = self._run or self._new_run(drafts)
        begins = not run.started
        taken = [self._checked(run, draft, begins and number == 0) for number, draft in enumerate(drafts)]
        # The actor's, which the client makes as it does without this service, is not believed.
        openings = [opening for opening in openings if opening.kind == "diff"]
        places = self._log.append(taken, [*openings, self._actor] if begins else openings)
        # Not before: what could not be recorded may be sent again.
        self._run, run.started = run, True
        run.ended = any(draft["type"] in _ENDS for draft in taken)
        self._desk.begun(run.id)
        answer: Message = {"first": places.start, "count": len(places)}
        if begins and self._certificate:
            answer["certificate"], self._certificate = self._certificate, ""
        return answer

    def _new_run(self, drafts: Sequence[Draft]) -> _Run:
        """A run that nobody had to let begin."""
        run = drafts[0].get("run") if drafts else None
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise FlowauditError("A run has an id.")
        if self._log.ask("SELECT 1 FROM entries INDEXED BY entries_run WHERE run = ? LIMIT 1", (run,)):
            raise FlowauditError(f"There was a run {run} already.")
        change_id = drafts[0].get("chg", "")
        return _Run(run, change_id if isinstance(change_id, str) else "")

    def _checked(self, run: _Run, draft: Draft, first: bool) -> Draft:
        kind = draft.get("type")
        if run.ended or (first and kind != entry.RUN_START):
            raise FlowauditError("There is no run that this is said of.")
        if not first and kind == entry.RUN_START:
            raise FlowauditError("A run begins once.")
        if kind not in _OF_A_RUN or draft.get("run") != run.id:
            raise FlowauditError("A run says what it does, and nothing else.")
        if window.parse_moment("ts", draft.get("ts")) > self._desk.now() + _AHEAD:
            raise FlowauditError("What is recorded has happened, and is not to come.")
        kept = {key: value for key, value in draft.items() if key not in ("v", "seq", "prev", "chg", "actor")}
        if run.change_id:
            kept["chg"] = run.change_id
        if first:
            kept |= {"actor": self._actor.commitment, "node": provenance.node()}
        return kept

    def _checkpoint(self, _message: Message) -> Message:
        return {"note": self._log.add_checkpoint(), "size": self._log.size()}

    def _deny(self, message: Message) -> Message:
        """What the other side found wrong before it could ask."""
        command = request.read(message.get("command"))
        name = message.get("inventory")
        self._record_denial(name if isinstance(name, str) else "", command, command.problems)
        return {}

    def _record_denial(self, inventory: str, command: gates.Command, refusals: Sequence[Refusal]) -> None:
        draft: Draft = {
            "type": entry.RUN_DENIED,
            "ts": entry.timestamp(),
            "inventory": inventory[:64],
            "command": command.program,
            "playbooks": list(command.playbooks),
            "reasons": sorted({refusal.code for refusal in refusals}),
            "node": provenance.node(),
            "actor": self._actor.commitment,
        }
        if model.ID.fullmatch(command.change_id):
            draft["chg"] = command.change_id
        self._log.append([draft], [self._actor])

    # ── What is known of a change ────────────────────────────────────────────────────────────────────────────────────

    def _stand(self, message: Message) -> Message:
        """What the trail has of a change; what its files say of a revocation or a review is remembered from now on."""
        gate = self._gate(self._desk.inventory(message.get("inventory")))
        change_id = message.get("change_id")
        if not isinstance(change_id, str):
            raise FlowauditError("Say which change.")
        standing = gates.stand(gate, change_id, self._log)
        return {"state": str(standing.state), "entries": history.entries(self._log, change_id)}

    def _prove(self, message: Message) -> Message:
        """The proof of a run on staging, for a change of another inventory."""
        run = message.get("run")
        if not isinstance(run, str):
            raise FlowauditError("Say which run.")
        return {"proof": base64.b64encode(staging.prove(self._log, run)).decode()}

    # ── Whom to believe ──────────────────────────────────────────────────────────────────────────────────────────────

    def _adopt(self, message: Message) -> Message:
        """Take an inventory's policy and signers as they are: once, by root, who has looked at them."""
        if self._peer.uid != 0:
            raise Refused("Whom to believe is said by root.")
        inventory = self._desk.inventory(message.get("inventory"))
        gate = self._gate(inventory)
        known = trust.accepted(self._log, inventory.name)
        wanted = message.get("digest") or gate.terms.digest
        if wanted != gate.terms.digest and known is None:
            raise Refused(
                f"Policy and signers of {inventory.name} are not those that somebody has looked at: their digest is"
                f" sha256:{gate.terms.digest}, not sha256:{wanted}."
            )
        if known is None:
            trust.accept(self._log, gate.terms, {})
        elif known.document != gate.terms.document:
            raise Refused(
                f"The policy or the signers of {inventory.name} differ from those that were adopted; those before have"
                " to sign them (flowaudit.ops.change_policy)."
            )
        return {"digest": gate.terms.digest, "changed": known is None}

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


def _hosts(named: t.Any, command: gates.Command) -> list[str]:
    """The hosts of an inventory that needs no changes: they trust a CA that no other hosts trust."""
    if not isinstance(named, list) or not all(isinstance(host, str) and model.HOST.fullmatch(host) for host in named):
        raise FlowauditError("An inventory has hosts, each with a name.")
    return sorted(set(named) if command.hosts is None else set(named) & set(command.hosts))
