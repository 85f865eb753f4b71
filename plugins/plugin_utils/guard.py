# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keeps a run within its change: judges the connection that results, whatever made it so.

Variables of plays, tasks and facts, ``add_host`` and ``delegate_to`` all may lead a connection elsewhere. So the last
thing before a connection is used is looked at: its plugin with its options has to be that of a host in the change, as
the inventory describes it. Ansible has no hook there; the loader's answer is wrapped, in this process and in the
workers that are forked from it.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader
from ansible.template import Templar

from ..module_utils.change import authorization

Endpoint = tuple[t.Any, ...]

_LOCAL = "ansible.plugins.connection.local"
_OUT_OF_SCOPE = "flowaudit.ops.out_of_scope"
# Options that say how somebody logs in and how patient they are, not where to.
_HARMLESS = frozenset(
    {
        *("remote_user", "password", "private_key_file", "private_key", "private_key_passphrase", "password_mechanism"),
        *("pkcs11_provider", "sshpass_prompt", "timeout", "reconnection_retries", "pipelining", "use_tty", "verbosity"),
        *("ssh_transfer_method", "become", "become_pass", "_extras", "record_host_keys", "look_for_keys"),
    }
)


class Guard:
    """The connections that a run may use."""

    def __init__(self, granted: authorization.Authorization) -> None:
        self._granted = granted
        self._load = connection_loader.get_with_context
        self._allowed: frozenset[Endpoint] | None = None

    def install(self) -> None:
        """Look at every connection from now on."""

        def get_with_context(name: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
            found = self._load(name, *args, **kwargs)
            if found.object is not None and not isinstance(found.object, type):
                self._watch(found.object)
            return found

        connection_loader.get_with_context = get_with_context

    def learn(self, loader: t.Any, variable_manager: t.Any, inventory: t.Any) -> None:
        """Take down what the inventory says of the hosts in the change, before anything else can say it."""
        if self._allowed is not None or self._granted.hosts is None:
            return
        found: set[Endpoint] = set()
        connections: dict[str, t.Any] = {}  # one of each plugin is asked about all its hosts
        for host in filter(None, map(inventory.get_host, sorted(self._granted.hosts))):
            variables = variable_manager.get_vars(host=host)
            templar = Templar(loader=loader, variables=variables)
            context = PlayContext()
            context.network_os = str(variables.get("ansible_network_os", ""))
            kind = str(templar.template(variables.get("ansible_connection", context.connection)))
            if kind not in connections:
                connections[kind] = self._load(kind, context, None).object
            connection = connections[kind]
            if connection is not None:
                connection.set_options(var_options=_resolved(connection, variables, templar))
                found.add(_endpoint(connection))
        self._allowed = frozenset(found)

    def _watch(self, connection: t.Any) -> None:
        resolve = connection.set_options

        def set_options(*args: t.Any, **kwargs: t.Any) -> None:
            resolve(*args, **kwargs)
            self._demand(connection)

        connection.set_options = set_options

    def _demand(self, connection: t.Any) -> None:
        plugin = _plugin(connection)
        # The control node itself; a host outside the change, whose connection says so itself.
        if self._granted.hosts is None or plugin in (_LOCAL, _OUT_OF_SCOPE):
            return
        if self._allowed is not None and _endpoint(connection) in self._allowed:
            return
        options = connection.get_options()
        where = options.get("host") or options.get("remote_addr") or "somewhere else"
        raise AnsibleConnectionFailure(
            f"This connection ({plugin.rpartition('.')[2]} to {where}) is not that of a host in"
            f" {self._granted.change_id}, as the inventory describes it. Nothing was sent."
        )


def _resolved(connection: t.Any, variables: dict[str, t.Any], templar: Templar) -> dict[str, t.Any]:
    """The variables that a connection takes; those that a play gives, and the inventory does not, are left out."""
    values: dict[str, t.Any] = {"_extras": {}}
    for name in constants.config.get_plugin_vars("connection", connection._load_name):
        if name in variables:
            # What says where it leads and cannot be known here makes another endpoint, which is refused.
            with contextlib.suppress(AnsibleError):
                values[name] = templar.template(variables[name])
    return values


def _endpoint(connection: t.Any) -> Endpoint:
    options = {key: value for key, value in connection.get_options().items() if key not in _HARMLESS}
    return (_plugin(connection), *(f"{key}={value}" for key, value in sorted(options.items())))


def _plugin(connection: t.Any) -> str:
    module = type(connection).__module__
    return module if module.startswith("ansible.plugins.") else str(connection.ansible_name or connection._load_name)
