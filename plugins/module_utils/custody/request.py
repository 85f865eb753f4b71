# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody wants to run, as a message of the protocol."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..change.gate import Command
from ..change.policy import Refusal
from ..errors import FlowauditError
from .protocol import Message


def write(command: Command) -> Message:
    """A command, as a message has it."""
    return {
        "program": command.program,
        "playbooks": list(command.playbooks),
        "change_id": command.change_id,
        "hosts": None if command.hosts is None else list(command.hosts),
        "variables": list(command.variables),
        "tags": list(command.tags),
        "skip_tags": list(command.skip_tags),
        "check": command.check,
        "problems": [[item.code, item.message, item.mend] for item in command.problems],
    }


def read(value: t.Any) -> Command:
    """A command out of a message.

    Raises:
        FlowauditError: it is none.
    """
    try:
        return _typed(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FlowauditError("What somebody wants to run has not the form that this version knows.") from error


def _typed(value: Mapping[str, t.Any]) -> Command:
    def texts(items: t.Any) -> tuple[str, ...]:
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise TypeError
        return tuple(items)

    def text(item: t.Any) -> str:
        return texts([item])[0]

    if not isinstance(value["check"], bool):
        raise TypeError
    return Command(
        text(value["program"]),
        texts(value["playbooks"]),
        text(value["change_id"]),
        None if value["hosts"] is None else texts(value["hosts"]),
        texts(value["variables"]),
        texts(value["tags"]),
        texts(value["skip_tags"]),
        value["check"],
        tuple(Refusal(*texts(item)) for item in value["problems"]),
    )
