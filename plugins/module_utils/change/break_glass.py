# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Uses of a sealed credential: nothing normal runs until they were reviewed.

Who opens the envelope passes the gate by, and is not known by name. So a review is signed by as many persons as a
change of high risk, one of whom did not open it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
from collections.abc import Mapping, Sequence

from ..errors import FlowauditError
from ..trail import canonical, entry
from ..trail.sqlite import SqliteLog
from . import signature, trust
from .repository import Repository

VERSION = 1
_MOST_USES = 500  # of one review
_MOST_REVIEWS = 20  # whose signatures are looked at
_FIELDS = {"v", "inventory", "uses", "findings", "at"}


@dataclasses.dataclass(frozen=True)
class Use:
    """A login with a sealed credential."""

    id: str
    seal: str
    host: str
    at: str  # as entries have it


@dataclasses.dataclass(frozen=True)
class Review:
    """What was found out about some uses; ``document`` is what is signed."""

    inventory: str
    uses: tuple[str, ...]
    findings: str
    at: str

    @property
    def document(self) -> bytes:
        """What is signed."""
        return canonical.encode(
            {
                "v": VERSION,
                "inventory": self.inventory,
                "uses": list(self.uses),
                "findings": self.findings,
                "at": self.at,
            }
        )

    @property
    def name(self) -> str:
        """The name of its directory: a use belongs to one log and cannot be guessed, so nobody signs in advance."""
        return hashlib.sha256("\n".join(self.uses).encode()).hexdigest()


def write(inventory: str, uses: Sequence[Use], findings: str, now: datetime.datetime) -> Review:
    """A review of uses.

    Raises:
        FlowauditError: it says nothing.
    """
    if not findings.strip():
        raise FlowauditError("Say who opened the envelope, why, and what was done: -e change_reason='…'.")
    some = tuple(use.id for use in uses[:_MOST_USES])
    return Review(inventory, some, findings.strip(), entry.timestamp(now.timestamp()))


def read(document: bytes) -> Review:
    """The review of a document.

    Raises:
        FlowauditError: it is none.
    """
    value = canonical.decode(document)
    try:
        if set(value) != _FIELDS or value["v"] != VERSION:
            raise ValueError
        review = Review(value["inventory"], tuple(value["uses"]), value["findings"], value["at"])
        if not review.uses or not all(isinstance(item, str) for item in review.uses) or review.document != document:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise FlowauditError("The review of a sealed credential has not the form that this version knows.") from error
    return review


def unreviewed(log: SqliteLog, inventory: str) -> list[Use]:
    """The uses that nobody has reviewed, by the trail alone, in their order."""
    reviewed = {
        use
        for value in log.told(entry.BREAK_GLASS_REVIEWED)
        if value["inventory"] == inventory
        for use in value["uses"]
    }
    # Several logins may be one use; the last of them counts.
    found = {
        value["use"]: Use(value["use"], value["seal"], value["host"], value["at"])
        for value in log.told(entry.BREAK_GLASS_USED)
        if value["inventory"] == inventory and value["use"] not in reviewed
    }
    return list(found.values())


def remember(log: SqliteLog, repository: Repository, terms: trust.Terms) -> list[Use]:
    """The uses that are still to be reviewed; what enough persons have signed counts from now on."""
    open_uses = unreviewed(log, terms.inventory)
    if not open_uses:
        return []
    for review, approvals in _about(repository, terms.inventory, open_uses):
        covered = {use.id for use in open_uses} & set(review.uses)
        if not covered or trust.lacking(terms, review.document, approvals, signature.BREAK_GLASS):
            continue
        draft: entry.Draft = {
            "type": entry.BREAK_GLASS_REVIEWED,
            "ts": entry.timestamp(),
            "inventory": terms.inventory,
            "uses": sorted(covered),
            "digest": hashlib.sha256(review.document).hexdigest(),
            "approved_by": len(trust.signed_by(terms, review.document, approvals, signature.BREAK_GLASS)),
        }
        log.append([draft])
        open_uses = [use for use in open_uses if use.id not in covered]
    return open_uses


def pending(repository: Repository, inventory: str, uses: Sequence[Use]) -> Review | None:
    """A review that somebody has begun, of some of these uses."""
    return next((review for review, _approvals in _about(repository, inventory, uses)), None)


def _about(repository: Repository, inventory: str, uses: Sequence[Use]) -> Sequence[tuple[Review, Mapping[str, bytes]]]:
    """The reviews that are about these uses alone; others lie there, and what is none."""
    known, found = {use.id for use in uses}, []
    for name, filed in repository.break_glass_reviews().items():
        with contextlib.suppress(FlowauditError):
            review = read(filed.document)
            if (review.name, review.inventory) == (name, inventory) and set(review.uses) <= known:
                found.append((review, filed.approvals))
    return found[:_MOST_REVIEWS]
