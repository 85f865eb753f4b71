# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action that hands an event to the callback."""

from __future__ import annotations

import typing as t

import pytest
from ansible import constants, context
from ansible.errors import AnsibleError

from ansible_collections.flowaudit.ops.plugins.action import trail_event


@pytest.fixture(autouse=True)
def playbook(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of ansible-playbook with the callback."""
    monkeypatch.setattr(context, "CLIARGS", {"start_at_task": None})
    monkeypatch.setattr(constants, "CALLBACKS_ENABLED", ["flowaudit.ops.trail"])
    monkeypatch.setattr(constants, "DEFAULT_LOAD_CALLBACK_PLUGINS", False)


def run(**arguments: t.Any) -> dict[str, t.Any]:
    class Task:
        args = arguments
        async_val = 0
        check_mode = False
        diff = False
        environment: t.ClassVar[list[t.Any]] = []

    class Shell:
        tmpdir = None

    class Connection:
        _shell = Shell()

    made = trail_event.ActionModule(Task(), Connection(), None, None, None, None)
    found: dict[str, t.Any] = made.run(None, {})
    return found


def test_an_event_is_handed_over_without_secrets() -> None:
    result = run(name="Restored", data={"rows": 42, "password": "secret"})
    assert result == {
        "changed": False,
        "trail_event": {"name": "Restored", "data": {"rows": "42", "password": "[withheld]"}},
    }
    assert run(name="Restored")["trail_event"] == {"name": "Restored", "data": {}}


@pytest.mark.parametrize("arguments", [{}, {"name": "x", "data": "text"}, {"name": "x", "more": 1}])
def test_wrong_arguments_are_refused(arguments: dict[str, t.Any]) -> None:
    with pytest.raises(AnsibleError):
        run(**arguments)


def test_without_the_callback_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "CALLBACKS_ENABLED", ["ansible.posix.profile_tasks"])
    result = run(name="Restored")
    assert result["failed"] and "callbacks_enabled" in result["msg"] and "trail_event" not in result


def test_where_no_callbacks_are_loaded_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"module_name": "flowaudit.ops.trail_event"})
    result = run(name="Restored")
    assert result["failed"] and "bin_ansible_callbacks" in result["msg"]
    monkeypatch.setattr(constants, "DEFAULT_LOAD_CALLBACK_PLUGINS", True)
    assert "trail_event" in run(name="Restored")
