# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: change_gate
short_description: Give out hosts for approved changes only
version_added: 0.3.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - A file C(gate.yml) stands for the inventory. It holds the policy, and the hosts or where they come from. Whoever
    runs something on them names an approved change, C(-e change_id=CHG-2026-0042); without one, or when anything
    differs from what was approved, the command ends with status 1, no host is touched, and the trail has an entry.
  - It binds C(ansible-playbook), C(ansible) and C(ansible-console), and refuses C(ansible-pull).
  - Commands that only show something (C(ansible-inventory), C(--list-hosts), C(--list-tasks), C(--list-tags),
    C(--syntax-check)) need no change.
  - It enables the callback P(flowaudit.ops.trail#callback) for every run.
  - See L(docs/gate.md,https://github.com/flowaudit/ops/blob/main/docs/gate.md) for what it stops and what not.
requirements:
  - ssh-keygen (OpenSSH 8.9 or newer)
  - git
  - python-dateutil
options:
  plugin:
    description:
      - Marks the file as one of this plugin.
    type: str
    required: true
    choices: [flowaudit.ops.change_gate]
  name:
    description:
      - The inventory's name; its changes are in the directory of that name.
    type: str
    required: true
  protected:
    description:
      - Whether runs need an approved change. If not, they are recorded only (a demo).
    type: bool
    default: true
  changes:
    description:
      - Directory of all inventories' changes, from the top of the Git repository.
    type: str
    default: changes
  allowed_signers:
    description:
      - File of who may request and approve, from the top of the Git repository; see C(ssh-keygen(1)), ALLOWED SIGNERS.
    type: str
    default: allowed_signers
  policy:
    description:
      - How many approve which change, when changes may run, and what else is asked. Required when O(protected=true).
    type: dict
    suboptions:
      approvals:
        description:
          - For each risk (V(low), V(medium), V(high)) C(count) persons, and C(roles) of which one has to be among them.
        type: dict
        required: true
      emergency:
        description:
          - The same for emergency changes.
        type: dict
        required: true
      roles:
        description:
          - Persons by role, under their names in O(allowed_signers).
        type: dict
        required: true
      windows:
        description:
          - When changes may run, each with C(name), C(timezone), C(begin) (V(02:00)), C(duration) (seconds), C(rule)
            (RFC 5545, V(FREQ=MONTHLY;BYDAY=1SU)) and, where the rule counts from somewhere, C(since). With an empty
            list, always.
        type: list
        elements: dict
        required: true
      freezes:
        description:
          - When they may not, each with C(name), C(start) and C(end) (RFC 3339).
        type: list
        elements: dict
        required: true
      maximum_age_days:
        description:
          - Days from the request of a change to the start of its last run.
        type: int
        required: true
      staging:
        description:
          - Name of the inventory on which a normal change has to have run well before.
        type: str
      staging_age_days:
        description:
          - Days that such a run counts.
        type: int
        default: 14
      review_within_days:
        description:
          - Days within which an emergency change is reviewed; while one is overdue, normal changes do not run.
        type: int
        default: 5
      standard:
        description:
          - Playbooks that standard changes may name.
        type: list
        elements: str
        default: []
      default_duration_minutes:
        description:
          - How long a run may take whose playbook does not say so (C(runbook.max_duration)).
        type: int
        default: 60
      environment:
        description:
          - Environment variables C(ANSIBLE_…) and C(FLOWAUDIT_…) that an operator may set beside the harmless ones.
        type: list
        elements: str
        default: []
  staging_keys:
    description:
      - Verifier keys of the trails whose runs on staging count; C(flowaudit.ops.trail_verify) shows them.
    type: list
    elements: str
    default: []
  inventory:
    description:
      - The hosts, as in an inventory of YAML.
    type: dict
  sources:
    description:
      - Where hosts come from, too. C(path) is a file in the repository that another inventory plugin reads;
        C(terraform) is a file with the output of C(terraform output -json), of which C(output) names a map of hosts
        to their variables (C(groups) lists their groups).
    type: list
    elements: dict
"""

EXAMPLES = r"""
# inventories/production/gate.yml
plugin: flowaudit.ops.change_gate
name: production
policy:
  approvals:
    low: {count: 1}
    medium: {count: 2}
    high: {count: 2, roles: [security]}
  emergency: {count: 1}
  roles:
    security: [carol@example.org]
  windows:
    - {name: monthly, timezone: Europe/Berlin, begin: "02:00", duration: 7200, rule: FREQ=MONTHLY;BYDAY=1SU}
  freezes:
    - {name: end of the year, start: "2026-12-18T00:00:00+01:00", end: "2027-01-04T00:00:00+01:00"}
  maximum_age_days: 30
  staging: staging
inventory:
  all:
    children:
      nuc:
        hosts:
          nuc1: {ansible_host: 192.0.2.10}
sources:
  - path: infrastructure/more_hosts.yml
  - terraform: infrastructure/output.json
    output: ansible_hosts
"""

import dataclasses
import datetime
import json
import os
import pathlib
import typing as t

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.inventory.yaml import InventoryModule as YamlInventory
from ansible.plugins.loader import callback_loader
from ansible.utils.vars import load_extra_vars

from ..module_utils.change import authorization, gate, gate_file, policy, tree
from ..module_utils.change.policy import Refusal
from ..module_utils.custody import client, request
from ..module_utils.custody.protocol import Refused
from ..module_utils.errors import FlowauditError
from ..plugin_utils import command, credential, denial, trail_settings
from ..plugin_utils.trail_settings import CALLBACK as TRAIL

_GUARD = "flowaudit.ops.change_guard"
_OUT_OF_SCOPE = "flowaudit.ops.out_of_scope"


class InventoryModule(YamlInventory):
    """Reads the hosts, then asks whether the command may have them."""

    NAME = "flowaudit.ops.change_gate"

    def verify_file(self, path: str) -> bool:
        return os.path.basename(path) in gate_file.NAMES

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        self.inventory, self.loader = inventory, loader
        try:
            opened = gate_file.load(pathlib.Path(path))
            self._populate(loader.load_from_file(path, cache="none", trusted_as_template=True), opened)
            if not command.lists_only(context.CLIARGS):
                self._ask(opened, os.path.realpath(path))
        except Exception as error:
            # Whatever it is: Ansible would warn, keep the hosts that are there already, and go on.
            known = isinstance(error, FlowauditError | AnsibleError)
            why = str(error) if known else f"{type(error).__name__}, a fault of {self.NAME}."
            denial.deny("", {}, "", [Refusal("gate", f"The gate {path} lets nobody through: {why}", "")])

    # ── Hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _populate(self, value: t.Any, opened: gate.Gate) -> None:
        for name, group in (value.get("inventory") or {}).items():
            self._parse_group(name, group)
        for source in value.get("sources") or []:
            keys = set(source) if isinstance(source, dict) else set()
            if keys == {"path"}:
                self._read_inventory(self._file(opened, source["path"]))
            elif keys == {"terraform", "output"}:
                self._read_terraform(self._file(opened, source["terraform"]), str(source["output"]))
            else:
                raise FlowauditError("each of sources has path, or terraform and output.")
        if not self.inventory.hosts:
            raise FlowauditError("it has no host.")

    @staticmethod
    def _file(opened: gate.Gate, written: t.Any) -> str:
        path = opened.top / str(written)
        if not path.is_file() or not tree.covers(opened.top, path, [opened.changes]):
            raise FlowauditError(f"the source {written} is no file of the repository {opened.top}.")
        return str(path)

    def _read_inventory(self, path: str) -> None:
        read = InventoryManager(loader=self.loader, sources=[path])
        if not read.hosts:
            raise FlowauditError(f"the source {path} has no host, or no inventory plugin that is enabled can read it.")
        for name, group in read.groups.items():
            self.inventory.add_group(name)
            for key, value in group.vars.items():
                self.inventory.set_variable(name, key, value)
        for name, host in read.hosts.items():
            self.inventory.add_host(name)
            for key, value in host.vars.items():
                if key not in ("inventory_file", "inventory_dir"):
                    self.inventory.set_variable(name, key, value)
        for name, group in read.groups.items():
            for child in group.child_groups:
                if name != "all":
                    self.inventory.add_child(name, child.name)
            for host in group.hosts:
                if name not in ("all", "ungrouped"):
                    self.inventory.add_child(name, host.name)

    def _read_terraform(self, path: str, output: str) -> None:
        try:
            hosts = json.loads(pathlib.Path(path).read_bytes())[output]["value"]
            for name, variables in hosts.items():
                self.inventory.add_host(name)
                for group in variables.get("groups", []):
                    self.inventory.add_group(group)
                    self.inventory.add_child(group, name)
                for key, value in variables.items():
                    if key != "groups":
                        self.inventory.set_variable(name, key, value)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FlowauditError(
                f"{path} has no output {output} that maps hosts to their variables (terraform output -json)."
            ) from error

    # ── The question ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, opened: gate.Gate, path: str) -> None:
        granted = authorization.granted_by(path)
        if granted is None:
            if opened.protected:
                tree.drop_bytecode(opened.top, [opened.changes])
            granted = self._judged(opened)
            authorization.grant(granted, path, opened.code)
            self._load_callbacks()
        # Also when a task has the inventory read again.
        if granted.hosts is not None:
            for name in set(self.inventory.hosts) - granted.hosts:
                self.inventory.set_variable(name, "ansible_connection", _OUT_OF_SCOPE)
        for name in granted.hosts or self.inventory.hosts:
            for key, value in credential.variables().items():
                self.inventory.set_variable(name, key, value)

    def _judged(self, opened: gate.Gate) -> authorization.Authorization:
        rules = policy.parse(opened.terms.rules) if opened.protected else None
        wanted = command.read(opened, rules, context.CLIARGS, self.loader, load_extra_vars(self.loader), self.inventory)
        if socket := trail_settings.setting("custody"):
            return self._judged_by_custody(socket, opened, wanted)
        fields = {"command": wanted.program, "playbooks": wanted.playbooks}
        try:
            with denial.trail() as log:
                granted = gate.judge(opened, wanted, log, datetime.datetime.now(datetime.UTC))
        except gate.Denied as denied:
            denial.deny(opened.name, fields, wanted.change_id, denied.refusals)
        except FlowauditError as error:
            denial.deny(opened.name, fields, wanted.change_id, [Refusal("trail", str(error), "")])
        self._show(granted)
        return granted

    def _judged_by_custody(self, socket: str, opened: gate.Gate, wanted: gate.Command) -> authorization.Authorization:
        custody = client.of_this_process(socket)
        # Custody does not ask Git, for which the repository is another user's.
        if opened.protected and tree.uncommitted(opened.top, opened.changes):
            wanted = dataclasses.replace(wanted, problems=(*wanted.problems, policy.DIRTY))
        try:
            answer = custody.authorize(opened.name, request.write(wanted), sorted(map(str, self.inventory.hosts)))
        except Refused as refused:
            # Recorded where it was said.
            denial.say([Refusal(*item) for item in refused.refusals] or [Refusal("custody", str(refused), "")])
            raise SystemExit(1) from refused
        hosts = answer["hosts"]
        granted = authorization.Authorization(
            answer["inventory"],
            answer["change_id"],
            None if hosts is None else frozenset(hosts),
            answer["fields"],
            flags=answer["flags"],
            run=answer["run"],
        )
        credential.use(custody.credential)
        self._show(granted)
        return granted

    def _show(self, granted: authorization.Authorization) -> None:
        for flag in granted.flags:
            self.display.warning(flag)

    @staticmethod
    def _load_callbacks() -> None:
        for name in (_GUARD, TRAIL):
            if callback_loader.get(name, class_only=True) is None:
                raise FlowauditError(f"the callback {name} cannot be loaded.")
        # The guard first: what it refuses is not begun.
        others = [name for name in constants.CALLBACKS_ENABLED if name != _GUARD]
        constants.CALLBACKS_ENABLED = [_GUARD, *others, *([] if TRAIL in others else [TRAIL])]
        constants.DEFAULT_LOAD_CALLBACK_PLUGINS = True  # also for ansible and ansible-console
