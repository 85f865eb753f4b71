# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is known of a release: its images, its migrations, and how it came to this host. Pure: no I/O.

An image tells of itself by labels (OCI image specification, annotations)::

    org.opencontainers.image.version=1.2.0
    org.opencontainers.image.revision=<git commit>
    ops.flowaudit.migrations=0001=none,0002=expand,0003=breaking

The last one names every migration in the image, oldest first, with its class: what a database has to go through, and
what it takes to go back, follows from it for any two releases.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing as t
from collections.abc import Mapping, Sequence

from ..errors import FlowauditError

#: From harmless to final. ``none`` and ``expand``: the release before works on the schema, too. ``breaking``: it does
#: not, but the migration can be taken back. ``contract``: what it removes is gone.
CLASSES = ("none", "expand", "breaking", "contract")
COLOURS = ("blue", "green")

LABEL_MIGRATIONS = "ops.flowaudit.migrations"
LABEL_REVISION = "org.opencontainers.image.revision"
LABEL_VERSION = "org.opencontainers.image.version"

_RELEASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_MIGRATION = re.compile(r"(?P<revision>[A-Za-z0-9_.-]{1,64})=(?P<kind>[a-z]+)")


class Migration(t.NamedTuple):
    revision: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A release as it ran on a host.

    Attributes:
        release_id: what operators call it, such as 1.4.0.
        colour: the colour it had here last, blue or green; empty in a Swarm.
        images: image name → reference with digest.
        git_commit: the application's commit, empty when its images do not say.
        migrations: every migration in its images, oldest first.
        schema_before: the database's revision before its migrations ran, empty when unknown or none.
        migration_class: the worst class among the migrations its deployment ran.
        restore_point: name of PostgreSQL's restore point before them, empty when none ran.
        change_id: the change that let it in, empty without one.
        actor: who deployed it.
        deployed_at: when it began to serve (RFC 3339, UTC).
        timings: step → seconds.
    """

    release_id: str
    colour: str
    images: Mapping[str, str]
    git_commit: str = ""
    migrations: Sequence[Migration] = ()
    schema_before: str = ""
    migration_class: str = "none"
    restore_point: str = ""
    change_id: str = ""
    actor: str = ""
    deployed_at: str = ""
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def schema_head(self) -> str:
        """The newest migration in its images; empty when they hold none."""
        return self.migrations[-1].revision if self.migrations else ""

    def document(self) -> dict[str, t.Any]:
        """Itself as plain data, without its checksum."""
        values = dataclasses.asdict(self)
        values["migrations"] = [{"revision": each.revision, "class": each.kind} for each in self.migrations]
        values["schema_head"] = self.schema_head
        return values


def dump(manifest: Manifest) -> str:
    """The file of a release on the host.

    Its checksum finds what somebody changed in passing; who must not be able to change it at all reads the trail.
    """
    document = manifest.document()
    return json.dumps({**document, "checksum": _checksum(document)}, indent=2) + "\n"


def load(text: str, path: str) -> Manifest:
    """Read a release's file.

    Raises:
        FlowauditError: it is none, or was changed since it was written.
    """
    try:
        document = json.loads(text)
        checksum = document.pop("checksum")
        if checksum != _checksum(document):
            raise FlowauditError(
                f"{path} was changed by somebody else since it was written; deploy that release again instead of "
                "going back to it."
            )
        manifest = read(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowauditError(
            f"{path} is no record of a release ({type(error).__name__}: {error}); move it away and deploy again."
        ) from error
    check(manifest)
    return manifest


def read(document: Mapping[str, t.Any]) -> Manifest:
    """A release as :meth:`Manifest.document` writes it.

    Raises:
        KeyError, TypeError: it is none.
    """
    values = {name: value for name, value in document.items() if name != "schema_head"}
    migrations = tuple(Migration(each["revision"], each["class"]) for each in values.pop("migrations"))
    return Manifest(**values, migrations=migrations)


def check(manifest: Manifest) -> None:
    """Refuse what cannot be run.

    Raises:
        FlowauditError: the release has no usable name, or an image without a digest.
    """
    check_id(manifest.release_id)
    # A Swarm has no colours.
    if manifest.colour and manifest.colour not in COLOURS:
        raise FlowauditError(f"Release {manifest.release_id} has the colour '{manifest.colour}', not blue or green.")
    if manifest.git_commit and not _COMMIT.fullmatch(manifest.git_commit):
        raise FlowauditError(f"Release {manifest.release_id} has the commit '{manifest.git_commit}', which is none.")
    check_images(manifest.release_id, manifest.images)
    for migration in manifest.migrations:
        if migration.kind not in CLASSES:
            raise FlowauditError(
                f"Migration {migration.revision} of release {manifest.release_id} is of the class '{migration.kind}'; "
                f"the classes are {', '.join(CLASSES)}."
            )


def check_images(release_id: str, images: Mapping[str, str]) -> None:
    """Refuse images that could be others tomorrow.

    Raises:
        FlowauditError: there is none, or one without a digest.
    """
    if not images:
        raise FlowauditError(
            f"Release {release_id} has no images; run the playbook flowaudit.ops.images with it first."
        )
    for name, reference in images.items():
        if not _DIGEST.fullmatch(reference):
            raise FlowauditError(
                f"Image {name} of release {release_id} is '{reference}', without a digest; a tag can mean "
                "another image tomorrow: lock it with the playbook flowaudit.ops.images."
            )


def check_id(release_id: str) -> None:
    """Refuse a name that is no file name and no part of a restore point's.

    Raises:
        FlowauditError: it has other characters than letters, digits, '.', '_' and '-', or more than 40.
    """
    if not _RELEASE_ID.fullmatch(release_id):
        raise FlowauditError(
            f"'{release_id}' is no release: write letters, digits, '.', '_' and '-', at most 40, such as 1.4.0."
        )


def commit_of(labels: Mapping[str, str]) -> str:
    """The commit an image names; empty when it names none, or something else."""
    found = labels.get(LABEL_REVISION, "")
    return found if _COMMIT.fullmatch(found) else ""


def migrations_of(labels: Mapping[str, str], release_id: str) -> tuple[Migration, ...] | None:
    """The migrations an image tells of; None when it tells nothing.

    Raises:
        FlowauditError: its label is not a list of revisions with classes.
    """
    text = labels.get(LABEL_MIGRATIONS)
    if text is None:
        return None
    migrations = []
    for part in filter(None, text.split(",")):
        match = _MIGRATION.fullmatch(part.strip())
        if match is None or match["kind"] not in CLASSES:
            raise FlowauditError(
                f"The image of release {release_id} has the label {LABEL_MIGRATIONS}={text!r}; write every migration "
                f"with its class ({', '.join(CLASSES)}), oldest first, such as 0001=none,0002=expand."
            )
        migrations.append(Migration(match["revision"], match["kind"]))
    return tuple(migrations)


def _checksum(document: Mapping[str, t.Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
