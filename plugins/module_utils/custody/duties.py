# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What custody does by the clock, as the same user but outside of the service, which has no network."""

from __future__ import annotations

import contextlib
import datetime

from ..change import gate as gates
from ..change import gate_file, policy, trust
from ..errors import FlowauditError
from ..trail import anchors, publish
from ..trail.home import Home
from ..trail.sqlite import SqliteLog
from .settings import Settings


def anchor(settings: Settings) -> list[anchors.Outcome]:
    """Sign the trail, tell its anchors, ship what the shared database lacks; returns what each said.

    Raises:
        FlowauditError: there is no trail, or it cannot be signed.
    """
    with contextlib.closing(SqliteLog(Home(settings.trail))) as log:
        return publish.publish(log, settings.publishing)


def overdue(settings: Settings, now: datetime.datetime) -> dict[str, list[str]]:
    """The emergency changes whose review is overdue, by inventory.

    Raises:
        FlowauditError: there is no trail, or a gate cannot be read, or says something else than what is believed.
    """
    found = {}
    with contextlib.closing(SqliteLog(Home(settings.trail))) as log:
        for name, inventory in settings.inventories.items():
            if not inventory.protected:
                continue
            gate = gate_file.load(inventory.gate)
            known = trust.accepted(log, name)
            if known is None or known.document != gate.terms.document:
                raise FlowauditError(f"The policy or the signers of {name} are not those that were accepted.")
            found[name] = gates.overdue(gate, policy.parse(gate.terms.rules), log, now)
    return {name: changes for name, changes in found.items() if changes}
