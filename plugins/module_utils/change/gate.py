# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judges a run: looks up what the policy has to know, and asks it.

Whatever cannot be looked up is a reason to refuse. Nothing here knows Ansible; the inventory plugin does.
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ..errors import FlowauditError
from ..trail import canonical, commitment, entry, note, provenance, query
from ..trail.sqlite import SELDOM, SqliteLog
from . import break_glass, history, images, model, policy, runbook, signature, staging, tree, trust, window
from .authorization import Authorization
from .model import Change, Code, Kind, State
from .policy import Approval, Question, Refusal
from .repository import Filed, Repository, Statement


@dataclasses.dataclass(frozen=True)
class Gate:
    """An inventory that changes are needed for, as its file says."""

    name: str
    protected: bool
    top: pathlib.Path  # of its Git repository
    changes: pathlib.Path  # the directory of all inventories' changes
    terms: trust.Terms
    images_lock: pathlib.Path  # what digests the images of its releases have
    # Version and digest of the collection, for a module, which is not where the collection is; else they are looked up.
    collection: tuple[str, str] | None = None

    @property
    def repository(self) -> Repository:
        """The changes of this inventory."""
        return Repository(self.changes / self.name)

    def digests(self, variables: Iterable[str], release: str = "") -> tuple[str, ...]:
        """The images of the release that extra variables name, or else of ``release``; none when neither does.

        Raises:
            FlowauditError: the images lock has no such release.
        """
        named = images.release_of(variables) or release
        return images.digests_of(self.images_lock, named) if named else ()

    def code(self) -> Code:
        """What would run now."""
        version, digest = self.collection or collection()
        return Code(tree.digest(self.top, [self.changes]), version, digest)


def collection() -> tuple[str, str]:
    """Version and digest of this collection, where it is installed.

    Raises:
        FlowauditError: it cannot be read.
    """
    return provenance.collection_version(), tree.collection_digest()


@dataclasses.dataclass(frozen=True)
class Command:
    """What somebody wants to run."""

    program: str
    playbooks: tuple[str, ...]  # as a scope names them
    change_id: str = ""
    hosts: tuple[str, ...] | None = None  # what --limit leaves; none: there is no limit
    variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    check: bool = False
    problems: tuple[Refusal, ...] = ()  # of the command itself


class Denied(Exception):
    """The run may not begin."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("\n".join(map(str, refusals)))
        self.refusals = list(refusals)


@dataclasses.dataclass(frozen=True)
class Standing:
    """What is known of a change: who approved it, what has happened to it."""

    filed: Filed
    requester_key: str  # fingerprint
    approvals: tuple[Approval, ...]
    invalid: tuple[str, ...]  # why signatures do not count
    history: history.History
    state: State

    @property
    def change(self) -> Change:
        """The change."""
        return self.filed.change


Alive = t.Callable[[str], "bool | None"]  # whether a run's process lives; none when that cannot be told


def judge(
    gate: Gate,
    command: Command,
    log: SqliteLog,
    now: datetime.datetime,
    *,
    alive: Alive | None = None,
    dirty: bool | None = None,
) -> Authorization:
    """Let a run begin.

    ``alive`` is asked about other runs, instead of their locks beside the log. ``dirty`` says whether the repository
    has uncommitted changes; else Git is asked, which runs what the repository's own configuration names.

    Raises:
        Denied: it may not.
    """
    if not gate.protected:
        return _opened(gate, command, log)
    found = list(command.problems)
    if not command.change_id:
        found.append(
            Refusal(
                "no_change",
                f"The inventory {gate.name} is protected: a run needs an approved change.",
                "Name it with -e change_id=CHG-…; ansible-playbook flowaudit.ops.change_list shows what there is.",
            )
        )
    if not command.playbooks:
        found.append(Refusal("playbook", "The command names no playbook.", ""))
    try:
        duration = runbook.duration(command.playbooks, gate.top)
    except FlowauditError as error:
        found.append(Refusal("playbook", str(error), ""))
    if found:
        raise Denied(found)
    try:
        trust.accept(log, gate.terms, gate.repository.policy_approvals(gate.terms.digest))
    except FlowauditError as error:
        mend = "Have it signed: ansible-playbook flowaudit.ops.change_policy"
        raise Denied([Refusal("policy", str(error), mend)]) from error
    try:
        standing = stand(gate, command.change_id, log)
        dirty = bool(tree.uncommitted(gate.top, gate.changes)) if dirty is None else dirty
        question = _question(gate, command, standing, log, now, dirty, duration)
    except FlowauditError as error:
        raise Denied([Refusal("change", str(error), "")]) from error
    alive = alive or (lambda run: query.is_alive(log.home, run))
    found = list(_unique(_refusals(gate, command, standing, question, alive)))
    if found:
        raise Denied(found)
    return _authorized(gate, command, standing, question)


def stand(
    gate: Gate,
    change_id: str,
    log: SqliteLog | None,
    *,
    remember: bool = True,
    entries: Iterable[dict[str, t.Any]] = (),
) -> Standing:
    """What is known of a change.

    Unless told not to, it remembers in the trail that a change was revoked or reviewed, should the files be taken away.
    Without a log, ``entries`` are those that somebody else's has of the change.

    Raises:
        FlowauditError: there is no such change, or its requester did not sign it.
    """
    filed = gate.repository.load(change_id)
    change, signers = filed.change, gate.terms.signers.encode()
    requested = signature.verify(change.document, filed.request, signers, change.requester, signature.REQUEST)
    approvals, invalid = [], []
    for person, signed in filed.approvals.items():
        try:
            by = signature.verify(change.document, signed, signers, person, signature.APPROVAL)
            approvals.append(Approval(by.principal, by.key))
        except FlowauditError as error:
            invalid.append(str(error))
    said = {
        entry.CHANGE_REVOKED: stated(filed.revocation, change, signers, signature.REVOCATION, requested.key),
        entry.CHANGE_REVIEWED: stated(filed.review, change, signers, signature.REVIEW, requested.key),
    }
    known = history.read(entries, change) if log is None else history.of(log, change)
    for kind, statement in said.items():
        told = known.revoked if kind == entry.CHANGE_REVOKED else known.reviewed
        if log is not None and remember and statement and not told:
            log.append([{"type": kind, "ts": entry.timestamp(), "chg": change.id, "inventory": gate.name}])
    known = dataclasses.replace(
        known,
        revoked=known.revoked or bool(said[entry.CHANGE_REVOKED]),
        reviewed=known.reviewed or bool(said[entry.CHANGE_REVIEWED]),
    )
    rules = policy.parse(gate.terms.rules)
    approved = not policy.lacking(rules, change, approvals, requested.key)
    return Standing(filed, requested.key, tuple(approvals), tuple(invalid), known, known.state(change, approved))


def stated(
    statement: Statement | None, change: Change, signers: bytes, namespace: str, requester_key: str
) -> dict[str, t.Any]:
    """What somebody says of a change (``principal``, ``reason``, ``at``); nothing when nobody does.

    Raises:
        FlowauditError: they did not sign it, or it is about another change.
    """
    if statement is None:
        return {}
    value = canonical.decode(statement.document)
    if set(value) != {"id", "change", "principal", "reason", "at"}:
        raise FlowauditError(f"What is said of {change.id} has not the form of a revocation or a review.")
    person = model.check_principal(value["principal"])
    by = signature.verify(statement.document, statement.signature, signers, person, namespace)
    if namespace == signature.REVIEW and (person == change.requester or by.key == requester_key):
        raise FlowauditError(f"{change.id} was reviewed by who requested it; somebody else has to.")
    if (value["id"], value["change"]) != (change.id, change.digest):
        raise FlowauditError(f"What is said of {change.id} is about another change.")
    return value


def overdue(gate: Gate, rules: policy.Policy, log: SqliteLog, now: datetime.datetime) -> list[str]:
    """Emergency changes that have run and whose review is overdue; one whose files are gone is not reviewed."""
    found = []
    for change_id, ran_at in history.unreviewed_emergencies(log, gate.name).items():
        if now - ran_at > rules.review_within and not _reviewed(gate, change_id, log):
            found.append(change_id)
    return found


def _reviewed(gate: Gate, change_id: str, log: SqliteLog) -> bool:
    """Whether there is a review that the trail does not have yet."""
    try:
        return stand(gate, change_id, log).history.reviewed
    except FlowauditError:
        return False


def _opened(gate: Gate, command: Command, log: SqliteLog) -> Authorization:
    if trust.accepted(log, gate.name) is not None:
        raise Denied(
            [
                Refusal(
                    "unprotected",
                    f"The inventory {gate.name} was protected when this control node saw it last.",
                    "What needs no changes has another name.",
                )
            ]
        )
    fields = _fields(gate, command, gate.code(), command.hosts or (), {})
    return Authorization(gate.name, "", None, fields)


def _question(
    gate: Gate,
    command: Command,
    standing: Standing,
    log: SqliteLog,
    now: datetime.datetime,
    dirty: bool,
    duration: datetime.timedelta,
) -> Question:
    rules = policy.parse(gate.terms.rules)
    change = standing.change
    # What a change is taken back to, nobody knew when it was approved.
    back = not set(command.playbooks) & set(change.scope.playbooks)
    release = "" if back else images.release_of(command.variables)
    shown = None
    if rules.staging and change.kind is Kind.NORMAL and standing.filed.staging:
        shown = staging.check(standing.filed.staging, [note.parse_key(key) for key in gate.terms.staging_keys])
    return Question(
        now=now,
        inventory=gate.name,
        playbook="",
        duration=duration or rules.default_duration,
        hosts=change.scope.hosts if command.hosts is None else command.hosts,
        code=gate.code(),
        dirty=dirty,
        state=standing.state,
        approvals=standing.approvals,
        requester_key=standing.requester_key,
        staging=shown,
        last_entry_at=_latest(log),
        overdue=tuple(overdue(gate, rules, log, now)) if change.kind is Kind.NORMAL else (),
        glass=_glass(gate, log) if change.kind is Kind.NORMAL else (),
        release=release,
        digests=gate.digests(command.variables) if release else (),
        variables=command.variables,
        tags=command.tags,
        skip_tags=command.skip_tags,
    )


def _glass(gate: Gate, log: SqliteLog) -> tuple[str, ...]:
    uses = break_glass.remember(log, gate.repository, gate.terms)
    return tuple(sorted({use.host for use in uses}))


def _latest(log: SqliteLog) -> datetime.datetime | None:
    """The latest moment in the trail, since the policy was accepted.

    A clock that once was ahead would lock everybody out for ever; who may change the policy may forget it.
    """
    rows = log.ask(
        "SELECT ts FROM entries INDEXED BY entries_ts WHERE ts IS NOT NULL AND seq > ifnull("
        f"(SELECT max(seq) FROM entries INDEXED BY entries_type WHERE {SELDOM} AND type = ?), -1)"
        " ORDER BY ts DESC LIMIT 1",
        (entry.POLICY_ACCEPTED,),
    )
    return window.parse_moment("ts", rows[0][0]) if rows else None


def _refusals(gate: Gate, command: Command, standing: Standing, question: Question, alive: Alive) -> Iterator[Refusal]:
    rules = policy.parse(gate.terms.rules)
    for playbook in command.playbooks:
        state = standing.state
        if state in (State.RUNNING, State.FAILED) and standing.history.done_already(playbook, question.hosts):
            state = State.DONE
        for run in standing.history.under_way(playbook, question.hosts):
            if alive(run) is not False:
                yield Refusal("running", f"The run {run} of {standing.change.id} has not ended.", "Wait for its end.")
        asked = dataclasses.replace(question, playbook=playbook, state=state)
        for refusal in policy.refusals(rules, standing.change, asked):
            why = standing.invalid if refusal.code == "approvals" else ()
            yield dataclasses.replace(refusal, message=" ".join([refusal.message, *why]))


def _unique(refusals: Iterator[Refusal]) -> Iterator[Refusal]:
    seen = set()
    for refusal in refusals:
        if refusal not in seen:
            seen.add(refusal)
            yield refusal


def _authorized(gate: Gate, command: Command, standing: Standing, question: Question) -> Authorization:
    change = standing.change
    rollback = any(
        policy.is_rollback(change, dataclasses.replace(question, playbook=playbook)) for playbook in command.playbooks
    )
    openings = [commitment.commit("principal", item.principal.encode()) for item in standing.approvals]
    approved = {
        "kind": str(change.kind),
        "risk": str(change.risk),
        "document": change.digest,
        "approvals": [
            {"principal": opening.commitment, "key": item.key}
            for opening, item in zip(openings, standing.approvals, strict=True)
        ],
        "policy": gate.terms.digest,
        "release": change.release,
        "digests": list(change.digests),
        "rollback": rollback,
    }
    flags = []
    if change.kind is Kind.EMERGENCY:
        days = policy.parse(gate.terms.rules).review_within.days
        flags.append(f"{change.id} is an emergency change; it has to be reviewed within {days} days.")
    return Authorization(
        gate.name,
        change.id,
        frozenset(change.scope.hosts),
        _fields(gate, command, question.code, question.hosts, approved),
        openings,
        flags,
        duration=question.duration,
    )


def _fields(
    gate: Gate, command: Command, code: Code, hosts: Sequence[str], approved: dict[str, t.Any]
) -> dict[str, t.Any]:
    fields: dict[str, t.Any] = {
        "inventory": gate.name,
        "command": command.program,
        "playbooks": list(command.playbooks),
        "hosts": sorted(hosts),
        "check": command.check,
        "rollback": False,
        "release": "",
        "digests": [],
        "code": dataclasses.asdict(code),
    }
    return fields | approved
