# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the custody service is told by root, in a file that only root writes."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import re
import typing as t
from collections.abc import Mapping

from ..change import gate_file, model
from ..errors import FlowauditError
from ..trail import anchors, publish

_KEYS = {"directory", "inventories", "group", "maximum_validity", "anchors", "database", "alarm_url"}
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]*")
_HOST_KEY = re.compile(r"(ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/]+=*")
LONGEST = 7 * 86400  # seconds that a certificate may ever be valid


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the sshd of a host is, and which key it has (a line of OpenSSH)."""

    address: str
    key: str
    port: int = 22


@dataclasses.dataclass(frozen=True)
class Inventory:
    """An inventory whose hosts trust a CA of this control node."""

    name: str
    gate: pathlib.Path
    protected: bool
    hosts: Mapping[str, Target] = dataclasses.field(default_factory=dict)  # whose logins are watched


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where things are, and for what there are certificates."""

    directory: pathlib.Path
    inventories: Mapping[str, Inventory]
    maximum_validity: datetime.timedelta
    publishing: publish.Publishing = dataclasses.field(default_factory=publish.Publishing)
    alarm_url: str = ""  # where people are told; empty: nowhere but in the journal
    group: str = ""  # whose members may have runs; empty: whoever reaches the socket

    @property
    def trail(self) -> pathlib.Path:
        """The directory of the trail."""
        return self.directory / "trail"

    def authority(self, inventory: str) -> pathlib.Path:
        """The private key of an inventory's CA."""
        return self.directory / "ca" / inventory


def load(path: pathlib.Path) -> Settings:
    """Read the file.

    Raises:
        FlowauditError: it cannot be read, or something of it is missing or makes no sense.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise FlowauditError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FlowauditError(f"{path} is no YAML.") from error
    if not isinstance(value, dict) or not isinstance(value.get("inventories"), dict):
        raise FlowauditError(f"{path} has no inventories.")
    unknown = sorted(map(str, set(value) - _KEYS))
    if unknown:
        raise FlowauditError(f"{path}: {unknown[0]} is unknown.")
    seconds = value.get("maximum_validity", 43200)
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 60 <= seconds <= LONGEST:
        raise FlowauditError(f"{path}: maximum_validity is a number of seconds from 60 to {LONGEST}.")
    inventories = {name: _inventory(path, name, item) for name, item in value["inventories"].items()}
    directory = _absolute(path, "directory", value.get("directory"))
    publishing = _publishing(path, directory, value.get("anchors") or {}, value.get("database") or "")
    group = value.get("group", "")
    if not isinstance(group, str):
        raise FlowauditError(f"{path}: group is a name.")
    alarm_url = value.get("alarm_url", "")
    if not isinstance(alarm_url, str) or not re.fullmatch(r"(https?://[!-~]+)?", alarm_url):
        raise FlowauditError(f"{path}: alarm_url is a URL of HTTP.")
    return Settings(directory, inventories, datetime.timedelta(seconds=seconds), publishing, alarm_url, group)


def _publishing(path: pathlib.Path, directory: pathlib.Path, told: t.Any, database: t.Any) -> publish.Publishing:
    known = {"syslog", "syslog_ca", "worm_directory", "timestamp_url", "timestamp_ca"}
    if not isinstance(told, dict) or set(told) - known or not all(isinstance(item, str) for item in told.values()):
        raise FlowauditError(f"{path}: anchors has {', '.join(sorted(known))}, each a text.")
    if not isinstance(database, str):
        raise FlowauditError(f"{path}: database is a text.")
    chosen = anchors.Settings(**told, timestamp_directory=str(directory / "trail" / "timestamps"))
    anchors.keepers(chosen)  # refuses what makes no sense
    return publish.Publishing(database, chosen)


def _inventory(path: pathlib.Path, name: t.Any, value: t.Any) -> Inventory:
    if not isinstance(name, str) or not gate_file.NAME.fullmatch(name):
        raise FlowauditError(f"{path}: {name!r} is no name of an inventory.")
    if not isinstance(value, dict) or set(value) - {"gate", "protected", "hosts"}:
        raise FlowauditError(f"{path}: {name} has gate, protected and hosts.")
    protected = value.get("protected", True)
    if not isinstance(protected, bool):
        raise FlowauditError(f"{path}: protected of {name} is true or false.")
    hosts = value.get("hosts") or {}
    if not isinstance(hosts, dict):
        raise FlowauditError(f"{path}: hosts of {name} maps each to where it is.")
    targets = {host: _target(path, host, item) for host, item in hosts.items()}
    return Inventory(name, _absolute(path, f"gate of {name}", value.get("gate")), protected, targets)


def _target(path: pathlib.Path, name: t.Any, value: t.Any) -> Target:
    if not isinstance(name, str) or not model.HOST.fullmatch(name):
        raise FlowauditError(f"{path}: {name!r} is no name of a host.")
    if not isinstance(value, dict) or set(value) - {"address", "port", "key"}:
        raise FlowauditError(f"{path}: {name} has address, port and key.")
    address, port, key = value.get("address", name), value.get("port", 22), value.get("key")
    # An address that begins with a hyphen would be an option of ssh.
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise FlowauditError(f"{path}: address of {name} is a name or an IP address.")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise FlowauditError(f"{path}: port of {name} is a number up to 65535.")
    if not isinstance(key, str) or not _HOST_KEY.fullmatch(key):
        raise FlowauditError(f"{path}: key of {name} is the public key of its sshd, like ssh-ed25519 AAAA….")
    return Target(address, key, port)


def _absolute(path: pathlib.Path, what: str, value: t.Any) -> pathlib.Path:
    if not isinstance(value, str) or not pathlib.Path(value).is_absolute():
        raise FlowauditError(f"{path}: {what} is an absolute path.")
    return pathlib.Path(value)
