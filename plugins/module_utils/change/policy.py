# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a run may begin: the policy of an inventory, and what is known of a change, make a list of refusals.

Pure: all that is looked up (signatures, Git, the trail, the clock) comes in as values. An empty list is the only yes.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import dataclasses
import datetime
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ..errors import FlowauditError
from . import window
from .model import Change, Code, Kind, Risk, State, check_principal

_DAY = datetime.timedelta(days=1)
_MINUTE = datetime.timedelta(minutes=1)
_TOLERANCE = datetime.timedelta(seconds=2)  # another run on this node may have written just now
_OURS = "flowaudit.ops."  # playbooks of this collection; others are in the repository
_TAKEN_BACK_TO = "release_id"


@dataclasses.dataclass(frozen=True)
class Rule:
    """How many approve, and of which roles there has to be somebody among them (one person may stand for several)."""

    count: int
    roles: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Policy:
    """What an inventory asks of a change."""

    approvals: Mapping[Risk, Rule]
    emergency: Rule
    roles: Mapping[str, frozenset[str]]  # role → principals
    calendar: window.Calendar
    maximum_age: datetime.timedelta  # from the request to the start of a run
    staging: str = ""  # the inventory on which it has to have run; empty: none has to
    staging_age: datetime.timedelta = 14 * _DAY
    review_within: datetime.timedelta = 5 * _DAY  # of an emergency change, from its end
    standard: frozenset[str] = frozenset()  # playbooks that standard changes may name
    default_duration: datetime.timedelta = 60 * _MINUTE  # of what does not say how long it may take (max_duration)
    environment: frozenset[str] = frozenset()  # variables of Ansible's that an operator may set besides

    def rule(self, change: Change) -> Rule:
        """Who has to approve a change."""
        return self.emergency if change.kind is Kind.EMERGENCY else self.approvals[change.risk]


@dataclasses.dataclass(frozen=True)
class Approval:
    """An approval whose signature over the change's document was verified."""

    principal: str
    key: str  # fingerprint


@dataclasses.dataclass(frozen=True)
class StagingRun:
    """A run on staging, as the proof that came with the change shows it."""

    run: str
    inventory: str
    playbooks: tuple[str, ...]
    succeeded: bool
    ended_at: datetime.datetime
    digests: tuple[str, ...]
    code: Code
    unseen: tuple[str, ...] = ()  # hosts where custody saw no login of it, though it says that it was there


@dataclasses.dataclass(frozen=True)
class Question:
    """A run that wants to begin, and all that is known."""

    now: datetime.datetime
    inventory: str
    playbook: str
    duration: datetime.timedelta  # the longest the runbook may take
    hosts: tuple[str, ...]  # after --limit
    code: Code
    dirty: bool
    state: State
    approvals: tuple[Approval, ...] = ()
    requester_key: str = ""  # fingerprint of the key that the request was signed with
    staging: StagingRun | None = None
    last_entry_at: datetime.datetime | None = None  # of the trail
    overdue: tuple[str, ...] = ()  # emergency changes whose review is overdue
    glass: tuple[str, ...] = ()  # hosts that were entered with a sealed credential, which nobody has reviewed
    release: str = ""  # that is asked for
    digests: tuple[str, ...] = ()  # of its images, by the images lock
    variables: tuple[str, ...] = ()  # extra-vars, as in ``Scope``
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why not (``code`` for machines), and what would mend it."""

    code: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.message} {self.mend}".strip()


DIRTY = Refusal("dirty", "The inventory's repository has uncommitted changes.", "Commit or remove them.")


def refusals(policy: Policy, change: Change, question: Question) -> list[Refusal]:
    """Everything that speaks against the run; nothing does when the list is empty."""
    return [
        *_identity(change, question),
        *_life(policy, change, question),
        *lacking(policy, change, question.approvals, question.requester_key),
        *_what(policy, change, question),
        *_when(policy, change, question),
        *_staging(policy, change, question),
    ]


def is_rollback(change: Change, question: Question) -> bool:
    """Whether the run takes back what an approved change did: allowed until the change is reviewed."""
    return (
        question.playbook == change.rollback_playbook != ""
        and question.playbook not in change.scope.playbooks
        and question.state in (State.DONE, State.FAILED, State.RUNNING)
    )


def _identity(change: Change, question: Question) -> Iterator[Refusal]:
    if change.inventory != question.inventory:
        yield Refusal(
            "other_inventory",
            f"{change.id} is a change of the inventory {change.inventory}, not of {question.inventory}.",
            "Request one for this inventory (flowaudit.ops.change_request).",
        )
    if question.last_entry_at is not None and question.now < question.last_entry_at - _TOLERANCE:
        yield Refusal(
            "clock",
            f"The clock says {_written(question.now)}, the trail has an entry of {_written(question.last_entry_at)}.",
            "Set the clock of the control node.",
        )


def _life(policy: Policy, change: Change, question: Question) -> Iterator[Refusal]:
    if question.state in (State.REVOKED, State.REVIEWED, State.ROLLED_BACK):
        yield Refusal(str(question.state), f"{change.id} is {question.state}.", "Request a new change.")
    elif question.state is State.DONE and not is_rollback(change, question):
        yield Refusal("finished", f"{change.id} was carried out already.", "Request a new change.")
    elif question.state in (State.DRAFT, State.EXPIRED):
        yield Refusal(
            str(question.state), f"{change.id} is {question.state}.", "Request it with flowaudit.ops.change_request."
        )
    if question.now >= change.expires_at and not is_rollback(change, question):
        yield Refusal("expired", f"{change.id} expired on {_written(change.expires_at)}.", "Request a new change.")
    if question.now < change.requested_at:
        yield Refusal("not_yet", f"{change.id} was requested at {_written(change.requested_at)}, which is to come.", "")
    if question.now - change.requested_at > policy.maximum_age and not is_rollback(change, question):
        yield Refusal(
            "too_old",
            f"{change.id} was requested more than {policy.maximum_age.days} days ago.",
            "Request a new change.",
        )
    if question.overdue and change.kind is Kind.NORMAL and not is_rollback(change, question):
        yield Refusal(
            "review_overdue",
            f"The review of {', '.join(question.overdue)} is overdue.",
            "Review it first (flowaudit.ops.change_review).",
        )
    if question.glass and change.kind is Kind.NORMAL and not is_rollback(change, question):
        yield Refusal(
            "break_glass",
            f"A sealed credential was used on {', '.join(question.glass)}, and nobody has reviewed it.",
            f"Review it first (flowaudit.ops.break_glass_review -e change_inventory=…/{change.inventory}).",
        )


def lacking(policy: Policy, change: Change, approvals: Sequence[Approval], requester_key: str) -> list[Refusal]:
    """What a change's approvals lack; it is approved when the list is empty."""
    rule = policy.rule(change)
    counted = counting(change, approvals, requester_key)
    found = []
    missing = rule.count - len(counted)
    if missing > 0:
        needed = "One more person has" if missing == 1 else f"{missing} more persons have"
        found.append(
            Refusal(
                "approvals",
                f"{change.id} has {len(counted)} of {rule.count} approvals.",
                f"{needed} to approve it: ansible-playbook flowaudit.ops.change_approve -e change_id={change.id}",
            )
        )
    people = {approval.principal for approval in counted}
    for role in rule.roles:
        if not people & policy.roles.get(role, frozenset()):
            who = ", ".join(sorted(policy.roles.get(role, ()))) or "that role"
            found.append(
                Refusal(
                    "role",
                    f"{change.id} was approved by nobody of the role {role}.",
                    f"One of {who} has to approve it.",
                )
            )
    return found


def counting(change: Change, approvals: Sequence[Approval], requester_key: str) -> list[Approval]:
    """Those of the approvals that count: of others than the requester, each person and each key once, in order."""
    people: set[str] = {change.requester}
    keys = {requester_key} | {approval.key for approval in approvals if approval.principal == change.requester}
    counted = []
    for approval in sorted(approvals, key=lambda item: (item.principal, item.key)):
        if approval.principal not in people and approval.key not in keys:
            counted.append(approval)
        people.add(approval.principal)
        keys.add(approval.key)
    return counted


def _what(policy: Policy, change: Change, question: Question) -> Iterator[Refusal]:
    if not change.names(question.playbook):
        yield Refusal(
            "playbook",
            f"{change.id} is about {', '.join(change.scope.playbooks)}, not {question.playbook or 'this command'}.",
            "",
        )
    elif question.playbook not in change.scope.playbooks and not is_rollback(change, question):
        yield Refusal("rollback", f"There is nothing that {question.playbook} could take back of {change.id}.", "")
    if change.kind is Kind.STANDARD and question.playbook not in policy.standard:
        yield Refusal(
            "standard",
            f"{question.playbook} is not one of the playbooks that standard changes are for.",
            "Request a normal change.",
        )
    outside = change.scope.outside(question.hosts)
    if outside:
        yield Refusal(
            "hosts",
            f"{', '.join(outside)} {'is' if len(outside) == 1 else 'are'} outside of {change.id}.",
            f"Limit the run: --limit {','.join(change.scope.hosts)}",
        )
    if not question.hosts:
        yield Refusal("no_hosts", "The run is about no host.", "")
    yield from _how(change, question)
    if question.dirty:
        yield DIRTY
    if question.code.tree != change.code.tree:
        yield Refusal(
            "tree",
            f"The inventory's repository is {question.code.tree[:12]}; approved was {change.code.tree[:12]}.",
            "Check out what was approved, or request a new change.",
        )
    if question.code != dataclasses.replace(change.code, tree=question.code.tree):
        yield Refusal(
            "collection",
            f"The collection {question.code.collection} is not the {change.code.collection} that was approved.",
            "Install what was approved, or request a new change.",
        )
    asked = question.release or question.digests
    if asked and set(question.digests) != set(change.digests) and not is_rollback(change, question):
        yield Refusal("digests", f"The images are not those that were approved with {change.id}.", "")


def _how(change: Change, question: Question) -> Iterator[Refusal]:
    scope = change.scope
    approved, given = set(scope.variables), set(question.variables)
    if is_rollback(change, question):
        # It is told what to take back to, which nobody knew when the change was approved.
        approved = {variable for variable in given if variable.startswith(f"{_TAKEN_BACK_TO}=")}
    if given - approved:
        name = min(given - approved).partition("=")[0]
        yield Refusal(
            "variables",
            f"The extra variable {name}, with this value, is not part of {change.id}.",
            "Leave it out, or request a change with it.",
        )
    if approved - given:
        yield Refusal("variables", f"{change.id} was approved with -e {min(approved - given)}.", "Give it, too.")
    if (question.tags, question.skip_tags) != (scope.tags, scope.skip_tags):
        options = [f"--tags {','.join(scope.tags)}"] if scope.tags else []
        options += [f"--skip-tags {','.join(scope.skip_tags)}"] if scope.skip_tags else []
        yield Refusal(
            "tags",
            f"The run is about other tasks than {change.id}.",
            f"Run it with {' '.join(options)}." if options else "Leave --tags and --skip-tags out.",
        )


def _when(policy: Policy, change: Change, question: Question) -> Iterator[Refusal]:
    # An emergency, and taking back what went wrong, do not wait for a window.
    if change.kind is Kind.EMERGENCY or is_rollback(change, question):
        return
    end = question.now + question.duration
    freeze = policy.calendar.frozen(question.now, end)
    following = policy.calendar.next_open(question.now, question.duration)
    mend = f"The next moment is {_written(following)}." if following else "There is none within a year."
    if freeze is not None:
        yield Refusal(
            "freeze", f"Changes are frozen until {_written(freeze.end)} ({freeze.name or 'no reason given'}).", mend
        )
    if policy.calendar.windows and policy.calendar.open(question.now, end) is None:
        minutes = -(-int(question.duration.total_seconds()) // 60)
        yield Refusal("window", f"No window is open for the {minutes} minutes that the run may take.", mend)


def _staging(policy: Policy, change: Change, question: Question) -> Iterator[Refusal]:
    if not policy.staging or change.kind is not Kind.NORMAL or is_rollback(change, question):
        return
    run = question.staging
    mend = f"Run it on {policy.staging} and request the change again with that run (staging_run)."
    if run is None or run.run != change.staging_run:
        yield Refusal("staging", f"{change.id} does not show that it ran on {policy.staging}.", mend)
        return
    if run.inventory != policy.staging:
        yield Refusal("staging_inventory", f"The run {run.run} was on {run.inventory}, not on {policy.staging}.", mend)
    if not run.succeeded:
        yield Refusal("staging_failed", f"The run {run.run} on {policy.staging} failed.", mend)
    if run.unseen:
        hosts = ", ".join(run.unseen)
        yield Refusal("staging_hosts", f"The run {run.run} on {policy.staging} never logged in to {hosts}.", mend)
    if run.digests != change.digests:
        yield Refusal("staging_digests", f"The run {run.run} on {policy.staging} was with other images.", mend)
    if question.playbook not in run.playbooks:
        yield Refusal("staging_playbook", f"The run {run.run} on {policy.staging} was of another playbook.", mend)
    if not question.playbook.startswith(_OURS) and run.code.tree != change.code.tree:
        yield Refusal("staging_tree", f"The run {run.run} on {policy.staging} was with another repository.", mend)
    if (run.code.collection, run.code.collection_digest) != (change.code.collection, change.code.collection_digest):
        yield Refusal("staging_collection", f"The run {run.run} on {policy.staging} was with another collection.", mend)
    if run.ended_at > question.now or question.now - run.ended_at > policy.staging_age:
        days = policy.staging_age.days
        yield Refusal("staging_age", f"The run {run.run} on {policy.staging} is not of the last {days} days.", mend)


_KEYS = {"approvals", "emergency", "roles", "windows", "freezes", "maximum_age_days"}
_MORE = {"staging", "staging_age_days", "review_within_days", "standard", "default_duration_minutes", "environment"}


def parse(value: Mapping[str, t.Any]) -> Policy:
    """The policy of a gate's file.

    Raises:
        FlowauditError: something of it is missing or makes no sense.
    """
    missing, unknown = _KEYS - set(value), set(map(str, value)) - _KEYS - _MORE
    if missing or unknown:
        wrong = [f"{name} is missing" for name in sorted(missing)] + [f"{name} is unknown" for name in sorted(unknown)]
        raise FlowauditError(f"The policy cannot be used: {', '.join(wrong)}.")
    roles = _roles(value["roles"])
    approvals = value["approvals"]
    if not isinstance(approvals, Mapping) or set(approvals) != set(Risk):
        raise FlowauditError(f"approvals of the policy has a rule for each of {', '.join(Risk)}.")
    return Policy(
        approvals={risk: _rule(f"approvals of {risk}", approvals[risk], roles) for risk in Risk},
        emergency=_rule("emergency", value["emergency"], roles),
        roles=roles,
        calendar=window.parse_calendar(_mappings("windows", value), _mappings("freezes", value)),
        maximum_age=_span("maximum_age_days", value["maximum_age_days"]),
        staging=_text("staging", value.get("staging", "")),
        staging_age=_span("staging_age_days", value.get("staging_age_days", 14)),
        review_within=_span("review_within_days", value.get("review_within_days", 5)),
        standard=frozenset(_texts("standard", value.get("standard", []))),
        default_duration=_span("default_duration_minutes", value.get("default_duration_minutes", 60), _MINUTE),
        environment=frozenset(_texts("environment", value.get("environment", []))),
    )


def _roles(value: t.Any) -> dict[str, frozenset[str]]:
    if not isinstance(value, Mapping):
        raise FlowauditError("roles of the policy maps each role to its persons.")
    return {
        _text("a role", role): frozenset(check_principal(person) for person in _texts(f"the role {role}", people))
        for role, people in value.items()
    }


def _rule(name: str, value: t.Any, roles: Mapping[str, frozenset[str]]) -> Rule:
    if not isinstance(value, Mapping) or not {"count"} <= set(value) <= {"count", "roles"}:
        raise FlowauditError(f"{name} in the policy has count, and perhaps roles.")
    count = value["count"]
    if type(count) is not int or not 0 <= count <= 20:
        raise FlowauditError(f"{name} in the policy asks for {count!r} approvals; write a number up to 20.")
    wanted = tuple(_texts(f"roles of {name}", value.get("roles", [])))
    nobody = [role for role in wanted if not roles.get(role)]
    if nobody:
        raise FlowauditError(f"{name} in the policy asks for the role {nobody[0]}, which nobody has.")
    if wanted and not count:
        raise FlowauditError(f"{name} in the policy asks for roles but for no approval.")
    return Rule(count, wanted)


def _span(name: str, value: t.Any, unit: datetime.timedelta = _DAY) -> datetime.timedelta:
    if type(value) is not int or not 0 < value <= 3660:
        raise FlowauditError(
            f"{name} in the policy is {value!r}; write a number of {'days' if unit == _DAY else 'minutes'}."
        )
    return value * unit


def _text(name: str, value: t.Any) -> str:
    if not isinstance(value, str) or len(value) > 255:
        raise FlowauditError(f"{name} in the policy is a text.")
    return str.__str__(value)


def _texts(name: str, value: t.Any) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise FlowauditError(f"{name} in the policy is a list.")
    return [_text(name, item) for item in value]


def _mappings(name: str, value: Mapping[str, t.Any]) -> list[Mapping[str, t.Any]]:
    items = value[name]
    if not isinstance(items, Sequence) or not all(isinstance(item, Mapping) for item in items):
        raise FlowauditError(f"{name} in the policy is a list of mappings.")
    return list(items)


def _written(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
