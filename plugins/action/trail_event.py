# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Hands an event to the callback, which is where the trail is written."""

from __future__ import annotations

import typing as t

from ansible import constants, context
from ansible.plugins.action import ActionBase

from ..module_utils.trail import events

_CALLBACK = "flowaudit.ops.trail"


class ActionModule(ActionBase):
    """Runs on the control node; the host is what the event is about."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _specification, arguments = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "str", "required": True},
                "data": {"type": "dict", "default": {}},
            }
        )
        # `ansible` and `ansible-console`, which know no task to start at, load callbacks only when told to.
        ad_hoc = "start_at_task" not in context.CLIARGS
        missing = ""
        if _CALLBACK not in constants.CALLBACKS_ENABLED:
            missing = f"enable the callback {_CALLBACK} (callbacks_enabled in ansible.cfg)"
        elif ad_hoc and not constants.DEFAULT_LOAD_CALLBACK_PLUGINS:
            missing = "let this command load callbacks (bin_ansible_callbacks in ansible.cfg)"
        if missing:
            return result | {"failed": True, "msg": f"The event is recorded nowhere: {missing}."}
        # Already without secrets: with -v, Ansible shows it.
        return result | {"changed": False, "trail_event": events.event(arguments)}
