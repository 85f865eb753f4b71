#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: change
short_description: Request, approve, revoke and review changes of a protected inventory
version_added: 0.3.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Takes one step of a change as one person, with their SSH key. It writes files into the changes of the inventory's
    repository, to be committed and pushed by whoever ran it, and an entry into the trail.
  - P(flowaudit.ops.change_gate#inventory) looks at all of it again before a run begins.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
  - flowaudit.ops.change
attributes:
  check_mode:
    support: full
    details: Signs to see whether it can, and writes nothing.
  diff_mode:
    support: full
    details: Shows the documents; signatures by their files' names.
  idempotent:
    support: partial
    details: A request without an O(id) is a new one each time. Every other step is taken once.
options:
  custody:
    description:
      - Socket of the control node's custody, which then has the trail instead of O(directory). The playbooks take it
        from the settings of P(flowaudit.ops.trail#callback).
    type: path
    default: ""
    version_added: 0.4.0
  state:
    description:
      - What is to be said of the change.
      - V(policy_signed) is about no change; it signs the inventory's policy and allowed signers as they are now, so
        other control nodes accept them.
      - V(break_glass_reviewed) is about no change either; it signs what was found about all uses of a sealed credential
        that nobody has reviewed yet, or joins who has signed it before.
    type: str
    required: true
    choices: [requested, approved, revoked, reviewed, policy_signed, break_glass_reviewed]
  id:
    description:
      - The change, such as V(CHG-2026-0042). With O(state=requested) the next that is free when not given.
    type: str
    default: ""
  person:
    description:
      - Who takes the step, as in the allowed signers; the mail address that Git knows when not given.
    type: str
    default: ""
  key:
    description:
      - Their SSH key, private, or public when an agent or a security key has the private half.
    type: path
    default: ~/.ssh/id_ed25519
  reason:
    description:
      - Why it is revoked, or what the review found. Who joins a review of a sealed credential has nothing to add.
    type: str
    default: ""
  review:
    description:
      - With O(state=break_glass_reviewed), the document that somebody was shown (RV(review) in check mode). If it is
        not what would be signed now, nothing is.
    type: str
    default: ""
    version_added: 0.4.0
  request:
    description:
      - What is requested. Required with O(state=requested).
    type: dict
    suboptions:
      title: {description: [What it is; one line.], type: str, required: true}
      reason: {description: [Why it is needed.], type: str, required: true}
      kind:
        description:
          - V(standard) for playbooks that the policy names, V(emergency) for what cannot wait.
        type: str
        choices: [standard, normal, emergency]
        default: normal
      risk: {description: [How bad it can get.], type: str, choices: [low, medium, high], required: true}
      ticket: {description: [Its number elsewhere.], type: str, default: ""}
      strategy: {description: [How it is deployed, such as V(blue_green).], type: str, default: ""}
      governance: {description: [The rules it is done by.], type: str, default: ""}
      rollback: {description: [How it is taken back; in words.], type: str, required: true}
      rollback_playbook:
        description:
          - The playbook that takes it back; the approval covers it, too, until the change is reviewed.
        type: str
        default: ""
      release:
        description:
          - The release that it is about; unless set, what V(release_id) of its variables names.
        type: str
        default: ""
      digests:
        description:
          - Digests of the release's images; unless set, those in C(group_vars/all/images.lock.yml) of the inventory.
        type: list
        elements: str
        default: []
      staging_run:
        description:
          - The run on staging that shows it works; its proof is taken from the trail in O(directory).
        type: str
        default: ""
      valid_days: {description: [Days until it expires.], type: int, default: 14}
      scope:
        description:
          - What it is about.
        type: dict
        required: true
        suboptions:
          hosts: {description: ["Hosts by name, with V(*) and V(?)."], type: list, elements: str, required: true}
          playbooks:
            description:
              - Playbooks as on the command line; V(ansible) and V(ansible-console) for these commands.
            type: list
            elements: str
            required: true
          variables: {description: [Extra-vars that it runs with.], type: dict, default: {}}
          tags: {description: [Tags that it runs with.], type: list, elements: str, default: []}
          skip_tags: {description: [Tags that it skips.], type: list, elements: str, default: []}
  collection:
    description:
      - Version and digest of this collection on the control node. The action plugin gives it; do not set it.
    type: dict
    suboptions:
      version: {description: [Its version.], type: str, required: true}
      digest: {description: [The digest of what Ansible loads of it.], type: str, required: true}
seealso:
  - module: flowaudit.ops.change_info
  - plugin: flowaudit.ops.change_gate
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Request a change
  flowaudit.ops.change:
    inventory: inventories/production
    state: requested
    request:
      title: Release 1.4.0
      reason: Invoices of the new format are refused.
      risk: medium
      rollback: Switch back to the release before.
      rollback_playbook: flowaudit.ops.rollback
      scope:
        hosts: [nuc1]
        playbooks: [flowaudit.ops.site]
        variables: {release_id: 1.4.0}
  register: requested

- name: Approve one
  flowaudit.ops.change:
    inventory: inventories/production
    state: approved
    id: CHG-2026-0042
    person: bob@example.org
    key: ~/.ssh/id_ed25519.pub
"""

RETURN = r"""
id:
  description: The change.
  type: str
  returned: success
files:
  description: The files that were written; commit and push them.
  type: list
  elements: str
  returned: success
change:
  description: The document of the change, as it is signed.
  type: dict
  returned: when it is about a change
uses:
  description: The uses of a sealed credential that the review is about (C(id), C(seal), C(host), C(at)).
  type: list
  elements: dict
  returned: with O(state=break_glass_reviewed)
review:
  description: The document about them that is signed; empty when there is none to review.
  type: str
  returned: with O(state=break_glass_reviewed)
commands:
  description: What an approver types who does not use Ansible for it.
  type: list
  elements: str
  returned: with O(state=requested)
"""

import dataclasses
import datetime
import json
import os
import pathlib
import sys
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.change import break_glass, gate_file, lifecycle, repository, signature
from ..module_utils.change.gate import Gate, stand
from ..module_utils.custody.client import Custody
from ..module_utils.errors import FlowauditError
from ..module_utils.trail import arguments, canonical, provenance
from ..module_utils.trail.home import Home
from ..module_utils.trail.sqlite import SqliteLog


def _hosts(module: AnsibleModule, path: pathlib.Path) -> list[str]:
    """The hosts of the inventory, as Ansible reads them."""
    command = [sys.executable, "-m", "ansible", "inventory", "-i", str(path), "--list", "--limit", "all"]
    environment = {key: value for key, value in os.environ.items() if key.startswith("ANSIBLE_")}
    status, output, errors = module.run_command(command, environ_update=environment)
    if status != 0:
        raise FlowauditError(f"The hosts of {path} cannot be read: {''.join(errors.strip().splitlines()[-1:])}")
    listed: dict[str, t.Any] = json.loads(output)
    # Variables are listed of hosts that have some.
    with_variables = set(listed.pop("_meta", {}).get("hostvars", ()))
    return sorted(with_variables | {host for group in listed.values() for host in group.get("hosts", ())})


def _step(
    module: AnsibleModule, gate: Gate, path: pathlib.Path, log: SqliteLog | None, custody: Custody | None
) -> tuple[dict[str, t.Any], lifecycle.Step]:
    params, now = module.params, datetime.datetime.now(datetime.UTC)
    person = lifecycle.Person(lifecycle.whoami(gate, params["person"]), params["key"])
    if params["state"] == "policy_signed":
        return {"id": ""}, lifecycle.sign_terms(gate, person)
    if params["state"] == "break_glass_reviewed":
        uses = _uses(gate, log, custody)
        seen = params["review"].encode()
        review, step = lifecycle.review_break_glass(gate, uses, person, params["reason"], now, seen)
        about = [dataclasses.asdict(use) for use in uses if review and use.id in review.uses]
        return {"id": "", "uses": about, "review": review.document.decode() if review else ""}, step
    if params["state"] == "requested":
        wanted = dict(params["request"]) | ({"id": params["id"]} if params["id"] else {})
        proof = b""
        if wanted["staging_run"]:
            if log is None and custody is None:
                raise FlowauditError("There is no trail here that could show the run on staging.")
            if custody is not None:
                proof = b"" if module.check_mode else custody.proof_of(wanted["staging_run"])
            elif log is not None:
                proof = lifecycle.proof_of(log, wanted["staging_run"], sign=not module.check_mode)
        change, step = lifecycle.request(gate, wanted, _hosts(module, path), person, now, proof)
        place = gate.repository.place(change.id)
        sign = f"ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n {signature.APPROVAL} {place / repository.DOCUMENT}"
        keep = f"mkdir -p {place}/approvals && mv {place}/change.json.sig {place}/approvals/you@example.org.sig"
        return {"id": change.id, "change": canonical.decode(change.document), "commands": [sign, keep]}, step
    entries = custody.entries_of(gate.name, params["id"]) if custody is not None else ()
    standing = stand(gate, params["id"], log, remember=not module.check_mode, entries=entries)
    result = {"id": standing.change.id, "change": canonical.decode(standing.change.document)}
    if params["state"] == "approved":
        return result, lifecycle.approve(gate, standing, person, now)
    if params["state"] == "revoked":
        return result, lifecycle.revoke(gate, standing, person, params["reason"], now)
    return result, lifecycle.review(gate, standing, person, params["reason"], now)


def _uses(gate: Gate, log: SqliteLog | None, custody: Custody | None) -> list[break_glass.Use]:
    """The uses of a sealed credential that wait for a review."""
    if custody is not None:
        return [break_glass.Use(**use) for use in custody.uses_of(gate.name)]
    return [] if log is None else break_glass.unreviewed(log, gate.name)


def _remember(gate: Gate, log: SqliteLog | None, custody: Custody | None, change_id: str, state: str) -> None:
    """What was said counts from now on, whatever becomes of the files."""
    if state == "break_glass_reviewed":
        if custody is not None:
            custody.uses_of(gate.name)
        elif log is not None:
            break_glass.remember(log, gate.repository, gate.terms)
    elif custody is not None and change_id:
        custody.entries_of(gate.name, change_id, remember=True)


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Take the step."""
    if not module.params["id"] and module.params["state"] in ("approved", "revoked", "reviewed"):
        raise FlowauditError("Say which change (id), such as CHG-2026-0042.")
    there_already = "" if module.params["state"] == "requested" else module.params["id"]
    path = gate_file.find(module.params["inventory"], there_already)
    code = module.params["collection"]
    gate = gate_file.load(path, (code["version"], code["digest"]) if code else None)
    if not gate.protected:
        raise FlowauditError(f"The inventory {gate.name} is not protected: nothing has to be requested for it.")
    home = Home(module.params["directory"])
    log = None
    custody = Custody(module.params["custody"]) if module.params["custody"] else None
    # In custody the trail is another user's.
    if custody is None and not module.check_mode:
        log = SqliteLog.open_or_create(home, provenance.collection_version())
    elif custody is None and home.database.exists():
        log = SqliteLog(home, read_only=True)
    try:
        result, step = _step(module, gate, path, log, custody)
        if step.needed and not module.check_mode:
            step.take(log)
            _remember(gate, log, custody, step.change_id, module.params["state"])
    finally:
        if custody is not None:
            custody.close()
        if log is not None:
            log.close()
    shown = {
        str(file.relative_to(gate.top)): content.decode("utf-8", "replace") if file.suffix == ".json" else "(signature)"
        for file, content in step.files.items()
    }
    diff = [{"before": "", "after": f"{text}\n", "after_header": name} for name, text in shown.items()]
    return {**result, "changed": step.needed, "files": sorted(shown), "diff": diff}


def main() -> None:
    texts = ("ticket", "strategy", "governance", "rollback_playbook", "release", "staging_run")
    lists: dict[str, t.Any] = {"type": "list", "elements": "str"}
    scope = {
        "hosts": {**lists, "required": True},
        "playbooks": {**lists, "required": True},
        "variables": {"type": "dict", "default": {}},
        "tags": {**lists, "default": []},
        "skip_tags": {**lists, "default": []},
    }
    request = {
        "title": {"type": "str", "required": True},
        "reason": {"type": "str", "required": True},
        "kind": {"type": "str", "choices": ["standard", "normal", "emergency"], "default": "normal"},
        "risk": {"type": "str", "choices": ["low", "medium", "high"], "required": True},
        "rollback": {"type": "str", "required": True},
        "digests": {**lists, "default": []},
        "valid_days": {"type": "int", "default": 14},
        "scope": {"type": "dict", "required": True, "options": scope},
        **{name: {"type": "str", "default": ""} for name in texts},
    }
    collection = {"version": {"type": "str", "required": True}, "digest": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "custody": {"type": "path", "default": ""},
            "inventory": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["requested", "approved", "revoked", "reviewed", "policy_signed", "break_glass_reviewed"],
            },
            "id": {"type": "str", "default": ""},
            "person": {"type": "str", "default": ""},
            "key": {"type": "path", "default": "~/.ssh/id_ed25519", "no_log": False},
            "reason": {"type": "str", "default": ""},
            "review": {"type": "str", "default": ""},
            "request": {"type": "dict", "options": request},
            "collection": {"type": "dict", "options": collection},
        },
        required_if=[("state", "requested", ["request"])],
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except FlowauditError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
