# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The images of the release that a run deploys: what the inventory's images lock says of it."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from ..errors import FlowauditError
from ..trail import canonical
from . import yaml_file

# Below the inventory's directory; where the playbook ``images`` writes it.
LOCK = pathlib.PurePath("group_vars", "all", "images.lock.yml")
_NAMED_BY = "release_id"  # the extra variable that the playbooks deploy and rollback take
# What would have a playbook run another release, or other images, than those that are compared.
_INSTEAD = {"images_lock", *(f"{role}_release_{what}" for role in ("app", "swarm") for what in ("id", "images"))}


def release_of(variables: Iterable[str]) -> str:
    """The release that the extra variables name, as a scope has them; empty when they name none.

    Raises:
        FlowauditError: they name images otherwise.
    """
    values = dict(variable.split("=", 1) for variable in variables)
    instead = sorted(_INSTEAD & values.keys())
    if instead:
        raise FlowauditError(f"{instead[0]} is the inventory's to set; name the release with -e {_NAMED_BY}=….")
    value = values.get(_NAMED_BY)
    if value is None:
        return ""
    release = canonical.decode(f'{{"":{value}}}'.encode())[""]
    return release if isinstance(release, str) else value


def digests_of(lock: pathlib.Path, release: str) -> tuple[str, ...]:
    """The digests that a release's images have, sorted; none when there is no such lock.

    Raises:
        FlowauditError: the lock cannot be read, or does not have the release.
    """
    if not lock.exists():
        return ()
    value = yaml_file.load(lock)
    try:
        found = [images for name, images in value["images_lock"]["releases"].items() if str(name) == release]
        if len(found) != 1:
            has = "has no release" if not found else "has more than one release"
            raise FlowauditError(f"{lock} {has} {release}; lock its images first (flowaudit.ops.images).")
        digests = {str(reference).partition("@")[2] for reference in found[0].values()}
    except (KeyError, TypeError, AttributeError) as error:
        raise FlowauditError(f"{lock} has not the form of an images lock.") from error
    if not all(digest.startswith("sha256:") for digest in digests):
        raise FlowauditError(f"{lock} has an image of release {release} that is not named by its digest.")
    return tuple(sorted(digests))
