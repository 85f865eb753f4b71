# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a change that persons take: request, approve, revoke, review; and what they sign about no change.

Each is a signed file, and an entry of the trail.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ..errors import FlowauditError
from ..trail import canonical, commitment, entry
from ..trail.sqlite import SqliteLog
from . import break_glass, images, model, policy, repository, signature, staging, tree, trust
from .gate import Gate, Standing
from .model import Change, State

_RAN = (State.RUNNING, State.DONE, State.FAILED, State.ROLLED_BACK)


@dataclasses.dataclass(frozen=True)
class Person:
    """Who takes a step: their name among the allowed signers, and the path of their key."""

    name: str
    key: str


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step does: files by path, and the entry of the trail; nothing when it was taken before."""

    files: Mapping[pathlib.Path, bytes]
    kind: str
    change_id: str
    inventory: str
    person: str
    key: str = ""  # fingerprint of what was signed with

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.files)

    def take(self, log: SqliteLog | None) -> None:
        """Record it, then write the files; without a log, somebody else records what they say."""
        opening = commitment.commit("principal", self.person.encode())
        draft: entry.Draft = {
            "type": self.kind,
            "ts": entry.timestamp(),
            "inventory": self.inventory,
            "principal": opening.commitment,
        }
        if self.change_id:
            draft["chg"] = self.change_id
        if log is not None:
            log.append([draft], [opening])
        for path, content in self.files.items():
            repository.write(path, content)


def whoami(gate: Gate, name: str) -> str:
    """The name of the person at the keyboard: as given, or the mail address that Git knows.

    Raises:
        FlowauditError: neither says one.
    """
    if not name:
        with contextlib.suppress(FlowauditError):
            name = tree.git(gate.top, "config", "user.email").strip()
    if not name:
        raise FlowauditError("Say who you are: -e change_person=you@example.org, as in the allowed signers.")
    return model.check_principal(name)


def request(
    gate: Gate, wanted: Mapping[str, t.Any], hosts: Iterable[str], person: Person, now: datetime.datetime, proof: bytes
) -> tuple[Change, Step]:
    """Request a change of what is in the repository now; ``hosts`` are all of the inventory.

    Raises:
        FlowauditError: the change makes no sense, or what it is about is not committed.
    """
    _demand_committed(gate)
    scope = wanted["scope"]
    variables = model.variables_of(trust.plain(scope["variables"], moments=False))
    release, digests = _images(gate, variables, wanted["release"], wanted["digests"])
    value = {
        **{key: wanted[key] for key in wanted if key not in ("scope", "valid_days", "id")},
        "id": wanted.get("id") or gate.repository.next_id(now.year),
        "inventory": gate.name,
        "requester": person.name,
        "requested_at": entry.timestamp(now.timestamp()),
        "expires_at": entry.timestamp((now + datetime.timedelta(days=wanted["valid_days"])).timestamp()),
        "scope": {
            "hosts": model.hosts_of(scope["hosts"], hosts),
            "playbooks": sorted(set(scope["playbooks"])),
            "variables": list(variables),
            "tags": sorted(set(scope["tags"])),
            "skip_tags": sorted(set(scope["skip_tags"])),
        },
        "release": release,
        "digests": digests,
        "code": dataclasses.asdict(gate.code()),
    }
    change = model.read(model.write(trust.plain(value)))
    place = gate.repository.place(change.id)
    if place.exists():
        raise FlowauditError(f"There is a change {change.id} already; what was requested is not rewritten.")
    if change.kind is model.Kind.STANDARD:
        foreign = sorted(set(change.scope.playbooks) - policy.parse(gate.terms.rules).standard)
        if foreign:
            raise FlowauditError(f"{foreign[0]} is not one of the playbooks that standard changes are for.")
    signed, _key = _signed(gate, change.document, person, signature.REQUEST)
    files = {place / repository.DOCUMENT: change.document, place / repository.REQUEST: signed}
    if proof:
        files[place / repository.STAGING] = proof
    return change, Step(files, entry.CHANGE_REQUESTED, change.id, gate.name, person.name)


def _images(gate: Gate, variables: Iterable[str], release: str, digests: Iterable[str]) -> tuple[str, list[str]]:
    """The release that a change is about and its images, as far as the requester left them to the images lock."""
    named = images.release_of(variables)
    if named and release and named != release:
        raise FlowauditError(f"The change is about release {release}, and would run with release_id={named}.")
    locked, given = gate.digests(variables, release), sorted(set(digests))
    if locked and given and given != list(locked):
        raise FlowauditError(
            f"These are not the images of release {named or release} in {gate.images_lock}; leave digests out."
        )
    return release or named, given or list(locked)


def proof_of(log: SqliteLog, run: str, sign: bool) -> bytes:
    """The proof that comes with a request, from this control node's own trail; nothing when it may not be signed."""
    if not sign:
        staging.entries_of(log, run)
        return b""
    return staging.prove(log, run)


def approve(gate: Gate, standing: Standing, person: Person, now: datetime.datetime) -> Step:
    """Approve a change, having the code that it is about.

    Raises:
        FlowauditError: it is not theirs to approve, or what they have is something else.
    """
    change = standing.change
    path = gate.repository.place(change.id) / repository.APPROVALS / f"{person.name}.sig"
    step = Step({}, entry.CHANGE_APPROVED, change.id, gate.name, person.name)
    if person.name in {approval.principal for approval in standing.approvals}:
        return step
    if person.name == change.requester:
        raise FlowauditError(f"{change.id} was requested by {person.name}; somebody else has to approve it.")
    if standing.state not in (State.REQUESTED, State.APPROVED) or now >= change.expires_at:
        state = "expired" if now >= change.expires_at else standing.state
        raise FlowauditError(f"{change.id} is {state}; there is nothing to approve.")
    _demand_committed(gate)
    if gate.code() != change.code:
        raise FlowauditError(
            f"What you have here is not what {change.id} is about, so you have not seen it: check out the commit it was"
            f" requested at, with the collection {change.code.collection}."
        )
    signed, key = _signed(gate, change.document, person, signature.APPROVAL)
    if key == standing.requester_key:
        raise FlowauditError(f"{change.id} was requested with this key; somebody else has to approve it.")
    return dataclasses.replace(step, files={path: signed})


def revoke(gate: Gate, standing: Standing, person: Person, reason: str, now: datetime.datetime) -> Step:
    """Take a change back that has not run; everybody who may sign may.

    Raises:
        FlowauditError: it has run.
    """
    change = standing.change
    if standing.state is State.REVOKED:
        return Step({}, entry.CHANGE_REVOKED, change.id, gate.name, person.name)
    if standing.state not in (State.REQUESTED, State.APPROVED):
        raise FlowauditError(f"{change.id} is {standing.state}: it is reviewed, not revoked.")
    return _state(gate, change, person, reason, now, repository.REVOCATION)


def review(gate: Gate, standing: Standing, person: Person, findings: str, now: datetime.datetime) -> Step:
    """Review a change that has run; its requester does not.

    Raises:
        FlowauditError: it has not run, or it is theirs.
    """
    change = standing.change
    if standing.state is State.REVIEWED:
        return Step({}, entry.CHANGE_REVIEWED, change.id, gate.name, person.name)
    if standing.state not in _RAN or standing.history.ended is None:
        raise FlowauditError(f"{change.id} is {standing.state}: there is no finished run to review.")
    if person.name == change.requester:
        raise FlowauditError(f"{change.id} was requested by {person.name}; somebody else has to review it.")
    step = _state(gate, change, person, findings, now, repository.REVIEW)
    if step.key == standing.requester_key:
        raise FlowauditError(f"{change.id} was requested with this key; somebody else has to review it.")
    return step


def sign_terms(gate: Gate, person: Person) -> Step:
    """Sign the policy and the allowed signers as they are in the repository now."""
    place = gate.repository.policy_place(gate.terms.digest)
    path = place / repository.APPROVALS / f"{person.name}.sig"
    step = Step({}, entry.POLICY_SIGNED, "", gate.name, person.name)
    with contextlib.suppress(FlowauditError, OSError):
        signers = gate.terms.signers.encode()
        signature.verify(gate.terms.document, path.read_bytes(), signers, person.name, signature.POLICY)
        return step
    _demand_committed(gate)
    signed = signature.sign(gate.terms.document, person.key, signature.POLICY)
    return dataclasses.replace(step, files={place / "terms.json": gate.terms.document, path: signed})


def review_break_glass(
    gate: Gate,
    uses: Sequence[break_glass.Use],
    person: Person,
    findings: str,
    now: datetime.datetime,
    document: bytes = b"",
) -> tuple[break_glass.Review | None, Step]:
    """Sign what was found about uses of a sealed credential: a review that somebody has begun, or a new one.

    ``document`` is the review that the person has seen; anything else is not signed. Returns what is signed, too.

    Raises:
        FlowauditError: nothing is said of the uses, or the person has seen something else.
    """
    step = Step({}, entry.BREAK_GLASS_SIGNED, "", gate.name, person.name)
    if not uses:
        return None, step
    begun = break_glass.pending(gate.repository, gate.name, uses)
    seen = break_glass.read(document) if document else None
    review = begun or seen or break_glass.write(gate.name, uses, findings, now)
    if seen is not None and (review != seen or not set(seen.uses) <= {use.id for use in uses}):
        raise FlowauditError("The review has changed since you have seen it; look at it again.")
    place = gate.repository.break_glass_place(review.name)
    path = place / repository.APPROVALS / f"{person.name}.sig"
    with contextlib.suppress(FlowauditError, OSError):
        signers = gate.terms.signers.encode()
        signature.verify(review.document, path.read_bytes(), signers, person.name, signature.BREAK_GLASS)
        return review, step
    signed, key = _signed(gate, review.document, person, signature.BREAK_GLASS)
    files = {path: signed} if begun else {place / f"{repository.REVIEW}.json": review.document, path: signed}
    return review, dataclasses.replace(step, files=files, key=key)


def _state(gate: Gate, change: Change, person: Person, reason: str, now: datetime.datetime, name: str) -> Step:
    if not reason.strip():
        raise FlowauditError("Say why: -e change_reason='…'.")
    namespace, kind = {
        repository.REVOCATION: (signature.REVOCATION, entry.CHANGE_REVOKED),
        repository.REVIEW: (signature.REVIEW, entry.CHANGE_REVIEWED),
    }[name]
    document = canonical.encode(
        {
            "id": change.id,
            "change": change.digest,
            "principal": person.name,
            "reason": reason.strip(),
            "at": entry.timestamp(now.timestamp()),
        }
    )
    place = gate.repository.place(change.id)
    signed, key = _signed(gate, document, person, namespace)
    files = {place / f"{name}.sig": signed, place / f"{name}.json": document}
    return Step(files, kind, change.id, gate.name, person.name, key)


def _signed(gate: Gate, document: bytes, person: Person, namespace: str) -> tuple[bytes, str]:
    """A signature that counts (made, and verified as the gate will), and the fingerprint of its key."""
    made = signature.sign(document, person.key, namespace)
    try:
        by = signature.verify(document, made, gate.terms.signers.encode(), person.name, namespace)
    except FlowauditError as error:
        raise FlowauditError(
            f"{person.key} is no key of {person.name} by the allowed signers of {gate.name}; name yours with"
            " -e change_key=… and -e change_person=…"
        ) from error
    return made, by.key


def _demand_committed(gate: Gate) -> None:
    found = tree.uncommitted(gate.top, gate.changes)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise FlowauditError(
            f"{gate.top} has uncommitted changes ({', '.join(found[:3])}{more}): commit them, so others can see them."
        )
