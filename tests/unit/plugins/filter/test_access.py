# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters as a playbook meets them: through Ansible's templating, which hands them lazy containers."""

from __future__ import annotations

import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

VARIABLES: dict[str, t.Any] = {
    "admins": "admin",
    "edge_roles": ["user", "{{ admins }}"],
    "edge_routes": [{"prefix": "{{ '/' }}", "service": "frontend"}],
    "edge_policy": [{"path": "/", "roles": ["{{ admins }}"], "methods": ["GET"]}],
}


def _trust(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _trust(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trust(item) for item in value]
    return trust_as_template(value)


def template(expression: str) -> t.Any:
    templar = Templar(loader=DataLoader(), variables=_trust(VARIABLES))
    return templar.template(trust_as_template("{{ " + expression + " }}"))


@pytest.fixture(autouse=True, scope="module")
def _ansibles_own_filters() -> None:
    # Loading them starts a process (ctypes looks for libraries), so it happens before the guard looks.
    template("{} | combine({})")


def test_a_policy_is_checked_as_it_is_rendered() -> None:
    assert template("edge_policy | flowaudit.ops.policy_problems(edge_roles, edge_routes)") == []
    assert template("edge_policy | flowaudit.ops.policy_problems(['user'], edge_routes, variable='x')") == [
        "x[0].roles has the unknown role 'admin'; the roles are user, anyone."
    ]


def test_the_routers_are_plain() -> None:
    routers = template("edge_policy | flowaudit.ops.policy_routers(edge_routes)")
    assert [(type(router), router["path_regexp"], router["methods"], router["roles"]) for router in routers] == [
        (dict, "(?i)^(/|$)", ["GET"], ["admin"]),
        (dict, "(?i)^(/|$)", [], []),
    ]
    assert [type(router["roles"]) for router in routers] == [list, list]
