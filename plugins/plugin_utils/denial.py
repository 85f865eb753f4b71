# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stops a run: says why, records it, ends the process."""

from __future__ import annotations

import contextlib
import re
import typing as t
from collections.abc import Mapping, Sequence

from ansible.utils.display import Display

from ..module_utils.change.gate import Command
from ..module_utils.change.policy import Refusal
from ..module_utils.custody import request
from ..module_utils.custody.client import of_this_process
from ..module_utils.errors import FlowauditError
from ..module_utils.trail import entry, provenance, redact
from ..module_utils.trail.home import Home
from ..module_utils.trail.sqlite import SqliteLog
from . import trail_settings

_CHANGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@contextlib.contextmanager
def trail() -> t.Iterator[SqliteLog]:
    """The log that this control node records in.

    Raises:
        FlowauditError: it cannot be opened.
    """
    home = Home(trail_settings.setting("directory"))
    log = SqliteLog.open_or_create(home, provenance.collection_version(), trail_settings.setting("name"))
    try:
        yield log
    finally:
        log.close()


def deny(inventory: str, fields: Mapping[str, t.Any], change_id: str, refusals: Sequence[Refusal]) -> t.NoReturn:
    """End this process: status 1, one sentence a reason, an entry ``run.denied``."""
    say(refusals)
    try:
        _record(inventory, fields, change_id, refusals)
    except Exception as error:
        why = str(error) if isinstance(error, FlowauditError) else type(error).__name__
        with contextlib.suppress(Exception):
            Display().error(f"That it was refused could not be recorded: {why}", wrap_text=False)
    # No exception: Ansible would take one for an inventory that cannot be read, and go on with others.
    raise SystemExit(1)


def say(refusals: Sequence[Refusal]) -> None:
    """Tell the person why; also when nobody can be told, because the other end of the pipe is gone."""
    with contextlib.suppress(Exception):
        for refusal in refusals:
            Display().error(redact.redacted(str(refusal), prose=True), wrap_text=False)


def _record(inventory: str, fields: Mapping[str, t.Any], change_id: str, refusals: Sequence[Refusal]) -> None:
    if socket := trail_settings.setting("custody"):
        command = Command(
            fields.get("command", ""), tuple(fields.get("playbooks", ())), change_id, problems=tuple(refusals)
        )
        of_this_process(socket).ask({"do": "deny", "inventory": inventory, "command": request.write(command)})
        return
    actor = provenance.actor()
    draft: entry.Draft = {
        "type": entry.RUN_DENIED,
        "ts": entry.timestamp(),
        "inventory": inventory,
        "command": fields.get("command", ""),
        "playbooks": [redact.redacted(name) for name in fields.get("playbooks", ())],
        "reasons": sorted({refusal.code for refusal in refusals}),
        "node": provenance.node(),
        "actor": actor.commitment,
    }
    if _CHANGE_ID.fullmatch(change_id):
        draft["chg"] = change_id
    with trail() as log:
        log.append([draft], [actor])
