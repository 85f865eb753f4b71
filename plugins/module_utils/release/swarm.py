# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Releases in a Docker Swarm: what it remembers of them, and how an update of a service is going. Pure: no I/O.

A release's record is a Swarm config: it cannot be changed, and each manager has it. The services carry the release's
id as a label, which changes with their image, so the Swarm itself says which one runs.
"""

from __future__ import annotations

import base64
import binascii
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ..errors import FlowauditError
from . import manifest, plan
from .manifest import Manifest

LABEL_RELEASE = "ops.flowaudit.release"

# https://github.com/moby/swarmkit, api/types.proto, UpdateStatus
_GOES_ON = ("updating", "rollback_started")
_STANDS = ("paused", "rollback_paused")
_TAKEN_BACK = "rollback_completed"


class Verdict(t.NamedTuple):
    """How an update is going: it goes on while it neither is done nor has failed."""

    done: bool
    failure: str = ""


def verdict(
    service: Mapping[str, t.Any], tasks: Sequence[Mapping[str, str]], image: str, updated: bool = True
) -> Verdict:
    """Whether all of a service runs ``image`` (a reference with digest), and the update has ended.

    ``service`` is what ``docker service inspect`` says of it, ``tasks`` are what ``docker service ps --no-trunc`` says
    (as JSON). The Swarm calls a task running when its container is healthy. ``updated`` says whether the service was
    updated just now: that the Swarm has taken that back is a failure, even if the image is the same.
    """
    status = service.get("UpdateStatus") or {}
    state = status.get("State", "")
    if state in _GOES_ON:
        return Verdict(False)
    spec = service["Spec"]
    runs = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    if state in _STANDS or (updated and state == _TAKEN_BACK) or digest(runs) != digest(image):
        said = f"The Swarm says: {status['Message']}." if status.get("Message") else ""
        return Verdict(False, " ".join(filter(None, [f"It has {runs} ({state or 'changed by somebody else'}).", said])))
    wanted = [task for task in tasks if task["DesiredState"] == "Running"]
    well = [
        task for task in wanted if task["CurrentState"].startswith("Running") and digest(task["Image"]) == digest(image)
    ]
    replicas = spec["Mode"].get("Replicated", {}).get("Replicas", len(wanted))
    return Verdict(len(well) == len(wanted) == replicas and replicas > 0)


def troubles(tasks: Iterable[Mapping[str, str]], image: str) -> list[str]:
    """What tasks of an image had to say, each once; the newest first, as the Swarm lists them."""
    said = [
        f"{task['Name']} on {task['Node'] or 'no node'}: {task['Error']}"
        for task in tasks
        if task["Error"] and digest(task["Image"]) == digest(image)
    ]
    return list(dict.fromkeys(said))


def digest(reference: str) -> str:
    """The digest of a reference, which is what makes two of them the same image; the reference without one."""
    return reference.partition("@")[2] or reference


def release_of(service: Mapping[str, t.Any]) -> str:
    """The release that a service says it runs, as ``docker service inspect`` shows it; empty when it says nothing."""
    return str((service["Spec"].get("Labels") or {}).get(LABEL_RELEASE, ""))


def releases(configs: Iterable[Mapping[str, t.Any]]) -> list[tuple[str, Manifest]]:
    """The names of configs, as ``docker config inspect`` shows them, and the releases they record; the newest first.

    Raises:
        FlowauditError: one is no record.
    """
    found = []
    for config in configs:
        name = config["Spec"]["Name"]
        try:
            text = base64.b64decode(config["Spec"].get("Data") or "", validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise FlowauditError(
                f"The config {name} is no record of a release; remove it (docker config rm)."
            ) from error
        found.append((name, manifest.load(text, f"The config {name}")))
    return sorted(found, key=lambda each: each[1].deployed_at, reverse=True)


def current(known: Sequence[Manifest], labels: Iterable[str]) -> tuple[Manifest | None, bool]:
    """The release that was recorded last, and whether all services run it; ``labels`` are the ids that they carry.

    Where they do not, a change of release has not come to its end.
    """
    newest = max(known, key=lambda each: each.deployed_at, default=None)
    return newest, newest is not None and set(labels) == {newest.release_id}


def back(known: Sequence[Manifest], labels: Iterable[str]) -> Manifest | None:
    """The release to go back to when nobody names one; none when there is none, or it cannot be told.

    An update to a release that was never recorded is taken back. If the services carry other ids, it may have been a
    deployment of an earlier release that did not come to its end, or a rollback to it.
    """
    ids = set(labels)
    now, whole = current(known, ids)
    if now is not None and whole:
        return plan.before(known, now)
    return now if ids - {each.release_id for each in known} else None


def way_there(target: Manifest, schema: str) -> plan.Way:
    """What brings the database to a release, while the one before serves.

    Raises:
        FlowauditError: it would have to stop meanwhile, or the release does not know the database's revision.
    """
    way = plan.way_there(target, schema)
    if way.interrupts:
        raise FlowauditError(
            f"Release {target.release_id} has a migration of the class {way.kind}, which the release before cannot live"
            " with; in a Swarm both serve for a while. Make two releases of it: one that adds (expand), and a later one"
            " that removes what nothing uses any more."
        )
    return way


def way_back(now: Manifest, target: Manifest) -> plan.Way:
    """What it takes to go back to an earlier release.

    Raises:
        FlowauditError: it cannot be gone back to; says what to do instead.
    """
    way = plan.way_back(now, target)
    if way.downgrade_to:
        raise FlowauditError(
            f"Release {now.release_id} cannot be taken back to {target.release_id} while it serves: its migrations"
            f" {', '.join(way.revisions)} would have to be taken back. Deploy a release that repairs it (roll forward)."
        )
    return way
