# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom a control node trusts: the terms of an inventory (policy and allowed signers), as they were accepted.

Policy and signers lie in the same repository as everything else, so who may run something could let themselves in. A
control node therefore remembers the terms in its trail. The first ones it sees are taken as they are, and shown; any
others have to be signed by as many persons as a change of high risk, all of whom the terms before let sign.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import typing as t
from collections.abc import Mapping

from ..errors import FlowauditError
from ..trail import canonical, commitment, entry
from ..trail.sqlite import SqliteLog
from . import policy, signature
from .model import Risk

VERSION = 1


@dataclasses.dataclass(frozen=True)
class Terms:
    """What an inventory asks of its changes, and of whom."""

    inventory: str
    rules: dict[str, t.Any]  # the policy, as it is written
    signers: str  # content of the file of allowed signers
    staging_keys: tuple[str, ...] = ()  # verifier keys of the trails that show runs on staging

    @property
    def document(self) -> bytes:
        """What is signed and remembered."""
        return canonical.encode(
            {
                "v": VERSION,
                "inventory": self.inventory,
                "policy": plain(self.rules),
                "signers": self.signers,
                "staging_keys": list(self.staging_keys),
            }
        )

    @property
    def digest(self) -> str:
        """The SHA-256 of the document, in hex."""
        return hashlib.sha256(self.document).hexdigest()


def read(document: bytes) -> Terms:
    """The terms of a document.

    Raises:
        FlowauditError: it is none of terms.
    """
    value = canonical.decode(document)
    try:
        terms = Terms(value["inventory"], value["policy"], value["signers"], tuple(value["staging_keys"]))
        if value["v"] != VERSION or terms.document != document:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise FlowauditError("The terms of an inventory have not the form that this version knows.") from error
    return terms


def plain(value: t.Any, moments: bool = True) -> t.Any:
    """What YAML gave as values of canonical JSON: strings without what Ansible adds to them.

    ``moments``: dates and times become text; else they are refused, as the text would be another value.

    Raises:
        FlowauditError: there is a value that has no such form.
    """
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise FlowauditError("The keys of what a change or a policy holds are text.")
        return {str.__str__(key): plain(item, moments) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, moments) for item in value]
    if moments and isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    raise FlowauditError(f"{value!r} is no value that a change or a policy holds; write it as text, in quotes.")


def accepted(log: SqliteLog, inventory: str) -> Terms | None:
    """The terms that this control node accepted last; none when it has not seen the inventory yet.

    Raises:
        FlowauditError: it has, and they are lost.
    """
    found = [value for value in log.told(entry.POLICY_ACCEPTED) if value["inventory"] == inventory]
    if not found:
        return None
    openings = log.openings([found[-1]["terms"]])
    if found[-1]["terms"] not in openings:
        raise FlowauditError(
            f"The trail in {log.home.path} has lost the terms of {inventory} that were accepted; restore it from its"
            " backup (docs/runbooks/trail_backup.md)."
        )
    return read(openings[found[-1]["terms"]].value)


def accept(log: SqliteLog, terms: Terms, approvals: Mapping[str, bytes]) -> bool:
    """See that these are the terms to go by; returns whether they are new here.

    ``approvals`` are signatures of the terms by person.

    Raises:
        FlowauditError: they differ from the accepted ones, and not enough of those who may have signed them.
    """
    before = accepted(log, terms.inventory)
    if before is not None and before.document == terms.document:
        return False
    missing = None if before is None else lacking(before, terms.document, approvals, signature.POLICY)
    if missing:
        raise FlowauditError(
            f"The policy or the allowed signers of {terms.inventory} are not those that were accepted, and {missing}."
        )
    opening = commitment.commit("policy", terms.document)
    draft: entry.Draft = {
        "type": entry.POLICY_ACCEPTED,
        "ts": entry.timestamp(),
        "inventory": terms.inventory,
        "digest": terms.digest,
        "terms": opening.commitment,
        "first": before is None,
        "approved_by": len(approvals),
    }
    log.append([draft], [opening])
    return True


def lacking(terms: Terms, document: bytes, approvals: Mapping[str, bytes], namespace: str) -> str:
    """What signatures lack to count like the approvals of a change of high risk; nothing when they suffice.

    ``approvals`` are signatures of the document by person; ``terms`` say who may sign.
    """
    rules = policy.parse(terms.rules)
    rule = rules.approvals[Risk.HIGH]
    people = signed_by(terms, document, approvals, namespace)
    needed = max(rule.count, 1)
    if len(people) < needed:
        return f"{len(people)} of {needed} persons have signed for it"
    missing = [role for role in rule.roles if not people & rules.roles[role]]
    return f"nobody of the role {missing[0]} has signed for it" if missing else ""


def signed_by(terms: Terms, document: bytes, approvals: Mapping[str, bytes], namespace: str) -> set[str]:
    """Who has signed a document, each with a key of their own."""
    people: dict[str, str] = {}  # key → person
    for person, signed in approvals.items():
        try:
            by = signature.verify(document, signed, terms.signers.encode(), person, namespace)
        except FlowauditError:
            continue
        if by.principal not in people.values():
            people.setdefault(by.key, by.principal)
    return set(people.values())
