# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: out_of_scope
short_description: Refuse to connect to a host that is outside of the approved change
version_added: 0.3.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - What P(flowaudit.ops.change_gate#inventory) gives to the hosts that a change is not about. They stay in the
    inventory, so templates can go through their groups; a task that would connect to one fails, and nothing is sent.
options: {}
"""

import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

from ..module_utils.change import authorization


class Connection(ConnectionBase):
    """Never connects."""

    transport = "flowaudit.ops.out_of_scope"
    has_pipelining = True

    def _connect(self) -> t.NoReturn:
        granted = authorization.granted()
        change = granted.change_id if granted else "the approved change"
        raise AnsibleConnectionFailure(f"This host is outside of {change}. Nothing was sent.")

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> t.NoReturn:
        """See ConnectionBase."""
        self._connect()

    def put_file(self, in_path: str, out_path: str) -> t.NoReturn:
        """See ConnectionBase."""
        self._connect()

    def fetch_file(self, in_path: str, out_path: str) -> t.NoReturn:
        """See ConnectionBase."""
        self._connect()

    def close(self) -> None:
        """See ConnectionBase."""
