# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gate adds to the start of a run: the same hosts in plain YAML, and behind a gate with many changes.

Both are measured in turns, both with the trail on; the play has no task, so nothing but the start is left.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate_file, lifecycle, repository, signature

BIN = pathlib.Path(sys.executable).parent
PEOPLE = ("alice", "bob", "carol", "dave", "erin")


def main() -> None:
    """Make both inventories, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp(prefix="flowaudit-bench-gate-"))
    try:
        change_id = _site(place, options.hosts, options.changes)
        plain: list[float] = []
        gated: list[float] = []
        for turn in range(options.runs + 1):
            pair = (
                _seconds(place, "-i", "../plain.yml"),
                _seconds(place, "-i", "inventories/production", "-e", f"change_id={change_id}", "--check"),
            )
            if turn:  # the first only warms up
                plain.append(pair[0])
                gated.append(pair[1])
    finally:
        shutil.rmtree(place)
    approvals = (len(PEOPLE) - 1) * options.changes
    print(
        f"{options.hosts} hosts, {options.changes} changes, {approvals} approvals, {options.runs} runs, median seconds"
    )
    print(f"  plain YAML, recorded   {statistics.median(plain):.2f}  ({min(plain):.2f} to {max(plain):.2f})")
    print(f"  behind the gate        {statistics.median(gated):.2f}  ({min(gated):.2f} to {max(gated):.2f})")
    print(f"  the gate adds          {statistics.median(gated) - statistics.median(plain):.2f}")


def _site(place: pathlib.Path, hosts: int, changes: int) -> str:
    top = place / "repository"
    (top / "inventories" / "production").mkdir(parents=True)
    inventory = {"all": {"children": {"nuc": {"hosts": {f"h{number:04d}": {} for number in range(hosts)}}}}}
    (place / "plain.yml").write_text(yaml.safe_dump(inventory))
    rule = {"count": len(PEOPLE) - 1}
    policy = {
        "approvals": {"low": rule, "medium": rule, "high": rule},
        "emergency": {"count": 1},
        "roles": {},
        "windows": [{"timezone": "UTC", "begin": "00:00", "duration": 172800, "rule": "FREQ=DAILY"}],
        "freezes": [],
        "maximum_age_days": 30,
    }
    gate = {"plugin": gate_file.PLUGIN, "name": "production", "policy": policy, "inventory": inventory}
    (top / "inventories" / "production" / "gate.yml").write_text(yaml.safe_dump(gate))
    (top / "play.yml").write_text("- name: Nothing\n  hosts: h0000\n  gather_facts: false\n  tasks: []\n")
    configuration = (
        f"[defaults]\ncollections_path = {BIN.parent / 'collections'}\ncallbacks_enabled = flowaudit.ops.trail\n"
    )
    configuration += f"[flowaudit_trail]\ndirectory = {place / 'trail'}\naccept_ephemeral = true\n"
    (top / "ansible.cfg").write_text(configuration)
    signers = []
    for name in PEOPLE:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(command, check=True)
        signers.append(f"{name}@example.org {(place / f'{name}.pub').read_text()}")
    (top / "allowed_signers").write_text("".join(signers))
    identity = ["-c", "user.name=Alice", "-c", "user.email=alice@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "Begin"]):
        subprocess.run(["git", "-C", str(top), *words], check=True)
    request = {
        **{"title": "Nothing", "reason": "To be measured.", "kind": "normal", "risk": "medium", "rollback": "None."},
        **dict.fromkeys(("ticket", "strategy", "governance", "rollback_playbook", "release", "staging_run"), ""),
        **{"digests": [], "valid_days": 14},
        "scope": {"hosts": ["*"], "playbooks": ["play.yml"], "variables": {}, "tags": [], "skip_tags": []},
    }
    opened = gate_file.load(top / "inventories" / "production" / "gate.yml")
    names = [f"h{number:04d}" for number in range(hosts)]
    now = datetime.datetime.now(datetime.UTC)
    change_id = ""
    for _number in range(changes):
        person = lifecycle.Person("alice@example.org", str(place / "alice"))
        change, step = lifecycle.request(opened, request, names, person, now, b"")
        change_id = change.id
        for path, content in step.files.items():
            repository.write(path, content)
        for name in PEOPLE[1:]:
            signed = signature.sign(change.document, str(place / name), signature.APPROVAL)
            repository.write(opened.repository.place(change_id) / "approvals" / f"{name}@example.org.sig", signed)
    return change_id


def _seconds(place: pathlib.Path, *words: str) -> float:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "FLOWAUDIT_"))}
    command = [str(BIN / "ansible-playbook"), "play.yml", *words]
    begun = time.monotonic()
    done = subprocess.run(
        command, check=False, cwd=place / "repository", env=environment, capture_output=True, text=True
    )
    taken = time.monotonic() - begun
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return taken


if __name__ == "__main__":
    main()
