# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: change_guard
type: notification
short_description: Keep a run within its approved change
version_added: 0.3.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Loaded by P(flowaudit.ops.change_gate#inventory); there is no need to enable it. Before a play begins, all its hosts
    have to be in the change, also those that were added while the run lasted.
options: {}
"""

import contextlib
import functools
import typing as t

from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

from ..module_utils.change import authorization
from ..module_utils.change.policy import Refusal
from ..module_utils.errors import FlowauditError
from ..plugin_utils import denial
from ..plugin_utils.guard import Guard

Hook = t.TypeVar("Hook", bound=t.Callable[..., None])


def _closed(hook: Hook) -> Hook:
    """A hook that stops the run when it fails; Ansible would only warn."""

    @functools.wraps(hook)
    def closed(self: CallbackModule, *args: t.Any, **kwargs: t.Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            with contextlib.suppress(Exception):
                self._display.error(f"The run cannot be kept within its change: {error}", wrap_text=False)
            raise SystemExit(1) from error

    return t.cast(Hook, closed)


class CallbackModule(CallbackBase):
    """Looks at the hosts of each play before it begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "flowaudit.ops.change_guard"
    CALLBACK_NEEDS_ENABLED = True

    guard: t.ClassVar[Guard | None] = None  # ansible-console makes callbacks anew for each command

    @_closed
    def set_options(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().set_options(*args, **kwargs)
        granted = authorization.granted()
        if granted is not None and CallbackModule.guard is None:
            CallbackModule.guard = Guard(granted)
            CallbackModule.guard.install()

    @_closed
    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        # All plays at once: nothing is begun that could not be finished.
        for play in playbook.get_plays():
            manager = play.get_variable_manager()
            hosts = play.hosts
            if any("{{" in str(pattern) for pattern in hosts):
                templar = Templar(loader=playbook._loader, variables=manager.get_vars(play=play))
                try:
                    hosts = templar.template(hosts)
                except Exception:
                    continue  # known when the play begins
            self._demand(manager._inventory.get_hosts(hosts))

    @_closed
    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        manager = play.get_variable_manager()
        if CallbackModule.guard is not None:
            CallbackModule.guard.learn(play.get_loader(), manager, manager._inventory)
        self._demand_same_code()
        self._demand(manager._inventory.get_hosts(play.hosts))

    @staticmethod
    def _demand_same_code() -> None:
        """Files that are exchanged while a run lasts are noticed before its next play."""
        granted = authorization.granted()
        if granted is not None and granted.hosts is not None and not authorization.same_code():
            message = f"The repository or the collection is not that of {granted.change_id} any more."
            mend = "Leave files alone while a run lasts."
            denial.deny(granted.inventory, granted.fields, granted.change_id, [Refusal("code_changed", message, mend)])

    def _demand(self, hosts: t.Iterable[t.Any]) -> None:
        granted = authorization.granted()
        if granted is None:
            raise FlowauditError("No gate has let it begin.")
        if granted.hosts is None:
            return
        # The control node, which no inventory has to name.
        outside = sorted({str(host.name) for host in hosts if not host.implicit} - granted.hosts)
        if outside:
            refusal = Refusal(
                "hosts",
                f"{', '.join(outside)} {'is' if len(outside) == 1 else 'are'} outside of {granted.change_id}.",
                f"Limit the run: --limit {','.join(sorted(granted.hosts))}",
            )
            denial.deny(granted.inventory, granted.fields, granted.change_id, [refusal])
