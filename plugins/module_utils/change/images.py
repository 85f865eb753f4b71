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


def release_of(variables: Iterable[str]) -> str:
    """The release that the extra variables name, as a scope has them; empty when they name none."""
    for variable in variables:
        name, _equals, value = variable.partition("=")
        if name == _NAMED_BY:
            release = canonical.decode(f'{{"":{value}}}'.encode())[""]
            return release if isinstance(release, str) else str(value)
    return ""


def digests_of(lock: pathlib.Path, release: str) -> tuple[str, ...]:
    """The digests that a release's images have, sorted; none when there is no such lock.

    Raises:
        FlowauditError: the lock cannot be read, or does not have the release.
    """
    if not lock.exists():
        return ()
    value = yaml_file.load(lock)
    try:
        releases = {str(name): images for name, images in value["images_lock"]["releases"].items()}
        if release not in releases:
            raise FlowauditError(f"{lock} has no release {release}; lock its images first (flowaudit.ops.images).")
        references = [str(reference) for reference in releases[release].values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise FlowauditError(f"{lock} has not the form of an images lock.") from error
    found = {reference.partition("@")[2] for reference in references}
    if not all(digest.startswith("sha256:") for digest in found):
        raise FlowauditError(f"{lock} has an image of release {release} that is not named by its digest.")
    return tuple(sorted(found))
