# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a task's result may be kept: an allow-list of fields by module, and patterns that take secrets out of them.

What is not named here is not recorded: neither arguments, nor messages, nor output, nor the labels of loop items.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import re
import typing as t
from collections.abc import Mapping, Sequence

LONGEST_FIELD = 512  # characters
LONGEST_DIFF = 64 * 1024  # characters
LONGEST_LIST = 50  # elements

# Ids, not names: an account's name is personal data.
_FILE = ("path", "dest", "state", "mode", "uid", "gid", "size")
_SERVICE = ("name", "state", "enabled")

# Fields of a result that say what was done to what, and hold no contents.
KEPT_FIELDS: dict[str, tuple[str, ...]] = {
    "ansible.builtin.apt": ("cache_updated",),
    "ansible.builtin.assemble": _FILE,
    "ansible.builtin.async_status": ("finished",),
    "ansible.builtin.blockinfile": _FILE,
    "ansible.builtin.command": ("rc",),
    "ansible.builtin.copy": _FILE,
    "ansible.builtin.cron": (),
    "ansible.builtin.dnf": ("rc",),
    "ansible.builtin.fetch": (),
    "ansible.builtin.file": _FILE,
    "ansible.builtin.get_url": _FILE,
    "ansible.builtin.git": ("before", "after"),
    "ansible.builtin.group": ("name", "gid", "state", "system"),
    "ansible.builtin.hostname": ("name",),
    "ansible.builtin.lineinfile": _FILE,
    "ansible.builtin.raw": ("rc",),
    "ansible.builtin.reboot": ("rebooted", "elapsed"),
    "ansible.builtin.replace": _FILE,
    "ansible.builtin.script": ("rc",),
    "ansible.builtin.service": _SERVICE,
    "ansible.builtin.shell": ("rc",),
    "ansible.builtin.slurp": (),
    "ansible.builtin.stat": (),
    "ansible.builtin.systemd": _SERVICE,
    "ansible.builtin.systemd_service": _SERVICE,
    "ansible.builtin.template": _FILE,
    "ansible.builtin.unarchive": _FILE,
    "ansible.builtin.uri": ("status",),
    "ansible.builtin.user": ("uid", "state", "system"),
    "ansible.builtin.wait_for": ("port", "elapsed"),
    "ansible.legacy.command": ("rc",),
    "flowaudit.ops.release": (
        "release_id",
        "previous_id",
        "colour",
        "migration_class",
        "images",
        "git_commit",
        "schema_before",
        "restore_point",
        "confirmed_after",
        "timings",
        "taken_back",
        "resumed_at",
    ),
}
# Modules whose diff is about states, not about contents.
KEPT_DIFFS = frozenset(
    {
        "ansible.builtin.file",
        "ansible.builtin.group",
        "ansible.builtin.hostname",
        "ansible.builtin.service",
        "ansible.builtin.systemd",
        "ansible.builtin.systemd_service",
        "ansible.posix.mount",
        "ansible.posix.sysctl",
    }
)

WITHHELD = "[withheld]"
# What tells that a value is secret, anywhere in its name.
_SECRET = (
    r"passw(?:or)?d|passphrase|passwd|pass(?![a-z])|pwd|secret|token|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|credential|authorization|cookie|(?<![a-z])dsn(?![a-z])|kennwort|passwort"
)
# Possessive (++) and with a look-ahead, which never goes back either: the time is that of reading the text once. The
# texts come from hosts, and one that is made to be slow must not hold up the run.
_NAME = rf"(?<![\w.-])(?=[\w.-]*?(?:{_SECRET}))[\w.-]++[\"']?"
_OPTION = rf"(?<![\w.-])(?=--?[\w.-]*?(?:{_SECRET}))[\w.-]++"
_NAMED = re.compile(rf"(?P<name>{_NAME}\s*+[:=]\s*+|{_OPTION}\s++)\S.*", re.I)
# As configuration files have it: a name, a blank, the value. In prose it would take words for secrets.
_BLANK = re.compile(rf"(?P<name>{_NAME}\s++)\S.*", re.I)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.S), WITHHELD),
    (re.compile(r"\$ANSIBLE_VAULT;[\s\S]*"), WITHHELD),
    # The password of a URL may hold an @, and one that nobody has escaped a slash.
    (
        re.compile(r"(?P<scheme>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*+://)(?:[^\s/]*|[^\s/:@]++:\S{0,1024})@", re.I),
        rf"\g<scheme>{WITHHELD}@",
    ),
    (_NAMED, rf"\g<name>{WITHHELD}"),
    (re.compile(r"(?P<scheme>\b(?:bearer|basic)\s++)(?=\S*[A-Z0-9=])[\w.~+/=-]{6,}"), rf"\g<scheme>{WITHHELD}"),
    (re.compile(r"(?P<scheme>\bB(?:earer|asic)\s++)[\w.~+/=-]{6,}"), rf"\g<scheme>{WITHHELD}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]++\.[\w-]++\.[\w-]*"), WITHHELD),  # JWT
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), WITHHELD),  # AWS
    (re.compile(r"\b(?:gh[oprsu]_|github_pat_|glpat-|xox[abeoprs]-|sk-|hvs\.)[\w-]{10,}"), WITHHELD),
    (re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|argon2id?|apr1|scrypt)\$[^\s:\"']+"), WITHHELD),  # password hashes
)
_NAMES_A_SECRET = re.compile(_SECRET, re.I)


def redacted(text: str, prose: bool = False) -> str:
    """The text without what looks like a secret; in prose, "the password of …" does not."""
    if not prose:
        text = _BLANK.sub(rf"\g<name>{WITHHELD}", text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def exact(value: t.Any) -> str:
    """A string of its own; Ansible's carry marks of where they come from, and ``str`` leaves them on."""
    return str.__str__(value if isinstance(value, str) else str(value))


def plain(value: t.Any, prose: bool = False) -> str:
    """A string of its own, redacted and short; what is none (an encrypted one would decrypt itself) is withheld."""
    if not isinstance(value, str):
        return WITHHELD
    # Enough of it that no secret that begins in what is kept is cut so short that nothing tells it from other text.
    return redacted(exact(value)[: 8 * LONGEST_FIELD], prose)[:LONGEST_FIELD]


def named(name: str, value: t.Any) -> str:
    """A value under its name: withheld when the name says that it is secret."""
    return WITHHELD if _NAMES_A_SECRET.search(name) else plain(value)


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which fields and diffs are kept; ``fields`` and ``diffs`` are beside the ones that always are."""

    fields: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    diffs: frozenset[str] = frozenset()

    def kept(self, fqcn: str, result: Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The fields of a result that are kept, short and redacted."""
        names = (*KEPT_FIELDS.get(fqcn, ()), *self.fields.get(fqcn, ()))
        kept = {name: _short(result[name]) for name in names if name in result}
        return {name: value for name, value in kept.items() if value is not None}

    def keeps_diff(self, fqcn: str) -> bool:
        """Whether the text of a diff of this module is kept."""
        return fqcn in KEPT_DIFFS or fqcn in self.diffs


def _short(value: t.Any) -> t.Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else None
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return [_short(item) for item in value[:LONGEST_LIST]]
    return None


@dataclasses.dataclass(frozen=True)
class Diff:
    """A result's diff: its size in lines, and its text."""

    added: int
    removed: int
    text: str


def diff_of(value: t.Any, with_text: bool = True) -> Diff | None:
    """The diff that a result carries (a mapping or a list of these), redacted; none when it says nothing."""
    parts = [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, Mapping)]
    added = removed = 0
    texts: list[str] = []
    for part in parts:
        if isinstance(part.get("prepared"), str):
            lines = part["prepared"].splitlines()
            added += sum(line.startswith("+") and not line.startswith("+++") for line in lines)
            removed += sum(line.startswith("-") and not line.startswith("---") for line in lines)
            texts += lines
            continue
        before, after = _lines(part.get("before")), _lines(part.get("after"))
        if before == after:
            continue
        had, has = collections.Counter(before), collections.Counter(after)
        added += (has - had).total()
        removed += (had - has).total()
        if not with_text:
            continue
        if len(before) + len(after) <= 4000:  # the comparison is quadratic
            texts += difflib.unified_diff(before, after, lineterm="", n=1)
        else:
            texts.append(f"(a change in {len(after)} lines)")
    if not added and not removed and not texts:
        return None
    text = "\n".join(texts)[: 4 * LONGEST_DIFF] if with_text else ""
    return Diff(added, removed, redacted(text)[:LONGEST_DIFF])


def _lines(value: t.Any) -> list[str]:
    if isinstance(value, str):
        return exact(value).splitlines()
    if isinstance(value, Mapping):
        return [
            f"{exact(key)}: {_scalar(item)}" for key, item in sorted(value.items(), key=lambda pair: exact(pair[0]))
        ]
    return []


def _scalar(value: t.Any) -> str:
    if isinstance(value, str):
        return exact(value)
    return str(value) if isinstance(value, bool | int | float) or value is None else "…"
