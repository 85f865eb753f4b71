# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host is told about its backups: one file, written by the role backup."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Mapping, Sequence

from ..errors import FlowauditError
from ..files import read_file

PATH = "/etc/flowaudit/backup/settings.json"
#: Repository → what it holds.
REPOSITORIES = ("postgres", "chroma", "uploads", "config")


@dataclasses.dataclass(frozen=True)
class Target:
    """Where copies go.

    Attributes:
        name: the name of the target, and of its host in the SSH configuration.
    """

    name: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings.

    Attributes:
        system: name of the system, which its snapshots carry.
        targets: where copies go; the first gets them from here, the others from the first.
        state_directory: what is known of earlier runs.
        secrets_directory: the repository's password and the SSH key.
        cache_directory: restic's cache.
        connect_program: connects to the target its last argument names, ``<target>/<repository>``.
        metrics_file: figures for node_exporter's textfile collector; empty for none.
        backup_project: the Compose project of the programs that take and prove backups.
        compose_file: its Compose file.
        database_container: the container of PostgreSQL.
        databases: those that are dumped.
        heartbeat_database: the database that holds the heartbeat.
        wal_directory: where the receiver writes the write-ahead log.
        database_directory: base backups and dumps.
        dump_days: days a dump stays on the host.
        wal_hours: hours the write-ahead log stays on the host beyond what the base backup needs.
        database_project: the Compose project of PostgreSQL.
        database_compose_file: its Compose file.
        database_service: its service there.
        database_image: its image, with digest.
        database_user: its user on the host.
        database_memory: its limit, such as 2G.
        database_clients: services of the colour that work on it.
        volume_prefix: how the names of its volumes begin.
        volume_file: names the one it is in, for the role stack.
        engine_directory: where the engine has its volumes.
        restore_directory: where what is restored is put together.
        switch_file: Traefik's, which says the colour, or that there is maintenance.
        public: service of the switch → its port.
        chroma_project: the Compose project of Chroma.
        chroma_compose_file: its Compose file.
        chroma_service: its service there; empty without one.
        chroma_directory: its data.
        chroma_staging: where its copy is proved.
        release_directory: the records of releases, which name the colour whose worker has to pause.
        project_directory: where the Compose projects are.
        project: name of the application's projects, before the colour.
        pause_services: services of the colour that write to Chroma.
        grace: seconds they have for what they have in hand.
        restored_service: service of the colour that is told what was restored.
        restored_command: how; ``database``, or ``vectors`` and the time of the backup, are added. Empty for not at all.
        uploads: directories whose every version is kept.
        config: directories and files of the configuration.
        config_exclude: what is left out of them.
        due: job → seconds after which its last success is overdue.
        seconds: how long a job may take.
        lock_wait: seconds a job waits for one of its kind to end.
        alarm_url: where a failure is told; empty for nowhere.
        ping_url: where a success is told, ``{job}`` is replaced; empty for nowhere.
    """

    system: str
    targets: Sequence[Target]
    state_directory: str
    secrets_directory: str
    cache_directory: str
    connect_program: str
    metrics_file: str
    backup_project: str
    compose_file: str
    database_container: str
    databases: Sequence[str]
    heartbeat_database: str
    wal_directory: str
    database_directory: str
    dump_days: int
    wal_hours: int
    database_project: str
    database_compose_file: str
    database_service: str
    database_image: str
    database_user: int
    database_memory: str
    database_clients: Sequence[str]
    volume_prefix: str
    volume_file: str
    engine_directory: str
    restore_directory: str
    switch_file: str
    public: Mapping[str, int]
    chroma_project: str
    chroma_compose_file: str
    chroma_service: str
    chroma_directory: str
    chroma_staging: str
    release_directory: str
    project_directory: str
    project: str
    pause_services: Sequence[str]
    grace: float
    restored_service: str
    restored_command: Sequence[str]
    uploads: Sequence[str]
    config: Sequence[str]
    config_exclude: Sequence[str]
    due: Mapping[str, float]
    seconds: float
    lock_wait: float
    alarm_url: str = ""
    ping_url: str = ""


def load(path: str = PATH) -> Settings:
    """Read the settings.

    Raises:
        FlowauditError: there are none, or they are not what this version knows.
    """
    text = read_file(path)
    if text is None:
        raise FlowauditError(f"{path} is missing: this host has no backups; run the playbook flowaudit.ops.site.")
    try:
        values: dict[str, t.Any] = json.loads(text)
        targets = [Target(**each) for each in values.pop("targets")]
        return Settings(targets=targets, **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowauditError(
            f"{path} is not what this version writes ({error}); run the playbook flowaudit.ops.site again."
        ) from error
