# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a change of release is told, and what becomes of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from .manifest import Migration
from .smoke import Check, Place


@dataclasses.dataclass(frozen=True)
class Host:
    """Where things are on the host.

    Attributes:
        project: stem of the Compose projects' names.
        project_directory: holds a directory with a Compose file for each project.
        switch_file: Traefik's file that names the colour that serves.
        access_log: Traefik's access log, empty to watch no errors.
        edge_network: the network on which a colour's services are asked directly.
        incident_directory: where the logs of a release that was taken back are put.
        engine_directory: the file system with the images.
    """

    project: str
    project_directory: str
    switch_file: str
    access_log: str
    edge_network: str
    incident_directory: str
    engine_directory: str = "/var/lib/docker"

    def compose_file(self, colour: str, name: str = "compose.yaml") -> str:
        return os.path.join(self.project_directory, f"{self.project}-{colour}", name)


@dataclasses.dataclass(frozen=True)
class Application:
    """What there is to run.

    Attributes:
        public: service the edge routes to → its port in the container.
        background: services of which one runs at a time, such as the worker.
        migration: the one-off service.
        upgrade, downgrade, schema: its commands; ``downgrade`` gets the revision as its last argument, ``schema``
            prints the database's.
        restore_point: the command that makes a restore point; ``{name}`` in it is replaced.
    """

    public: Mapping[str, int]
    background: Sequence[str]
    migration: str
    upgrade: Sequence[str]
    downgrade: Sequence[str]
    schema: Sequence[str]
    restore_point: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Terms:
    """How careful a change of release is. All times are seconds, all sizes bytes.

    Attributes:
        wait: for a colour to become healthy.
        settle: for which it must stay so before anybody is sent to it.
        watch: for which its errors are watched afterwards.
        error_ratio, errors_least: see :func:`watch.rises`.
        warm: for which the old colour is kept running.
        keep: releases whose images stay.
        lock_wait: for another change of release to end.
        pull, migrate: for an image, for the migrations.
        grace: for a background service to finish what it has in hand.
        free_disk, free_memory: that must be there.
        accept: states of health that are good enough.
    """

    wait: float
    settle: float
    watch: float
    error_ratio: float
    errors_least: int
    warm: float
    keep: int
    lock_wait: float
    pull: float
    migrate: float
    grace: float
    free_disk: int
    free_memory: int
    accept: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Tests:
    """How a release is looked at.

    Attributes:
        health: path of the health document.
        health_service: the service that has it.
        direct: requests to the new colour's services, before anybody is sent to it.
        edge: requests as users make them.
        portal: the portal as its users know it; None to leave out what goes through the edge.
        command: a program that has to exit with 0, empty for none.
    """

    health: str
    health_service: str
    direct: Sequence[Check]
    edge: Sequence[Check]
    portal: Place | None
    command: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        action: deploy or rollback.
        release_id: the release that is to serve; empty for the previous one (rollback).
        colour: the one its Compose file was made for.
        compose_file: that file's text.
        images: image name → reference with digest; for a rollback what the images lock has, to compare.
        migrations: what the images hold, where they do not say themselves.
        accept_interruption: whether users may meet the maintenance page.
    """

    action: str
    release_id: str
    colour: str
    compose_file: str
    images: Mapping[str, str]
    migrations: Sequence[Migration] | None
    accept_interruption: bool
    actor: str
    change_id: str


@dataclasses.dataclass
class Outcome:
    """What became of it.

    Attributes:
        changed: whether another release serves than before.
        release_id, previous_id: the one that serves, and the one before it.
        colour, images, git_commit, migration_class, schema_before, restore_point: see :class:`manifest.Manifest`.
        warm: whether its containers were there and running.
        confirmed_after: seconds from the lock to the answer through the edge.
        timings: step → seconds.
        taken_back: the change that somebody began and this run took back, empty for none.
        resumed_at: the step of a killed run that this one went on from, empty for none.
        incident: directory with the logs of the release that was taken back, empty for none.
        rolled_back_commits: the application's commits after a rollback and before it.
        pruned: releases that were forgotten, because newer ones are kept.
    """

    changed: bool = False
    release_id: str = ""
    previous_id: str = ""
    colour: str = ""
    images: dict[str, str] = dataclasses.field(default_factory=dict)
    git_commit: str = ""
    migration_class: str = "none"
    schema_before: str = ""
    restore_point: str = ""
    warm: bool = False
    confirmed_after: float = 0.0
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    taken_back: str = ""
    resumed_at: str = ""
    incident: str = ""
    rolled_back_commits: tuple[str, ...] = ()
    pruned: list[str] = dataclasses.field(default_factory=list)
