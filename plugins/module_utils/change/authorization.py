# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the gate tells the rest of this process: that the run may begin, and what it may touch."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from ..trail.commitment import Opening

if t.TYPE_CHECKING:
    from .model import Code


@dataclasses.dataclass(frozen=True)
class Authorization:
    """A run that may begin."""

    inventory: str
    change_id: str  # empty for an inventory that is not protected
    hosts: frozenset[str] | None  # it may touch; none: all
    fields: dict[str, t.Any]  # of the entry ``run.authorized``
    openings: Sequence[Opening] = ()
    flags: Sequence[str] = ()  # what everybody should see: that it is an emergency
    duration: datetime.timedelta = datetime.timedelta()  # the longest it may take; none for what needs no approval
    run: str = ""  # the run that custody has recorded this for; empty: the run records it itself


class _Process:
    granted: t.ClassVar[Authorization | None] = None
    by: t.ClassVar[str] = ""
    code: t.ClassVar[t.Callable[[], Code] | None] = None


def grant(authorization: Authorization, by: str, code: t.Callable[[], Code]) -> None:
    """Let the run of this process begin.

    ``by`` is the gate's file, ``code`` says what would run, whenever it is asked.
    """
    _Process.granted, _Process.by, _Process.code = authorization, by, code


def granted_by(gate: str) -> Authorization | None:
    """What this gate let begin, when the inventory is read again; none when nothing was yet.

    Raises:
        FlowauditError: another gate has let the run begin.
    """
    if _Process.granted is not None and gate != _Process.by:
        raise FlowauditError(f"{_Process.by} has let this run begin; the hosts of two gates are not mixed.")
    return _Process.granted


def same_code() -> bool:
    """Whether what lies there still is what was approved.

    Raises:
        FlowauditError: it cannot be read.
    """
    granted, code = _Process.granted, _Process.code
    return granted is None or code is None or dataclasses.asdict(code()) == granted.fields["code"]


def granted() -> Authorization | None:
    """What the gate let begin; none when no gate was asked."""
    return _Process.granted
