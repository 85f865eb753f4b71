# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file that stands for a protected inventory: what it asks of changes. Its hosts are the plugin's matter."""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import pathlib
import re
import typing as t

from ..errors import FlowauditError
from ..trail import note, provenance
from . import images, policy, tree, trust, yaml_file
from .gate import Gate

PLUGIN = "flowaudit.ops.change_gate"
NAMES = ("gate.yml", "gate.yaml")
_KEYS = {"plugin", "name", "protected", "changes", "allowed_signers", "policy", "staging_keys", "inventory", "sources"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def find(path: str, change_id: str = "") -> pathlib.Path:
    """The gate's file of an inventory.

    ``path`` is that file, its directory, or a directory of inventories: then the inventory is the one that has the
    change, or the only one that is protected.

    Raises:
        FlowauditError: there is none, or more than one.
    """
    given = pathlib.Path(path).expanduser()
    if given.is_file():
        return given
    here = [given / name for name in NAMES if (given / name).is_file()]
    found = here or sorted(file for name in NAMES for file in given.glob(f"*/{name}"))
    if len(found) > 1:
        gates = [(file, load(file)) for file in found]
        found = [file for file, gate in gates if gate.protected and (not change_id or gate.repository.has(change_id))]
    if not found:
        of = f" with the change {change_id}" if change_id else ""
        raise FlowauditError(f"{given} has no protected inventory{of} ({NAMES[0]}); docs/gate.md has how to write one.")
    if len(found) > 1:
        names = ", ".join(str(file.parent) for file in found)
        raise FlowauditError(f"{given} has several inventories: name one of {names} (change_inventory).")
    return found[0]


def load(path: pathlib.Path, collection: tuple[str, str] | None = None) -> Gate:
    """Read a gate's file; ``collection`` is what ``Gate`` has under that name.

    Raises:
        FlowauditError: it cannot be read, or something of it is missing or makes no sense.
    """
    value = _mapping(path)
    unknown = sorted(map(str, set(value) - _KEYS))
    if unknown:
        raise FlowauditError(f"{path}: {unknown[0]} is unknown; a gate has {', '.join(sorted(_KEYS))}.")
    name, protected = value.get("name"), value.get("protected", True)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise FlowauditError(f"{path}: name is the inventory's name, of letters, digits, - and _, not {name!r}.")
    if type(protected) is not bool:
        raise FlowauditError(f"{path}: protected is true or false, not {protected!r}.")
    top = provenance.top_of(str(path.parent))
    if top is None and protected:
        raise FlowauditError(
            f"{path} is in no Git repository, where changes and what they are about belong (git init); without changes,"
            " say protected: false."
        )
    top = top or path.parent.resolve()
    changes = _inside(path, top, "changes", value.get("changes", "changes"))
    if protected and not tree.covers(top, path, [changes]):
        raise FlowauditError(f"{path} lies where nobody looks at it: not in a hidden directory, nor behind a link.")
    rules: dict[str, t.Any] = {}
    signers = ""
    if protected:
        rules = value.get("policy")  # type: ignore[assignment]
        if not isinstance(rules, dict):
            raise FlowauditError(f"{path}: policy is missing; docs/gate.md has one to begin with.")
        policy.parse(rules)
        signers = _signers(path, top, value.get("allowed_signers", "allowed_signers"))
    keys = value.get("staging_keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FlowauditError(f"{path}: staging_keys is a list of verifier keys (see trail_verify).")
    for key in keys:
        note.parse_key(key)
    return Gate(
        name,
        protected,
        top,
        changes,
        trust.Terms(name, trust.plain(rules), signers, tuple(keys)),
        path.parent / images.LOCK,
        collection,
    )


def _mapping(path: pathlib.Path) -> dict[str, t.Any]:
    value = yaml_file.load(path, "put the hosts into sources")
    if not isinstance(value, dict) or value.get("plugin") != PLUGIN:
        raise FlowauditError(f"{path} is no gate: it does not say plugin: {PLUGIN}.")
    return value


def _signers(path: pathlib.Path, top: pathlib.Path, written: t.Any) -> str:
    place = _inside(path, top, "allowed_signers", written)
    try:
        return yaml_file.content(place).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise FlowauditError(
            f"{place}, who may request and approve, cannot be read; docs/gate.md has how to write it."
        ) from error


def _inside(path: pathlib.Path, top: pathlib.Path, what: str, written: t.Any) -> pathlib.Path:
    """A path of the repository, as it is written in the file: from the repository's top."""
    if not isinstance(written, str):
        raise FlowauditError(f"{path}: {what} is a path in the repository.")
    place = (top / written).resolve()
    if place == top or not place.is_relative_to(top) or place.relative_to(top).parts[0].startswith("."):
        raise FlowauditError(f"{path}: {what} is {written}, which is not in the repository {top}.")
    return place
