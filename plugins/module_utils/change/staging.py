# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The proof that something ran on staging: two entries of a trail, and that a key which is known has signed for them.

A proof is one line of canonical JSON::

    {"v": 1, "checkpoint": <signed note>, "entries": [{"index": …, "line": …, "proof": [<hash>, …]}, …]}

The entries are the run's ``run.authorized`` and ``run.end`` and, where custody watches who logs in, the first
``session.opened`` on each host; each comes with its inclusion proof (RFC 6962, 2.1.1). What a run says of itself is the
word of who ran it; that its certificate was used on a host is what the host's sshd has said.
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
        FlowauditError: the run was not let begin by a gate, has not ended, or nobody saw it on a host that it
            says it was on.
    """
    rows = entries_of(trail, run)
    shown = [canonical.decode(line.encode()) for _seq, line in rows]
    unseen = _unseen(*_sorted(shown))
    if unseen:
        raise FlowauditError(
            f"No login of the run {run} was seen on {', '.join(unseen)}. If it has just ended, ask again in a minute;"
            " else it was not there, or the host is not watched (journalctl -u flowaudit-watch)."
        )
    signed = trail.add_checkpoint()
    tree = log.tree(trail, checkpoint.parse(signed).size)
    entries = [
        {"index": seq, "line": line, "proof": [hashed.hex() for hashed in tree.inclusion_proof(seq)]}
        for seq, line in rows
    ]
    return canonical.encode({"v": VERSION, "checkpoint": signed, "entries": entries})


def entries_of(trail: SqliteLog, run: str) -> list[tuple[int, str]]:
    """The place and the line of what let a run begin, of its end, and of its first login on each host.

    Raises:
        FlowauditError: the run was not let begin by a gate, or has not ended.
    """
    rows = trail.ask(
        "SELECT seq, type, line FROM entries WHERE run = ? AND type IN (?, ?) ORDER BY seq",
        (run, entry.RUN_AUTHORIZED, entry.RUN_END),
    )
    if [kind for _seq, kind, _line in rows] != [entry.RUN_AUTHORIZED, entry.RUN_END]:
        raise FlowauditError(f"The trail in {trail.home.path} has no run {run} that a gate let begin and that ended.")
    logins = trail.ask(
        "SELECT min(seq), line FROM entries WHERE run = ? AND type = ? GROUP BY host ORDER BY 1",
        (run, entry.SESSION_OPENED),
    )
    return [*((seq, line) for seq, _kind, line in rows), *logins]


def check(proof: bytes, keys: Sequence[note.VerifierKey]) -> StagingRun:
    """What a proof shows.

    Raises:
        FlowauditError: it shows nothing, or none of the keys has signed for it.
    """
    value = canonical.decode(proof)
    try:
        text, _signers = note.verified(value["checkpoint"], note.by_name_and_id(keys))
        signed = checkpoint.parse_text(text)
        started, ended, hosts = _sorted([_entry(item, signed) for item in value["entries"]])
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
            unseen=_unseen(started, ended, hosts),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FlowauditError("The proof of the run on staging has not the form of one.") from error


def _sorted(entries: Sequence[dict[str, t.Any]]) -> tuple[dict[str, t.Any], dict[str, t.Any], set[str]]:
    """Begin and end of a run, and the hosts that somebody logged in to with its certificate.

    Raises:
        FlowauditError: they are other entries, or of more than one run.
    """
    started, ended, *logins = entries
    kinds = [started["type"], ended["type"], *{login["type"] for login in logins}]
    expected = [entry.RUN_AUTHORIZED, entry.RUN_END, *([entry.SESSION_OPENED] if logins else [])]
    if kinds != expected or {item["run"] for item in entries} != {started["run"]}:
        raise FlowauditError("The proof of the run on staging is about other entries than a run's begin and end.")
    return started, ended, {login["host"] for login in logins if login["inventory"] == started["inventory"]}


def _unseen(started: dict[str, t.Any], ended: dict[str, t.Any], seen: set[str]) -> tuple[str, ...]:
    """The hosts that the run says it was on, that were watched, and where nobody logged in.

    A run that says it was on no host shows nothing either.
    """
    if started.get("watched") is None:
        return ()
    watched = set(started["watched"])
    said = watched & set(ended.get("stats", ()))
    # Where custody looks at some hosts, a run on none of these could have been made up.
    return tuple(sorted((said or watched or set(started["hosts"])) - seen))


def _entry(item: dict[str, t.Any], signed: checkpoint.Checkpoint) -> dict[str, t.Any]:
    line = item["line"].encode()
    hashes = [bytes.fromhex(hashed) for hashed in item["proof"]]
    if not merkle.verify_inclusion(merkle.leaf_hash(line), item["index"], signed.size, hashes, signed.root):
        raise FlowauditError("The proof of the run on staging holds an entry that the signed log does not have.")
    return canonical.decode(line)
