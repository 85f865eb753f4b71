# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tells the module what collection is installed here: a module runs from an archive of its own."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ..module_utils.change import gate
from ..module_utils.errors import FlowauditError


class ActionModule(ActionBase):
    """Runs the module with one argument more."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            version, digest = gate.collection()
        except FlowauditError as error:
            return result | {"failed": True, "msg": str(error)}
        arguments = {**self._task.args, "collection": {"version": version, "digest": digest}}
        done: dict[str, t.Any] = self._execute_module("flowaudit.ops.change", arguments, task_vars=task_vars)
        return result | done
