# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the YAML of an inventory as somebody who was not asked to trust it."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t
from collections.abc import Iterable

from ..errors import FlowauditError

LARGEST = 4 * 1024 * 1024  # bytes


def load(path: pathlib.Path, mend: str = "") -> t.Any:
    """What a file says; ``mend`` is what to do when it is too large.

    Values with a tag, such as encrypted ones, are none: they are read without the password of the vault.

    Raises:
        FlowauditError: it cannot be read, is too large, or is no YAML.
    """
    import yaml

    # The one that is written in C, where there is one: ten times as fast.
    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Reads what stands beside encrypted values without the password of the vault."""

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    try:
        text = content(path, mend)
        if b"*" in text:
            _demand_small(path, yaml.parse(text, Loader))
        return yaml.load(text, Loader)
    except OSError as error:
        raise FlowauditError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        raise FlowauditError(f"{path} is no YAML{f' (line {where.line + 1})' if where else ''}.") from error


def content(path: pathlib.Path, mend: str = "") -> bytes:
    """The bytes of a file; without waiting, as a pipe would have it.

    Raises:
        FlowauditError: it is no file, or too large.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FlowauditError(f"{path} is no file.")
        read = stream.read(LARGEST + 1)
    if len(read) > LARGEST:
        raise FlowauditError(f"{path} has more than {LARGEST} bytes{f'; {mend}' if mend else ''}.")
    return read


def _demand_small(path: pathlib.Path, events: Iterable[t.Any]) -> None:
    """Refuse what a few aliases of aliases make endless."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = 0
    for event in events:
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind in ("MappingStartEvent", "SequenceStartEvent"):
            open_nodes.append((anchor, size))
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            anchor, before = open_nodes.pop()
            sizes[anchor or ""] = size - before
        elif kind == "ScalarEvent":
            sizes[anchor or ""] = 1
        size += sizes.get(anchor or "", 1) if kind == "AliasEvent" else 1
        if size > LARGEST:
            raise FlowauditError(f"{path} says more by its aliases than can be read.")
