# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What happened in a run, in a form of our own: the callback makes it of Ansible's objects, the trail keeps it."""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import dataclasses
import functools
import os
import re
import typing as t
from collections.abc import Mapping, Sequence

from . import redact
from .commitment import Opening, commit

_HOST = re.compile(r"[\w.:%\[\]-]{1,253}")
_COLLECTION = re.compile(r".*/ansible_collections/([^/]+)/([^/]+)/(.*)")


_real = functools.lru_cache(maxsize=4096)(os.path.realpath)

Status = t.Literal["ok", "failed", "skipped", "unreachable"]


@dataclasses.dataclass
class Items:
    """What is known of the items of a loop before its result: how many ended how, and which hosts did some instead."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    delegates: list[str] = dataclasses.field(default_factory=list)

    def add(self, status: Status, changed: bool, delegate: str = "") -> None:
        """Count one."""
        if not self.counts:
            self.counts = {"ok": 0, "changed": 0, "failed": 0, "skipped": 0}
        how = "changed" if changed and status == "ok" else "failed" if status == "unreachable" else status
        self.counts[how] += 1
        if delegate and delegate not in self.delegates:
            self.delegates.append(delegate)


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a task on a host.

    ``result`` is Ansible's, censored by it where ``no_log`` says so; of it only what the policy allows is kept.
    """

    task: str
    host: str
    status: Status
    fqcn: str
    src: str
    result: Mapping[str, t.Any]
    duration: float  # seconds
    changed: bool = False
    check: bool = False
    no_log: bool = False
    ignored: bool = False
    delegates: Sequence[str] = ()  # the hosts that did it instead
    items: Mapping[str, int] = dataclasses.field(default_factory=dict)  # how many of a loop ended how
    keep_diff: bool = False  # the task says that its diff holds no secret

    def fields(self, policy: redact.Policy) -> tuple[dict[str, t.Any], list[Opening]]:
        """The entry's fields, and the openings of what it only commits to."""
        fields: dict[str, t.Any] = {
            "task": self.task,
            "host": self.host,
            "status": self.status,
            "fqcn": self.fqcn,
            "src": self.src,
            "changed": self.changed,
            "check": self.check,
            "dur_ms": max(round(self.duration * 1000), 0),
        }
        if self.ignored:
            fields["ignored"] = True
        if self.delegates:
            fields["delegate"] = ", ".join(self.delegates)
        attempts = self.result.get("attempts")
        if type(attempts) is int:
            fields["attempts"] = attempts
        if self.no_log:
            # Absolute: not even how many items there were.
            return fields | {"no_log": True}, []
        if self.items:
            fields["items"] = dict(self.items)
        if kept := policy.kept(self.fqcn, self.result):
            fields["kept"] = kept
        return self._with_diff(fields, policy)

    def _with_diff(self, fields: dict[str, t.Any], policy: redact.Policy) -> tuple[dict[str, t.Any], list[Opening]]:
        diff = redact.diff_of(_diffs(self.result), self.keep_diff or policy.keeps_diff(self.fqcn))
        if diff is None:
            return fields, []
        fields["diff"] = {"added": diff.added, "removed": diff.removed}
        if not diff.text:
            return fields, []
        opening = commit("diff", diff.text.encode("utf-8", "replace"))
        return fields | {"blobs": {"diff": [opening.commitment, len(opening.value)]}}, [opening]


def _diffs(result: Mapping[str, t.Any]) -> t.Any:
    """The diff of a result, or those of its items that are not hidden."""
    if "diff" in result:
        return result["diff"]
    diffs: list[t.Any] = []
    results = result.get("results")
    for item in results if isinstance(results, list) else []:
        if isinstance(item, Mapping) and "diff" in item and not item.get("_ansible_no_log"):
            diffs += item["diff"] if isinstance(item["diff"], list) else [item["diff"]]
    return diffs


def source(path: str, base: str) -> str:
    """Where a task is written, without the directories above its collection or project: they name people.

    ``path`` is ``/…/file.yml:12``, ``base`` the project's directory without symbolic links.
    """
    if match := _COLLECTION.match(path):
        return f"{match[1]}.{match[2]}/{match[3]}"
    path = _real(path) if path else ""
    if base and path.startswith(base.rstrip("/") + "/"):
        return path[len(base.rstrip("/")) + 1 :]
    return path.rpartition("/")[2]


def host(name: t.Any) -> str:
    """The name of a host that may come from a variable, so from anywhere."""
    text = redact.plain(name)
    return text if _HOST.fullmatch(text) else redact.WITHHELD


def event(told: t.Any) -> dict[str, t.Any]:
    """What a playbook says by ``trail_event``; values whose names say so are withheld, and what looks like a secret."""
    data = told.get("data") if isinstance(told, Mapping) else None
    return {
        "name": redact.plain(told.get("name"), prose=True) if isinstance(told, Mapping) else "",
        "data": {
            # Keys of entries are ASCII.
            redact.exact(key).encode("ascii", "backslashreplace").decode(): redact.named(
                redact.exact(key), redact.exact(value)
            )
            for key, value in (data.items() if isinstance(data, Mapping) else ())
        },
    }


def name(written: t.Any) -> str:
    """A name as it is written in the playbook; what was templated into it is not known here, so it cannot be secret."""
    return redact.plain(written, prose=True) if isinstance(written, str) else ""
