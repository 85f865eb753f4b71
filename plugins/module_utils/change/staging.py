# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof that something ran on staging: two entries of a trail, and that a key which is known has signed for them.

A proof is one line of canonical JSON::

    {"v": 1, "checkpoint": <signed note>, "entries": [{"index": …, "line": …, "proof": [<hash>, …]}, …]}

The entries are the run's ``run.authorized`` and ``run.end``; each comes with its inclusion proof (RFC 6962, 2.1.1).
"""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from ..trail import canonical, checkpoint, entry, log, merkle, note
from ..trail.sqlite import SqliteLog
from . import window
from .model import Code
from .policy import StagingRun

VERSION = 1


def prove(trail: SqliteLog, run: str) -> bytes:
    """The proof of a run; signs the log.

    Raises:
        FlowauditError: the run was not let begin by a gate, or has not ended.
    """
    rows = entries_of(trail, run)
    signed = trail.add_checkpoint()
    tree = log.tree(trail, checkpoint.parse(signed).size)
    entries = [
        {"index": seq, "line": line, "proof": [hashed.hex() for hashed in tree.inclusion_proof(seq)]}
        for seq, line in rows
    ]
    return canonical.encode({"v": VERSION, "checkpoint": signed, "entries": entries})


def entries_of(trail: SqliteLog, run: str) -> list[tuple[int, str]]:
    """The place and the line of what let a run begin, and of its end.

    Raises:
        FlowauditError: the run was not let begin by a gate, or has not ended.
    """
    rows = trail.ask(
        "SELECT seq, type, line FROM entries WHERE run = ? AND type IN (?, ?) ORDER BY seq",
        (run, entry.RUN_AUTHORIZED, entry.RUN_END),
    )
    if [kind for _seq, kind, _line in rows] != [entry.RUN_AUTHORIZED, entry.RUN_END]:
        raise FlowauditError(f"The trail in {trail.home.path} has no run {run} that a gate let begin and that ended.")
    return [(seq, line) for seq, _kind, line in rows]


def check(proof: bytes, keys: Sequence[note.VerifierKey]) -> StagingRun:
    """What a proof shows.

    Raises:
        FlowauditError: it shows nothing, or none of the keys has signed for it.
    """
    value = canonical.decode(proof)
    try:
        text, _signers = note.verified(value["checkpoint"], note.by_name_and_id(keys))
        signed = checkpoint.parse_text(text)
        started, ended = (_entry(item, signed) for item in value["entries"])
        if (started["type"], ended["type"]) != (entry.RUN_AUTHORIZED, entry.RUN_END) or started["run"] != ended["run"]:
            raise FlowauditError("The proof of the run on staging is about other entries than a run's begin and end.")
        if "document" not in started:
            raise FlowauditError("The proof is of a run on an inventory that is not protected.")
        return StagingRun(
            run=started["run"],
            inventory=started["inventory"],
            playbooks=tuple(started["playbooks"]),
            # Nothing is shown by a run that only said what it would do.
            succeeded=ended["status"] == "ok" and started["check"] is False,
            ended_at=window.parse_moment("ts", ended["ts"]),
            digests=tuple(started["digests"]),
            code=Code(**started["code"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FlowauditError("The proof of the run on staging has not the form of one.") from error


def _entry(item: dict[str, t.Any], signed: checkpoint.Checkpoint) -> dict[str, t.Any]:
    line = item["line"].encode()
    hashes = [bytes.fromhex(hashed) for hashed in item["proof"]]
    if not merkle.verify_inclusion(merkle.leaf_hash(line), item["index"], signed.size, hashes, signed.root):
        raise FlowauditError("The proof of the run on staging holds an entry that the signed log does not have.")
    return canonical.decode(line)
