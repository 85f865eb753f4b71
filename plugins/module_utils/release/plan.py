# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release asks of the database on the way there, and on the way back. Pure: no I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import FlowauditError
from .manifest import CLASSES, Manifest, Migration


@dataclasses.dataclass(frozen=True)
class Way:
    """From one schema to another.

    Attributes:
        schema: the revision it starts from, empty for none.
        kind: the worst class on the way.
        revisions: the migrations to run or to take back, oldest first.
        downgrade_to: revision to take the schema back to, empty to leave it.
    """

    schema: str
    kind: str
    revisions: tuple[str, ...] = ()
    downgrade_to: str = ""

    @property
    def interrupts(self) -> bool:
        """Whether the two releases cannot serve side by side."""
        return CLASSES.index(self.kind) >= CLASSES.index("breaking")


def worst(migrations: Sequence[Migration]) -> str:
    return max((each.kind for each in migrations), key=CLASSES.index, default="none")


def way_there(target: Manifest, schema: str) -> Way:
    """What brings a database of the revision ``schema`` (empty for none) to the release.

    Raises:
        FlowauditError: the release does not know the revision, so nobody knows whether it works on it.
    """
    revisions = [each.revision for each in target.migrations]
    if schema and schema not in revisions:
        raise FlowauditError(
            f"The database is at revision {schema}, which release {target.release_id} does not have "
            f"(its newest is {target.schema_head or 'none'}); if it ran here before, go back to "
            "it with the playbook flowaudit.ops.rollback; else build it with the migrations the database has."
        )
    ahead = target.migrations[revisions.index(schema) + 1 :] if schema else target.migrations
    # A first schema has no release before it that would have to live with it.
    kind = worst(ahead) if schema else "none"
    return Way(schema, kind, tuple(each.revision for each in ahead))


def way_back(current: Manifest, target: Manifest) -> Way:
    """What it takes to go from the current release back to an earlier one.

    Raises:
        FlowauditError: it cannot be gone back to without losing data; says what to do instead.
    """
    revisions = [each.revision for each in current.migrations]
    head = target.schema_head
    if head and head not in revisions:
        raise FlowauditError(
            f"Release {target.release_id} has the schema {head}, which release {current.release_id} does not know; it "
            "is not an earlier one: deploy it with the playbook flowaudit.ops.deploy."
        )
    since = current.migrations[revisions.index(head) + 1 :] if head else current.migrations
    kind, names = worst(since), tuple(each.revision for each in since)
    if kind == "contract":
        final = ", ".join(each.revision for each in since if each.kind == "contract")
        raise FlowauditError(_irreversible(current, target, final))
    return Way(current.schema_head, kind, names, head if kind == "breaking" else "")


def _irreversible(current: Manifest, target: Manifest, final: str) -> str:
    advice = "deploy a release that repairs it (roll forward)"
    if current.restore_point:
        advice += (
            ", or bring the database back to the moment before it, which loses what was entered since: "
            f"flowaudit.ops.restore_database -e restore_time={current.restore_point}"
        )
    return (
        f"Release {current.release_id} cannot be taken back to {target.release_id}: its migration {final} removed what "
        f"{target.release_id} needs. Instead, {advice}."
    )


def before(manifests: Sequence[Manifest], current: Manifest) -> Manifest | None:
    """The release that was deployed last before ``current``; None when it was the first that is known."""
    earlier = [each for each in manifests if each.deployed_at < current.deployed_at]
    return max(earlier, key=lambda each: each.deployed_at, default=None)


def superfluous(manifests: Sequence[Manifest], keep: int, needed: Sequence[str]) -> list[Manifest]:
    """The releases beyond the newest ``keep`` that are not ``needed`` (release ids), oldest first."""
    newest_first = sorted(manifests, key=lambda each: each.deployed_at, reverse=True)
    kept = [each for each in newest_first if each.release_id in needed]
    for each in newest_first:
        if each not in kept and len(kept) < keep:
            kept.append(each)
    return [each for each in reversed(newest_first) if each not in kept]
