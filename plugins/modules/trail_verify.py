#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_verify
short_description: Prove the trail whole, or name the first entry that is not
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads every entry of a log and compares it with its hash, with the entry before it, with each signed checkpoint of
    the log, and with each checkpoint that somebody else keeps (O(anchors)).
  - Fails when anything does not hold, and names the entry.
  - A log alone cannot show that its end was cut off or that the holder of its key wrote it anew; O(anchors) can. And
    the key a log names itself may be a forger's; O(trusted_keys) can tell. Without them it warns.
  - Reading is enough. A log of another user, on read-only storage or without its signing key is verified just the same.
extends_documentation_fragment:
  - flowaudit.ops.trail
options:
  evidence:
    description:
      - Directory of an unpacked evidence package of M(flowaudit.ops.trail_export), to be verified instead of a log.
        It needs the command C(openssl) when there are timestamps in it.
    type: path
  anchors:
    description:
      - Where others keep checkpoints of the log.
      - Directories with files C(*.checkpoint) (a WORM directory), such files, or what a syslog server has written
        (text, also gzipped as C(.gz)).
    type: list
    elements: path
    default: []
  timestamp_ca:
    description:
      - Certificates (PEM) that the timestamps of a time-stamping authority are verified against; those beside the
        log and beside the checkpoints of O(anchors) then have to hold.
    type: path
    default: ""
  trusted_keys:
    description:
      - Keys the log may have begun with, as C(name+id+key), got by another way than with the log. The keys after it
        are proved by the ones before.
    type: list
    elements: str
    default: []
  archive_directory:
    description:
      - Directory of the archive files of M(flowaudit.ops.trail_retention); archived entries are then verified with
        their bytes, and a file that is missing fails.
    type: path
    default: ""
  close_dead_runs:
    description:
      - First record the runs as aborted whose process is gone. Without permission to write it is left out.
    type: bool
    default: true
  indexes:
    description:
      - Also have SQLite compare its indexes with the entries. Questions and exports are answered through them. It takes
        about as long as the rest.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Verifies, and closes no run; says whether it would.
  diff_mode:
    support: none
    description: There is nothing to compare.
"""

EXAMPLES = r"""
- name: Verify the trail against what others keep of it
  flowaudit.ops.trail_verify:
    anchors:
      - /srv/worm/trail
      - /var/log/siem/trail.log
    trusted_keys: control-1/trail/5f0c2b1a+a1b2c3d4+AdeiwMfdvx1L2D5YI4pB0cT6vvDZa0gB0T2w3mGx9GyL

- name: Verify evidence that somebody handed over
  flowaudit.ops.trail_verify:
    evidence: /tmp/flowaudit-evidence
"""

RETURN = r"""
msg:
  description: What was proved, or what does not hold and from which entry on.
  type: str
  returned: always
origin:
  description: Name of the log.
  type: str
  returned: always
size:
  description: Entries that were read.
  type: int
  returned: always
root:
  description: Merkle root over them (SHA-256, hex).
  type: str
  returned: success
trusted:
  description: Whether the key is one of O(trusted_keys); if not, it was taken from the log itself.
  type: bool
  returned: always
keys:
  description: The keys of the log, the first one first.
  type: list
  elements: str
  returned: always
checkpoints:
  description: Number of checkpoints in the log, all of which hold.
  type: int
  returned: success
anchors:
  description: Number of checkpoints kept by others, all of which hold.
  type: int
  returned: success
signed_size:
  description: Entries that the newest checkpoint covers.
  type: int
  returned: success
anchored_size:
  description: Entries that the newest checkpoint of others covers.
  type: int
  returned: success
unsigned:
  description: Entries behind the newest checkpoint; they are chained, and signed by nobody yet.
  type: int
  returned: success
archived:
  description: Entries whose bytes are in archive files that were not read.
  type: int
  returned: success
pruned:
  description: Entries whose bytes were deleted when their time was over; their hashes verify.
  type: int
  returned: success
closed_runs:
  description: Ids of the runs that were, or in check mode would be, recorded as aborted.
  type: list
  elements: str
  returned: for a log
open_runs:
  description: Runs without an end, and whether their process lives (none when that cannot be told).
  type: list
  elements: dict
  returned: for a log that holds
aborted_runs:
  description: The last 50 runs that were aborted, the newest first.
  type: list
  elements: dict
  returned: for a log that holds
first:
  description: First entry that may be wrong; what comes before it is proved.
  type: int
  returned: when a log does not hold
last:
  description: The first wrong entry is not behind this one.
  type: int
  returned: when a log does not hold
seconds:
  description: Time it took.
  type: float
  returned: always
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.errors import FlowauditError
from ..module_utils.trail import arguments, check_evidence, evidence, note, query
from ..module_utils.trail.home import Home
from ..module_utils.trail.run import close_dead_runs, open_runs
from ..module_utils.trail.sqlite import SqliteLog

_ABORTED = 50  # runs that are told of


def verify_evidence(parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the module returns for a package.

    Raises:
        FlowauditError: it does not hold, or cannot be verified.
    """
    path = parameters["evidence"]
    try:
        proved = check_evidence.check(path, parameters["trusted_keys"], parameters["timestamp_ca"], evidence.is_signed)
    except check_evidence.Wrong as wrong:
        raise FlowauditError(f"The evidence in {path} does not hold: {wrong}") from wrong
    except check_evidence.CannotCheck as error:
        raise FlowauditError(f"The evidence in {path} cannot be verified: {error}") from error
    names = ("origin", "size", "root", "trusted", "keys", "checkpoints", "anchors", "anchored_size")
    told = {name: proved[name] for name in names}
    return told | {
        "changed": False,
        "msg": " ".join(check_evidence.told(proved)[: 1 if proved["whole"] else 3]),
        "signed_size": proved["size"],
        "unsigned": 0,
        "archived": 0,
        "pruned": proved["without_bytes"],
    }


def verify_log(log: SqliteLog, parameters: dict[str, t.Any], check_mode: bool, writable: bool) -> dict[str, t.Any]:
    """What the module returns for a log; ``failed`` when it does not hold.

    Raises:
        FlowauditError: the log or an anchor cannot be read.
    """
    closed: list[str] = []
    if parameters["close_dead_runs"] and not check_mode and writable:
        closed = close_dead_runs(log)
    elif parameters["close_dead_runs"] and writable:
        closed = [run for run in open_runs(log) if query.is_alive(log.home, run) is False]
    trusted = [note.parse_key(key) for key in parameters["trusted_keys"]]
    with query.snapshot(log):
        authority = parameters["timestamp_ca"]
        kept = evidence.read_anchors(parameters["anchors"], log.origin, authority)
        kept += evidence.read_timestamps(log, authority)
        proof = evidence.prove(log, kept, trusted, parameters["archive_directory"])
        report, finding = proof.report, proof.report.finding
        told = {
            "changed": bool(closed),
            "closed_runs": closed,
            "origin": report.origin,
            "size": report.size,
            "trusted": bool(trusted),
            "keys": [str(key) for key in report.keys],
        }
        if finding is not None:
            proved = f"The {finding.first} entries before are proved." if finding.first else "No entry is proved."
            message = f"The trail in {log.home.path} does not hold. {finding.message} {proved}"
            runbook = "docs/runbooks/trail_verify.md has what to do."
            return told | {
                "failed": True,
                "msg": f"{message} {runbook}",
                "first": finding.first,
                "last": finding.last,
            }
        if parameters["indexes"] and (damage := log.damage()):
            message = f"The entries of the trail in {log.home.path} hold, but SQLite finds its file damaged: {damage}."
            return told | {"failed": True, "msg": f"{message} Restore it from its backup."}
        return told | {
            "msg": f"The trail in {log.home.path} holds: {report.size} entries, {report.signed_size} of them signed,"
            f" {report.anchored_size} anchored.",
            "root": report.root.hex(),
            "checkpoints": report.checkpoints,
            "anchors": report.anchors,
            "signed_size": report.signed_size,
            "anchored_size": report.anchored_size,
            "unsigned": report.size - max(report.signed_size, report.anchored_size),
            "archived": proof.archived,
            "pruned": proof.deleted,
            "open_runs": [{"run": run, "alive": query.is_alive(log.home, run)} for run in open_runs(log)],
            "aborted_runs": aborted_runs(log),
        }


def aborted_runs(log: SqliteLog) -> list[dict[str, t.Any]]:
    """The last runs that were aborted, in short."""
    names = ("run", "seq", "started", "ended", "reason", "playbook", "user", "change_id", "tasks_in_flight")
    page = query.runs(log, query.RunFilter(status="aborted"), _ABORTED)
    return [{name: item.get(name) for name in names} for item in page.items]


def warnings(told: dict[str, t.Any]) -> list[str]:
    """What the result does not prove."""
    found = []
    if not told["trusted"]:
        found.append(
            "The key was taken from the trail itself; give trusted_keys, or compare the key with the one that is"
            " written down elsewhere: a forger's trail holds too."
        )
    if not told.get("anchors"):
        found.append(
            "It was compared with no checkpoint that somebody else keeps (anchors), so the holder of its key could have"
            " cut it off or written it anew."
        )
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "evidence": {"type": "path"},
            "anchors": {"type": "list", "elements": "path", "default": []},
            "timestamp_ca": {"type": "path", "default": ""},
            "trusted_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "archive_directory": {"type": "path", "default": ""},
            "close_dead_runs": {"type": "bool", "default": True},
            "indexes": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    begun = time.monotonic()
    if module.params["evidence"]:
        try:
            told = verify_evidence(module.params)
        except FlowauditError as error:
            module.fail_json(msg=str(error))
    else:
        writable = os.access(Home(module.params["directory"]).database, os.W_OK)
        with arguments.opened(module, read_only=not writable) as log:
            told = verify_log(log, module.params, module.check_mode, writable)
    told["seconds"] = round(time.monotonic() - begun, 3)
    if told.get("failed"):
        module.fail_json(**told)
    for warning in warnings(told):
        module.warn(warning)
    module.exit_json(**told)


if __name__ == "__main__":
    main()
