# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the custody service is told by root, in a file that only root writes."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import typing as t
from collections.abc import Mapping

from ..change import gate_file
from ..errors import FlowauditError
from ..trail import anchors, publish

_KEYS = {"directory", "inventories", "group", "maximum_validity", "anchors", "database"}
LONGEST = 7 * 86400  # seconds that a certificate may ever be valid


@dataclasses.dataclass(frozen=True)
class Inventory:
    """An inventory whose hosts trust a CA of this control node."""

    name: str
    gate: pathlib.Path
    protected: bool


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where things are, and for what there are certificates."""

    directory: pathlib.Path
    inventories: Mapping[str, Inventory]
    maximum_validity: datetime.timedelta
    publishing: publish.Publishing = dataclasses.field(default_factory=publish.Publishing)
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
    return Settings(directory, inventories, datetime.timedelta(seconds=seconds), publishing, group)


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
    if not isinstance(value, dict) or set(value) - {"gate", "protected"}:
        raise FlowauditError(f"{path}: {name} has gate and protected.")
    protected = value.get("protected", True)
    if not isinstance(protected, bool):
        raise FlowauditError(f"{path}: protected of {name} is true or false.")
    return Inventory(name, _absolute(path, f"gate of {name}", value.get("gate")), protected)


def _absolute(path: pathlib.Path, what: str, value: t.Any) -> pathlib.Path:
    if not isinstance(value, str) or not pathlib.Path(value).is_absolute():
        raise FlowauditError(f"{path}: {what} is an absolute path.")
    return pathlib.Path(value)
