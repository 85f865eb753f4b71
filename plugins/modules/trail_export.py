#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_export
short_description: Export evidence from the trail that anybody can check
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Writes a package for a third party, of the whole log or of the entries of a run, a change, a time or a range, with
    checkpoints, proofs, public keys, checksums, a README in German and English, and a small program that checks it.
  - It can be checked without this collection, by the commands in its README (bash, C(openssl) 3.0 or newer, C(jq)) or
    by its program (Python 3.8 or newer, C(openssl)).
  - The log is verified before, and the package after it was written; what does not hold is not handed out.
  - Entries behind the newest checkpoint are signed by nobody yet and left out; with O(sign) there are none.
  - The same log and the same options make the same package, byte for byte.
extends_documentation_fragment:
  - flowaudit.ops.trail
options:
  dest:
    description:
      - Where to write it. A name that ends in C(.tar.gz) or C(.tgz) makes one file, any other a directory. It appears
        when it is whole, readable by its user alone.
    type: path
    required: true
  force:
    description:
      - Replace another package that is there already.
    type: bool
    default: false
  run:
    description:
      - Only the entries of this run.
    type: str
    default: ""
  change_id:
    description:
      - Only the entries of this change.
    type: str
    default: ""
  since:
    description:
      - Only entries from then on, as V(2026-03-01), V(2026-03-01T14:00:00Z), or how long ago (V(24h), V(7d), V(2w)).
    type: str
    default: ""
  until:
    description:
      - Only entries before then, written like O(since).
    type: str
    default: ""
  first:
    description:
      - Only entries from this number on.
    type: int
  last:
    description:
      - Only entries up to this number.
    type: int
  anchors:
    description:
      - Where others keep checkpoints of the log, as of M(flowaudit.ops.trail_verify). They go into the package.
    type: list
    elements: path
    default: []
  timestamp_ca:
    description:
      - Certificates (PEM) of the time-stamping authority. With them the timestamps go into the package.
    type: path
    default: ""
  trusted_keys:
    description:
      - Keys the log may have begun with, as of M(flowaudit.ops.trail_verify).
    type: list
    elements: str
    default: []
  archive_directory:
    description:
      - Directory of the archive files; entries that were archived are then exported too.
    type: path
    default: ""
  openings:
    description:
      - Also disclose the values that the exported entries only commit to (who ran it, diffs). They are personal data.
    type: bool
    default: false
  sign:
    description:
      - First sign the log as it is. It needs the signing key; say V(false) to export somebody else's log.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Verifies the log and says whether a package would be written; signs and writes nothing.
  diff_mode:
    support: none
    description: There is nothing to compare.
seealso:
  - module: flowaudit.ops.trail_verify
"""

EXAMPLES = r"""
- name: Hand the whole log to the auditor
  flowaudit.ops.trail_export:
    dest: /srv/evidence/2026-q1.tar.gz
    anchors: [/srv/worm/trail]

- name: Show what was done for a change, and by whom
  flowaudit.ops.trail_export:
    dest: /srv/evidence/CHG-2026-0042
    change_id: CHG-2026-0042
    openings: true
"""

RETURN = r"""
package:
  description: Where the package is, or in check mode would be.
  type: str
  returned: success
origin:
  description: Name of the log.
  type: str
  returned: success
size:
  description: Entries that its newest checkpoint covers.
  type: int
  returned: when a package was made
root:
  description: Merkle root over these (SHA-256, hex).
  type: str
  returned: when a package was made
entries:
  description: Entries in the package.
  type: int
  returned: when a package was made
without_bytes:
  description: Entries of which it holds the hash only, because they were archived or deleted.
  type: int
  returned: when a package was made
checkpoints:
  description: Checkpoints in the package.
  type: int
  returned: when a package was made
anchors:
  description: Checkpoints kept by others in the package.
  type: int
  returned: when a package was made
openings:
  description: Values in the package that entries commit to.
  type: int
  returned: when a package was made
unsigned:
  description: Entries that were left out because nobody has signed them yet.
  type: int
  returned: when a package was made
"""

import dataclasses
import pathlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.errors import FlowauditError
from ..module_utils.trail import arguments, check_evidence, checkpoint, evidence, note, query
from ..module_utils.trail.sqlite import SqliteLog


def run(log: SqliteLog, parameters: dict[str, t.Any], check_mode: bool, scratch: str) -> dict[str, t.Any]:
    """What the module returns; ``scratch`` is where check mode may write.

    Raises:
        FlowauditError: the log does not hold, nothing fits, or the package cannot be written.
    """
    dest = pathlib.Path(parameters["dest"])
    if not dest.parent.is_dir():
        raise FlowauditError(f"There is no directory {dest.parent} to write the evidence to; make it.")
    kept = evidence.read_anchors(parameters["anchors"], log.origin, parameters["timestamp_ca"])
    kept += evidence.read_timestamps(log, parameters["timestamp_ca"])
    trusted = [note.parse_key(key) for key in parameters["trusted_keys"]]
    with query.snapshot(log):
        demand(log, kept, trusted, parameters["archive_directory"], selects=not selection(parameters).whole)
    told: dict[str, t.Any] = {"package": str(dest), "origin": log.origin}
    signed = max((checkpoint.parse(text).size for text in log.checkpoints()), default=0)
    signs = parameters["sign"] and log.size() > signed
    if check_mode and (signs or not dest.exists()):
        return told | {"changed": True}
    if signs:
        log.add_checkpoint()
    wishes = evidence.Wishes(
        selection(parameters), parameters["openings"], parameters["archive_directory"], parameters["timestamp_ca"]
    )
    with evidence.scratch(pathlib.Path(scratch) if check_mode else dest.parent, dest.name) as place:
        made = place / "package"
        made.mkdir(mode=0o700)
        with query.snapshot(log):
            summary = evidence.write(log, made, wishes, kept)
            told |= dataclasses.asdict(summary) | {"unsigned": log.size() - summary.size}
        check(made, parameters)
        if evidence.is_archive(dest):
            evidence.pack(made, place / "archive")
            made = place / "archive"
        written = not (dest.exists() and evidence.same(made, dest))
        if written and not check_mode:
            evidence.deliver(made, dest, force=parameters["force"])
    return told | {"changed": written or signs}


def selection(parameters: dict[str, t.Any]) -> evidence.Selection:
    """Which entries are wanted."""
    moments = [query.moment(parameters[name]) if parameters[name] else "" for name in ("since", "until")]
    return evidence.Selection(
        parameters["run"], parameters["change_id"], query.Period(*moments), parameters["first"], parameters["last"]
    )


def demand(
    log: SqliteLog,
    kept: list[evidence.Kept],
    trusted: list[note.VerifierKey],
    archive_directory: str,
    selects: bool,
) -> None:
    """See that the log holds; what is wrong must not be signed."""
    finding = evidence.prove(log, kept, trusted, archive_directory).report.finding
    if finding is not None:
        raise FlowauditError(
            f"The trail in {log.home.path} does not hold, so nothing was exported. {finding.message} The playbook"
            " trail_verify says more."
        )
    # Entries are selected through indexes.
    if selects and (damage := log.damage()):
        raise FlowauditError(f"SQLite finds the file of the trail in {log.home.path} damaged: {damage}.")


def check(made: pathlib.Path, parameters: dict[str, t.Any]) -> None:
    """See that the package holds, as its reader will."""
    try:
        check_evidence.check(
            str(made), parameters["trusted_keys"], parameters["timestamp_ca"], signed=evidence.is_signed
        )
    except (check_evidence.Wrong, check_evidence.CannotCheck) as error:
        raise FlowauditError(f"The package would not hold, so nothing was exported: {error}") from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "dest": {"type": "path", "required": True},
            "force": {"type": "bool", "default": False},
            "run": {"type": "str", "default": ""},
            "change_id": {"type": "str", "default": ""},
            "since": {"type": "str", "default": ""},
            "until": {"type": "str", "default": ""},
            "first": {"type": "int"},
            "last": {"type": "int"},
            "anchors": {"type": "list", "elements": "path", "default": []},
            "timestamp_ca": {"type": "path", "default": ""},
            "trusted_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "archive_directory": {"type": "path", "default": ""},
            "openings": {"type": "bool", "default": False},
            "sign": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    with arguments.opened(module, read_only=not module.params["sign"]) as log:
        told = run(log, module.params, module.check_mode, module.tmpdir)
    module.exit_json(**told)


if __name__ == "__main__":
    main()
