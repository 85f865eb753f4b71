# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters about releases; documented in the ``.yml`` files beside this one."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Iterable, Mapping

from ansible.errors import AnsibleFilterError

from ..module_utils.errors import FlowauditError
from ..module_utils.release import manifest, swarm, switch


def release_switch(public: Mapping[str, int], project: str, colour: str) -> str:
    """The switch file's text (:func:`switch.text`)."""
    return switch.text(project, colour, public)


def swarm_releases(configs: Iterable[Mapping[str, t.Any]], services: Iterable[Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """What a Swarm remembers of its releases (:func:`swarm.releases`), and which one runs (:func:`swarm.current`)."""
    try:
        known = swarm.releases(configs)
    except FlowauditError as error:
        raise AnsibleFilterError(str(error)) from error
    manifests = [each for _name, each in known]
    labels = [swarm.release_of(service) for service in services]
    now, whole = swarm.current(manifests, labels)
    back = swarm.back(manifests, labels)
    return {
        "releases": [{**each.document(), "record": name} for name, each in known],
        "current": now.document() if now else {},
        "back": back.document() if back else {},
        "whole": whole,
    }


def swarm_record(
    images: Mapping[str, str],
    release_id: str,
    labels: Mapping[str, t.Any],
    actor: str = "",
    change_id: str = "",
    schema_before: str = "",
    migration_class: str = "none",
) -> str:
    """The record of a release that is deployed now; ``labels`` are those of the image with the migrations."""
    try:
        made = manifest.Manifest(
            release_id=release_id,
            colour="",
            images=dict(images),
            git_commit=manifest.commit_of(labels),
            migrations=manifest.migrations_of(labels, release_id) or (),
            deployed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            schema_before=schema_before,
            migration_class=migration_class,
            change_id=change_id,
            actor=actor,
        )
        manifest.check(made)
    except FlowauditError as error:
        raise AnsibleFilterError(str(error)) from error
    return manifest.dump(made)


def swarm_way(record: str, schema: str) -> dict[str, t.Any]:
    """What brings the database to a release (:func:`swarm.way_there`)."""
    try:
        way = swarm.way_there(manifest.load(record, "The record"), schema)
    except FlowauditError as error:
        raise AnsibleFilterError(str(error)) from error
    return {"kind": way.kind, "revisions": list(way.revisions)}


def swarm_way_back(target: Mapping[str, t.Any], current: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What it takes to go back to a release (:func:`swarm.way_back`); both are what ``swarm_releases`` has."""
    try:
        way = swarm.way_back(_manifest(current), _manifest(target))
    except FlowauditError as error:
        raise AnsibleFilterError(str(error)) from error
    return {"kind": way.kind, "revisions": list(way.revisions)}


def _manifest(document: Mapping[str, t.Any]) -> manifest.Manifest:
    return manifest.read({name: value for name, value in document.items() if name != "record"})


class FilterModule:
    """The filters ``flowaudit.ops.<name>``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "release_switch": release_switch,
            "swarm_record": swarm_record,
            "swarm_releases": swarm_releases,
            "swarm_way": swarm_way,
            "swarm_way_back": swarm_way_back,
        }
