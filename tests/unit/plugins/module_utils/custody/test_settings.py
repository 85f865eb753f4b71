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


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="
WRONG_HOSTS: list[tuple[t.Any, str]] = [
    (["h1"], "hosts of production maps each"),
    ({"../h1": {"key": HOST_KEY}}, "is no name of a host"),
    ({1: {"key": HOST_KEY}}, "is no name of a host"),
    ({"h1": HOST_KEY}, "h1 has address, port and key"),
    ({"h1": {"key": HOST_KEY, "user": "x"}}, "h1 has address, port and key"),
    ({"h1": {"key": HOST_KEY, "address": "-oProxyCommand=x"}}, "address of h1 is a name or an IP address"),
    ({"h1": {"key": HOST_KEY, "port": True}}, "port of h1 is a number"),
    ({"h1": {"key": HOST_KEY, "port": 65536}}, "port of h1 is a number"),
    ({"h1": {}}, "key of h1 is the public key of its sshd"),
    ({"h1": {"key": f"{HOST_KEY}\n* {HOST_KEY}"}}, "key of h1 is the public key of its sshd"),
]


def watching(hosts: t.Any) -> dict[str, t.Any]:
    return {"inventories": {"production": {"gate": "/gate.yml", "hosts": hosts}}}


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


def test_hosts_are_watched_where_they_are(tmp_path: pathlib.Path) -> None:
    hosts = {"h1": {"key": HOST_KEY}, "h2": {"key": HOST_KEY, "address": "2001:db8::1", "port": 2222}}
    found = read(tmp_path, {**GOOD, **watching(hosts), "alarm_url": "https://chat.example.org/hooks/x"})
    assert found.alarm_url == "https://chat.example.org/hooks/x"
    assert found.inventories["production"].hosts == {
        "h1": settings.Target("h1", HOST_KEY),
        "h2": settings.Target("2001:db8::1", HOST_KEY, 2222),
    }


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"inventories": []}, "has no inventories"),
        ({"inventories": {"../x": {"gate": "/gate.yml"}}}, "is no name of an inventory"),
        ({"inventories": {1: {"gate": "/gate.yml"}}}, "is no name of an inventory"),
        ({"inventories": {"a": {"gate": "gate.yml"}}}, "gate of a is an absolute path"),
        ({"inventories": {"a": {"gate": "/gate.yml", "protected": "no"}}}, "protected of a is true or false"),
        ({"inventories": {"a": {"gates": "/gate.yml"}}}, "a has gate, protected and hosts"),
        ({"inventories": {"a": "/gate.yml"}}, "a has gate, protected and hosts"),
        *[(watching(hosts), sentence) for hosts, sentence in WRONG_HOSTS],
        ({"alarm_url": "ftp://example.org"}, "alarm_url is a URL of HTTP"),
        ({"alarm_url": 5}, "alarm_url is a URL of HTTP"),
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
