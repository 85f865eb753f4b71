# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What root tells the custody service."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import settings
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

GOOD: dict[str, t.Any] = {
    "directory": "/var/lib/flowaudit/custody",
    "inventories": {"production": {"gate": "/srv/portal/inventories/production/gate.yml"}},
}


def read(tmp_path: pathlib.Path, value: t.Any) -> settings.Settings:
    path = tmp_path / "custody.yml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return settings.load(path)


def test_what_is_not_said_has_a_default(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.inventories["production"].protected
    assert found.maximum_validity == datetime.timedelta(hours=12)
    assert found.trail == pathlib.Path("/var/lib/flowaudit/custody/trail")
    assert found.authority("production") == pathlib.Path("/var/lib/flowaudit/custody/ca/production")
    assert found.publishing.database == "" and found.publishing.anchors.syslog == ""


def test_anchors_are_those_of_the_trail(tmp_path: pathlib.Path) -> None:
    found = read(tmp_path, {**GOOD, "anchors": {"worm_directory": "/mnt/worm"}, "database": "service=trail"})
    assert found.publishing.anchors.worm_directory == "/mnt/worm"
    assert found.publishing.anchors.timestamp_directory == "/var/lib/flowaudit/custody/trail/timestamps"
    assert found.publishing.database == "service=trail"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"inventories": []}, "has no inventories"),
        ({"inventories": {"../x": {"gate": "/gate.yml"}}}, "is no name of an inventory"),
        ({"inventories": {1: {"gate": "/gate.yml"}}}, "is no name of an inventory"),
        ({"inventories": {"a": {"gate": "gate.yml"}}}, "gate of a is an absolute path"),
        ({"inventories": {"a": {"gate": "/gate.yml", "protected": "no"}}}, "protected of a is true or false"),
        ({"inventories": {"a": {"gates": "/gate.yml"}}}, "a has gate and protected"),
        ({"inventories": {"a": "/gate.yml"}}, "a has gate and protected"),
        ({"directory": "here"}, "directory is an absolute path"),
        ({"directory": None}, "directory is an absolute path"),
        ({"maximum_validity": True}, "from 60 to 604800"),
        ({"maximum_validity": 59}, "from 60 to 604800"),
        ({"maximum_validity": 604801}, "from 60 to 604800"),
        ({"key": "x"}, "key is unknown"),
        ({"anchors": {"mail": "x"}}, "anchors has syslog"),
        ({"anchors": {"syslog": 5}}, "anchors has syslog"),
        ({"anchors": {"syslog": "nowhere"}}, "nowhere"),
        ({"database": 5}, "database is a text"),
    ],
)
def test_what_makes_no_sense(tmp_path: pathlib.Path, more: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(FlowauditError, match=sentence):
        read(tmp_path, {**GOOD, **more})


def test_what_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match="cannot be read: No such file"):
        settings.load(tmp_path / "none.yml")
    with pytest.raises(FlowauditError, match="is no YAML"):
        read(tmp_path, "a: [")
    with pytest.raises(FlowauditError, match="has no inventories"):
        read(tmp_path, "just a text")
