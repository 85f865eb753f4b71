# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A change: the document that is requested and approved, and the states it goes through.

The document is one line of canonical JSON (``trail.canonical``). Its bytes are what approvers sign: any edit voids all
approvals. What happens to the change afterwards is recorded beside it and in the trail, never in it.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import dataclasses
import datetime
import enum
import fnmatch
import hashlib
import re
import typing as t
from collections.abc import Iterable, Mapping

from ..errors import FlowauditError
from ..trail import canonical
from . import window

VERSION = 1
LARGEST = 256 * 1024  # bytes of a document

ID = re.compile(r"CHG-[0-9]{4}-[0-9]{4,8}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,252}")
_PLAYBOOK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,99})=(.{1,4000})")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
# What decides where a connection goes, and what Ansible itself makes, is said by the inventory and nobody else.
_RESERVED = re.compile(r"ansible_.*|inventory_.*|group_names|groups|hostvars|play_hosts|role_.*|delegated_vars|omit")


class Kind(enum.StrEnum):
    """How a change is approved."""

    STANDARD = "standard"  # once for all, for named playbooks
    NORMAL = "normal"
    EMERGENCY = "emergency"  # by fewer, reviewed afterwards


class Risk(enum.StrEnum):
    """How bad it can get; the policy says what that asks for."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class State(enum.StrEnum):
    """Where a change is."""

    DRAFT = "draft"
    REQUESTED = "requested"
    APPROVED = "approved"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    REVIEWED = "reviewed"
    REVOKED = "revoked"
    EXPIRED = "expired"


# What may follow what. A failed run may be repeated; what has run is never revoked or expired, it is reviewed.
FOLLOWING: Mapping[State, frozenset[State]] = {
    State.DRAFT: frozenset({State.REQUESTED}),
    State.REQUESTED: frozenset({State.APPROVED, State.REVOKED, State.EXPIRED}),
    State.APPROVED: frozenset({State.RUNNING, State.REVOKED, State.EXPIRED}),
    State.RUNNING: frozenset({State.DONE, State.FAILED, State.ROLLED_BACK}),
    State.DONE: frozenset({State.RUNNING, State.ROLLED_BACK, State.REVIEWED}),
    State.FAILED: frozenset({State.RUNNING, State.ROLLED_BACK, State.REVIEWED}),
    State.ROLLED_BACK: frozenset({State.REVIEWED}),
    State.REVIEWED: frozenset(),
    State.REVOKED: frozenset(),
    State.EXPIRED: frozenset(),
}
FINAL = frozenset(state for state, following in FOLLOWING.items() if not following)


def after(states: Iterable[State]) -> State:
    """The state that a sequence of states leads to, from the draft on.

    Raises:
        FlowauditError: one of them cannot follow the one before it.
    """
    current = State.DRAFT
    for state in states:
        if state not in FOLLOWING[current]:
            raise FlowauditError(f"A change that is {current} cannot become {state}.")
        current = state
    return current


@dataclasses.dataclass(frozen=True)
class Scope:
    """What a change is about.

    ``playbooks`` are written as on the command line: ``flowaudit.ops.site``, a path in the inventory's repository, or
    ``ansible`` and ``ansible-console`` for these commands. ``variables`` are the extra-vars it runs with, each as
    ``name=<canonical JSON>``: extra-vars override everything, so what was not approved is not taken.
    """

    hosts: tuple[str, ...]
    playbooks: tuple[str, ...]
    variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()

    def outside(self, hosts: Iterable[str]) -> list[str]:
        """Those of the hosts that are not in it."""
        return sorted(set(hosts) - set(self.hosts))


@dataclasses.dataclass(frozen=True)
class Code:
    """What runs: the inventory's repository without its changes, and the collection (``tree.digest``)."""

    tree: str
    collection: str
    collection_digest: str


@dataclasses.dataclass(frozen=True)
class Change:
    """A change as it was requested; ``document`` holds the bytes that are signed."""

    id: str
    inventory: str
    kind: Kind
    risk: Risk
    title: str
    reason: str
    ticket: str
    strategy: str
    governance: str
    requester: str
    requested_at: datetime.datetime
    expires_at: datetime.datetime
    scope: Scope
    rollback: str  # the plan, in words
    rollback_playbook: str  # what it authorises besides, until it is reviewed; empty when there is none
    code: Code
    release: str
    digests: tuple[str, ...]  # images of the release
    staging_run: str  # the run on staging that shows it works; empty when none is needed
    document: bytes = dataclasses.field(repr=False)

    @property
    def digest(self) -> str:
        """The SHA-256 of the document, in hex."""
        return hashlib.sha256(self.document).hexdigest()

    def names(self, playbook: str) -> bool:
        """Whether the playbook is one of those it is about, or its rollback."""
        return playbook in self.scope.playbooks or bool(self.rollback_playbook and playbook == self.rollback_playbook)


_TEXTS = {"title": 200, "reason": 4000, "ticket": 200, "strategy": 100, "governance": 200, "rollback": 4000}
_KEYS = {
    *("v", "id", "inventory", "kind", "risk", "requester", "requested_at", "expires_at", "scope", "rollback_playbook"),
    *("code", "release", "digests", "staging_run"),
    *_TEXTS,
}


def write(value: Mapping[str, t.Any]) -> bytes:
    """The document of a change; what it returns can be read by ``read``.

    Raises:
        FlowauditError: something of it is missing or makes no sense.
    """
    document = canonical.encode({**value, "v": VERSION})
    read(document)
    return document


def read(document: bytes) -> Change:
    """The change of a document.

    Raises:
        FlowauditError: it is no document of a change, or not in the one form there is.
    """
    if len(document) > LARGEST:
        raise FlowauditError(f"The document of a change has at most {LARGEST} bytes, this one has {len(document)}.")
    value = canonical.decode(document)
    if set(value) != _KEYS:
        wrong = ", ".join(sorted(set(value) ^ _KEYS))
        raise FlowauditError(f"The document of a change has too many fields, or too few: {wrong}.")
    if value["v"] != VERSION or type(value["v"]) is not int:
        raise FlowauditError(
            f"The document of a change has the version {value['v']!r}, this collection knows {VERSION}."
        )
    if canonical.encode(value) != document:
        raise FlowauditError("The document of a change was written by something else: it is not in canonical form.")
    texts = {name: _text(name, value[name], longest) for name, longest in _TEXTS.items()}
    change = Change(
        id=check_id(value["id"]),
        inventory=_matching("inventory", value["inventory"], _NAME),
        kind=_one_of(Kind, "kind", value["kind"]),
        risk=_one_of(Risk, "risk", value["risk"]),
        requester=check_principal(value["requester"]),
        requested_at=window.parse_moment("requested_at", value["requested_at"]),
        expires_at=window.parse_moment("expires_at", value["expires_at"]),
        scope=_scope(value["scope"]),
        rollback_playbook=_optional("rollback_playbook", value["rollback_playbook"], _PLAYBOOK),
        code=_code(value["code"]),
        release=_optional("release", value["release"], _NAME),
        digests=_list("digests", value["digests"], _DIGEST),
        staging_run=_optional("staging_run", value["staging_run"], _NAME),
        document=document,
        **texts,
    )
    if change.expires_at <= change.requested_at:
        raise FlowauditError(f"The change {change.id} expires before it was requested.")
    if not change.reason:
        raise FlowauditError(f"The change {change.id} does not say why it is needed (reason).")
    if not change.rollback:
        raise FlowauditError(f"The change {change.id} does not say how it is taken back (rollback).")
    return change


def check_id(value: t.Any) -> str:
    """The id of a change; it is the name of a directory, so nothing else passes.

    Raises:
        FlowauditError: it is none.
    """
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise FlowauditError(f"{str(value)[:80]!r} is no id of a change; one looks like CHG-2026-0042.")
    return str.__str__(value)


def check_principal(value: t.Any) -> str:
    """The name of a person as the allowed signers have it.

    Raises:
        FlowauditError: it is none.
    """
    return _matching("principal", value, _PRINCIPAL)


def hosts_of(patterns: Iterable[str], hosts: Iterable[str]) -> list[str]:
    """The hosts that match one of the patterns (names with ``*`` and ``?``).

    Raises:
        FlowauditError: a pattern matches none: a scope must not shrink because of a typing error.
    """
    there = sorted(set(hosts))
    found: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(there, pattern)
        if not matching:
            raise FlowauditError(f"The scope names {pattern}, which no host of the inventory is.")
        found |= set(matching)
    return sorted(found)


def _text(name: str, value: t.Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest or any(ord(c) < 0x20 and c not in "\n\t" for c in value):
        raise FlowauditError(f"{name} is a text of at most {longest} characters, without control characters.")
    return value.strip()


def _matching(name: str, value: t.Any, pattern: re.Pattern[str], paths: bool = False) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or (".." in value and not paths):
        raise FlowauditError(f"{name} is {str(value)[:80]!r}, which is not of the form {pattern.pattern}.")
    return value


def _optional(name: str, value: t.Any, pattern: re.Pattern[str]) -> str:
    return "" if value == "" else _matching(name, value, pattern)


def _list(name: str, value: t.Any, pattern: re.Pattern[str], paths: bool = False) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise FlowauditError(f"{name} is a list.")
    items = tuple(_matching(name, item, pattern, paths) for item in value)
    if list(items) != sorted(set(items)):
        raise FlowauditError(f"{name} is sorted, and has everything once.")
    return items


def _mapping(name: str, value: t.Any, keys: set[str]) -> dict[str, t.Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise FlowauditError(f"{name} has {', '.join(sorted(keys))}, and nothing else.")
    return value


_Choice = t.TypeVar("_Choice", bound=enum.StrEnum)


def _one_of(choices: type[_Choice], name: str, value: t.Any) -> _Choice:
    try:
        return choices(value)
    except ValueError:
        raise FlowauditError(f"{name} is one of {', '.join(choices)}, not {str(value)[:80]!r}.") from None


def variables_of(values: Mapping[str, t.Any]) -> tuple[str, ...]:
    """Extra-vars as a scope has them, without ``change_id``, which only names the change.

    Raises:
        FlowauditError: one is of a kind that cannot be compared (a float, an undefined template).
    """
    given = sorted((str(name), value) for name, value in values.items() if name != "change_id")
    found = []
    for name, value in given:
        try:
            found.append(f"{name}={canonical.encode({'': value})[4:-1].decode()}")
        except FlowauditError as error:
            raise FlowauditError(f"The extra variable {name} cannot be part of a change: {error}") from error
    return tuple(found)


def _scope(value: t.Any) -> Scope:
    given = _mapping("scope", value, {field.name for field in dataclasses.fields(Scope)})
    scope = Scope(
        _list("hosts", given["hosts"], HOST),
        _list("playbooks", given["playbooks"], _PLAYBOOK),
        _list("variables", given["variables"], _VARIABLE, paths=True),
        _list("tags", given["tags"], _TAG),
        _list("skip_tags", given["skip_tags"], _TAG),
    )
    names = [variable.partition("=")[0] for variable in scope.variables]
    reserved = [name for name in names if _RESERVED.fullmatch(name)]
    if reserved:
        raise FlowauditError(f"The variable {reserved[0]} is the inventory's to set, not a change's.")
    if len(set(names)) < len(names):
        raise FlowauditError("The scope of a change gives each variable once.")
    if not scope.hosts or not scope.playbooks:
        raise FlowauditError("The scope of a change has at least one host and one playbook.")
    return scope


def _code(value: t.Any) -> Code:
    given = _mapping("code", value, {"tree", "collection", "collection_digest"})
    return Code(
        _matching("tree", given["tree"], _DIGEST),
        _matching("collection", given["collection"], _NAME),
        _matching("collection_digest", given["collection_digest"], _DIGEST),
    )
