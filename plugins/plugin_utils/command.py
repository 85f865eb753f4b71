# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody wants to run, from the command line and the environment of this process."""

from __future__ import annotations

import os
import pathlib
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible import constants
from ansible.inventory.manager import IGNORED, InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.utils.collection_loader._collection_finder import _get_collection_playbook_path

from ..module_utils.change import model, runbook, tree, trust
from ..module_utils.change.gate import Command, Gate
from ..module_utils.change.policy import Policy, Refusal
from ..module_utils.errors import FlowauditError

# What an operator sets for their own comfort, and the secrets that have to come from somewhere. Everything else of
# Ansible's that the environment says (plugins, connections, caches, callbacks) is the repository's to say.
_HARMLESS = frozenset(
    {
        *("ANSIBLE_FORCE_COLOR", "ANSIBLE_NOCOLOR", "ANSIBLE_NOCOWS", "ANSIBLE_VERBOSITY", "ANSIBLE_LOG_PATH"),
        *("ANSIBLE_FORKS", "ANSIBLE_TIMEOUT", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_DIFF_ALWAYS"),
        *("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST", "ANSIBLE_VAULT_IDENTITY"),
        *("ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_REMOTE_USER", "ANSIBLE_BECOME_PASSWORD_FILE"),
        *("ANSIBLE_CALLBACK_RESULT_FORMAT", "ANSIBLE_CALLBACK_FORMAT_PRETTY", "ANSIBLE_DEVEL_WARNING"),
        *("ANSIBLE_DEPRECATION_WARNINGS", "ANSIBLE_SYSTEM_WARNINGS", "ANSIBLE_CONFIG"),
    }
)
_HARMLESS_BEGINNINGS = ("ANSIBLE_DISPLAY_", "ANSIBLE_COLOR_", "ANSIBLE_HOST_KEY_CHECKING_")
_SYSTEM_CONFIGURATION = "/etc/ansible/ansible.cfg"  # root's
# Options of the command line that bring code, or lead a connection elsewhere.
_REDIRECTING = {
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "sftp_extra_args": "--sftp-extra-args",
    "scp_extra_args": "--scp-extra-args",
    "module_path": "--module-path",
    "start_at_task": "--start-at-task",
    "basedir": "--playbook-dir",
    "step": "--step",
    "force_handlers": "--force-handlers",
    "become_user": "--become-user",
}
# Where Ansible looks for code beside the playbook and the collections.
_PLACES_OF_CODE = (
    *("DEFAULT_MODULE_PATH", "DEFAULT_MODULE_UTILS_PATH", "DEFAULT_ACTION_PLUGIN_PATH", "DEFAULT_FILTER_PLUGIN_PATH"),
    *("DEFAULT_LOOKUP_PLUGIN_PATH", "DEFAULT_TEST_PLUGIN_PATH", "DEFAULT_CALLBACK_PLUGIN_PATH", "BECOME_PLUGIN_PATH"),
    *("DEFAULT_CONNECTION_PLUGIN_PATH", "DEFAULT_STRATEGY_PLUGIN_PATH", "DEFAULT_VARS_PLUGIN_PATH"),
    *("DEFAULT_INVENTORY_PLUGIN_PATH", "DEFAULT_CACHE_PLUGIN_PATH", "DEFAULT_ROLES_PATH"),
)
_OF_THE_SYSTEM = ("/usr/share/ansible", "/etc/ansible")  # root's


def lists_only(arguments: Mapping[str, t.Any]) -> bool:
    """Whether the command shows what there is, and runs nothing."""
    if "start_at_task" in arguments:  # ansible-playbook
        return any(arguments.get(name) for name in ("listhosts", "listtasks", "listtags", "syntax"))
    if "module_name" in arguments:  # ansible
        return bool(arguments.get("listhosts"))
    # ansible-inventory; ansible-console takes --list-hosts, and does not care.
    return {"list", "graph", "host"} <= set(arguments)


def read(
    gate: Gate,
    rules: Policy | None,
    arguments: Mapping[str, t.Any],
    loader: DataLoader,
    extra_vars: Mapping[str, t.Any],
    inventory: t.Any,
) -> Command:
    """The command of this process; what is wrong with it as such is in its ``problems``."""
    problems: list[Refusal] = []
    if "start_at_task" in arguments:
        program = "ansible-playbook"
        playbooks = _playbooks(gate, arguments.get("args") or (), problems)
    else:
        # Commands without a playbook are named themselves in a scope.
        program = "ansible" if "module_name" in arguments else "ansible-console" if "pattern" in arguments else ""
        playbooks = [program]
        problems += _adhoc(gate, program)
    problems += [*_environment(gate, rules), *_configuration(gate), *_options(arguments), *_beside(gate, arguments)]
    variables: tuple[str, ...] = ()
    try:
        variables = model.variables_of(trust.plain(extra_vars, moments=False))
    except FlowauditError as error:
        problems.append(Refusal("variables", str(error), "Leave it out."))
    change_id = extra_vars.get("change_id", "")
    return Command(
        program,
        tuple(playbooks),
        str.__str__(change_id) if isinstance(change_id, str) else repr(change_id),
        _limited(loader, inventory, arguments.get("subset")),
        variables,
        _tags(arguments, "tags"),
        _tags(arguments, "skip_tags"),
        bool(arguments.get("check")),
        tuple(problems) if gate.protected else (),
    )


def _playbooks(gate: Gate, written: Iterable[t.Any], problems: list[Refusal]) -> list[str]:
    """The playbooks as a scope names them; what is wrong is added to ``problems``."""
    names = []
    for given in map(str.__str__, written):
        try:
            name = _playbook(gate, given)
        except FlowauditError as error:
            name = given
            problems.append(Refusal("playbook_outside", str(error), ""))
        names.append(name)
    return names


def _adhoc(gate: Gate, program: str) -> Iterator[Refusal]:
    if not program:
        yield Refusal("program", "Only Ansible's own commands can be let begin.", "Use ansible-playbook.")
    # Their variables (group_vars, host_vars) are those of the current directory.
    if not tree.covers(gate.top, os.getcwd(), [gate.changes]):
        yield Refusal("directory", f"{program} reads variables of {os.getcwd()}.", f"Run it in {gate.top}.")


def _environment(gate: Gate, rules: Policy | None) -> Iterator[Refusal]:
    allowed = _HARMLESS | (rules.environment if rules else frozenset())
    for name in sorted(os.environ):
        if not name.startswith(("ANSIBLE_", "FLOWAUDIT_")) or name in allowed or name.startswith(_HARMLESS_BEGINNINGS):
            continue
        yield Refusal(
            "environment",
            f"The environment variable {name} would change what was approved.",
            "Unset it: what it says belongs into the repository's ansible.cfg, or allow it in the policy.",
        )


def _configuration(gate: Gate) -> Iterator[Refusal]:
    used = constants.CONFIG_FILE
    if used != _SYSTEM_CONFIGURATION and not (used and tree.covers(gate.top, used, [gate.changes])):
        yield Refusal(
            "configuration",
            f"Ansible's configuration {used or '(none)'} is not the repository's.",
            f"Run it in {gate.top}, or with ANSIBLE_CONFIG={gate.top}/ansible.cfg.",
        )
    if constants.CACHE_PLUGIN != "memory":
        yield Refusal(
            "fact_cache",
            f"Facts are kept from run to run ({constants.CACHE_PLUGIN}), and override the inventory.",
            "Leave fact_caching out of ansible.cfg.",
        )
    for setting in _PLACES_OF_CODE:
        for place in getattr(constants, setting, None) or ():
            if not _is_known(gate, pathlib.Path(place)):
                yield Refusal(
                    "plugins",
                    f"Ansible would load code from {place}, which nobody has approved.",
                    "Move it into the repository.",
                )


def _is_known(gate: Gate, place: pathlib.Path) -> bool:
    if not place.is_dir() or not any(place.iterdir()) or str(place).startswith(_OF_THE_SYSTEM):
        return True
    return tree.covers(gate.top, place, [gate.changes])


def _options(arguments: Mapping[str, t.Any]) -> Iterator[Refusal]:
    for name, option in _REDIRECTING.items():
        if arguments.get(name):
            yield Refusal("option", f"{option} would change what was approved.", "Leave it out.")
    for name, default in (("connection", "DEFAULT_TRANSPORT"), ("become_method", "DEFAULT_BECOME_METHOD")):
        if arguments.get(name) not in (None, getattr(constants, default)):
            option = f"--{name.replace('_', '-')}"
            yield Refusal("option", f"{option} would change what was approved.", "Leave it out.")


def _beside(gate: Gate, arguments: Mapping[str, t.Any]) -> Iterator[Refusal]:
    """Other inventories: a second -i, and files that Ansible would read in the gate's directory."""
    sources = [str(source) for source in arguments.get("inventory") or ()]
    if len(sources) != 1:
        yield Refusal("inventories", f"The inventory {gate.name} is not mixed with others.", "Leave the other -i out.")
        return
    place = pathlib.Path(sources[0])
    if place.is_dir():
        names = [name for name in sorted(os.listdir(place)) if not IGNORED.search(os.fsencode(name))]
        if len(names) > 1:
            yield Refusal(
                "inventories",
                f"{place} holds {', '.join(names)}, which Ansible would read as inventories.",
                "Leave only the gate there; it reads others that are named in sources.",
            )


def _playbook(gate: Gate, written: str) -> str:
    """The name of a playbook in a scope."""
    found = _get_collection_playbook_path(written)
    path = pathlib.Path(os.path.abspath(found[1] if found else written))
    real = path.resolve()
    # By the path that it is used by: what belongs to a playbook is looked for beside it.
    ours = runbook.ROOT / "playbooks"
    if tree.covers(ours, path):
        return f"{runbook.COLLECTION}.{real.relative_to(ours).with_suffix('').as_posix()}"
    if found is None and path.is_file() and tree.covers(gate.top, path, [gate.changes]):
        return real.relative_to(gate.top).as_posix()
    if found is None and not path.is_file():
        raise FlowauditError(f"There is no playbook {written}.")
    raise FlowauditError(
        f"The playbook {written} is neither one of {runbook.COLLECTION} nor in the repository {gate.top}: an approval"
        " does not cover what is in it."
    )


class _Selection(InventoryManager):
    """Answers patterns about an inventory that is being read."""

    def __init__(self, loader: DataLoader, inventory: t.Any) -> None:
        super().__init__(loader, parse=False)
        self._inventory = inventory


def _limited(loader: DataLoader, inventory: t.Any, limit: t.Any) -> tuple[str, ...] | None:
    if not limit:
        return None
    inventory.reconcile_inventory()
    selection = _Selection(loader, inventory)
    selection.subset(str(limit))
    return tuple(sorted(str.__str__(host.name) for host in selection.get_hosts("all")))


def _tags(arguments: Mapping[str, t.Any], name: str) -> tuple[str, ...]:
    given: Iterable[t.Any] = arguments.get(name) or ()
    # All is what no --tags means; --skip-tags all is another matter.
    return tuple(sorted({str.__str__(tag) for tag in given if tag != "all" or name == "skip_tags"}))
