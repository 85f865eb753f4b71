# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The users of the edge's seminar mode, as three files that Apache reads at each request. Pure: no I/O.

``passwords``
    ``name:hash`` (bcrypt), an htpasswd file.
``roles``
    ``name role``, for those who come with a password.
``tokens``
    ``digest name:role``, for those who come with a bearer token: its SHA-256 in hexadecimal.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from .errors import FlowauditError

FILES = ("passwords", "roles", "tokens")
#: bcrypt reads no more of a password; what is longer would be cut without a word.
PASSWORD_BYTES = 72

_USER = r"[a-z0-9][a-z0-9._-]{0,63}"
_ROLE = r"[a-z][a-z0-9_-]{0,30}"
_NAME = re.compile(_USER)
_HASH = r"\$2[aby]\$(?P<cost>0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}"
_LINES = {
    "passwords": re.compile(rf"(?P<name>{_USER}):(?P<hash>{_HASH})"),
    "roles": re.compile(rf"(?P<name>{_USER}) (?P<role>{_ROLE})"),
    "tokens": re.compile(rf"(?P<digest>[0-9a-f]{{64}}) (?P<name>{_USER}):(?P<role>{_ROLE})"),
}
_FORMS = {"passwords": "name:hash with a hash of bcrypt", "roles": "name role", "tokens": "digest name:role"}


class Token(t.NamedTuple):
    digest: str
    role: str


class Account(t.TypedDict):
    """What may be shown of a user."""

    name: str
    role: str
    has_password: bool
    has_token: bool


@dataclasses.dataclass(frozen=True)
class Users:
    """What the three files say: user name → hash, role and token. None of the mappings is ever changed."""

    passwords: Mapping[str, str] = dataclasses.field(default_factory=dict)
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tokens: Mapping[str, Token] = dataclasses.field(default_factory=dict)

    def role(self, name: str) -> str | None:
        token = self.tokens.get(name)
        return self.roles.get(name) or (token.role if token else None)

    def account(self, name: str) -> Account | None:
        """What may be shown of a user, if there is one.

        One whose removal or addition was interrupted has a role and nothing else, and may not call anything.
        """
        if not any(name in file for file in (self.passwords, self.roles, self.tokens)):
            return None
        return {
            "name": name,
            "role": self.role(name) or "",
            "has_password": name in self.passwords,
            "has_token": name in self.tokens,
        }

    def accounts(self) -> list[Account]:
        names = sorted({*self.passwords, *self.roles, *self.tokens})
        return [account for account in map(self.account, names) if account is not None]


def parse(texts: Mapping[str, str], directory: str) -> Users:
    """Read the texts of the three files.

    Raises:
        FlowauditError: a line is none of ours. It is never dropped: somebody may rely on it.
    """
    found: dict[str, dict[str, re.Match[str]]] = {}
    for file in FILES:
        found[file] = {}
        digests = set()
        for number, line in enumerate(texts[file].removesuffix("\n").split("\n") if texts[file] else [], start=1):
            where = f"Line {number} of {directory}/{file}"
            match = _LINES[file].fullmatch(line)
            if match is None:
                raise FlowauditError(f"{where} is not of the form '{_FORMS[file]}'; correct or remove it.")
            if match["name"] in found[file]:
                raise FlowauditError(f"{where} names '{match['name']}' a second time; remove one of the two lines.")
            found[file][match["name"]] = match
            if match.groupdict().get("digest", number) in digests:
                raise FlowauditError(f"{where} has the token of another line; remove one of the two.")
            digests.add(match.groupdict().get("digest"))
    return Users(
        passwords={name: match["hash"] for name, match in found["passwords"].items()},
        roles={name: match["role"] for name, match in found["roles"].items()},
        tokens={name: Token(match["digest"], match["role"]) for name, match in found["tokens"].items()},
    )


def render(users: Users) -> dict[str, str]:
    """The texts of the three files."""
    lines = {
        "passwords": [f"{name}:{digest}" for name, digest in users.passwords.items()],
        "roles": [f"{name} {role}" for name, role in users.roles.items()],
        "tokens": [f"{token.digest} {name}:{token.role}" for name, token in users.tokens.items()],
    }
    return {file: "".join(f"{line}\n" for line in lines[file]) for file in FILES}


def cost(password_hash: str) -> int:
    """The cost of a bcrypt hash, 0 for anything else."""
    match = re.fullmatch(_HASH, password_hash)
    return int(match["cost"]) if match else 0


def check_request(name: str, role: str | None, roles: Sequence[str], password: str | None, minimum: int) -> None:
    """Refuse what can be refused without a look at the files.

    Raises:
        FlowauditError: in one sentence; none shows the password.
    """
    if not _NAME.fullmatch(name):
        raise FlowauditError(
            f"name is '{name}'; use up to 64 lower-case letters, digits, '.', '_' and '-', and begin with one of the "
            "first two."
        )
    if role is not None and (role not in roles or not re.fullmatch(_ROLE, role)):
        raise FlowauditError(f"role is '{role}'; the roles are {', '.join(roles)}.")
    if not 8 <= minimum <= PASSWORD_BYTES:
        raise FlowauditError(f"password_minimum is {minimum}; give a number from 8 to {PASSWORD_BYTES}.")
    if password is None:
        return
    if len(password) < minimum:
        raise FlowauditError(f"The password of '{name}' has {len(password)} characters; give it {minimum} or more.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise FlowauditError(f"The password of '{name}' has a control character, which no browser sends; leave it out.")
    if len(password.encode()) > PASSWORD_BYTES:
        raise FlowauditError(
            f"The password of '{name}' has more than {PASSWORD_BYTES} bytes, of which bcrypt reads no more; shorten it."
        )


def without(users: Users, name: str) -> Users:
    """The users without one."""
    return Users(
        passwords=_with(users.passwords, name, None),
        roles=_with(users.roles, name, None),
        tokens=_with(users.tokens, name, None),
    )


def with_user(users: Users, name: str, role: str | None, password_hash: str | None, digest: str | None) -> Users:
    """The users with one added or changed.

    Args:
        users: the users there are.
        name: whom it is about.
        role: the new role; ``None`` for the one there is.
        password_hash: the hash of the password; ``None`` for no password.
        digest: the digest of the token; ``None`` for no token.

    Raises:
        FlowauditError: such a user cannot be.
    """
    role = role or users.role(name)
    if role is None:
        raise FlowauditError(f"User '{name}' has no role yet; give one.")
    if password_hash is None and digest is None:
        raise FlowauditError(f"User '{name}' would have neither password nor token; give one, or remove the user.")
    return Users(
        passwords=_with(users.passwords, name, password_hash),
        roles=_with(users.roles, name, role),
        tokens=_with(users.tokens, name, None if digest is None else Token(digest, role)),
    )


_Value = t.TypeVar("_Value")


def _with(file: Mapping[str, _Value], name: str, value: _Value | None) -> dict[str, _Value]:
    """A copy with another value, in the same place where there was one; without the name for ``None``."""
    if value is None:
        return {key: item for key, item in file.items() if key != name}
    return {**file, name: value}


def steps(before: Users, after: Users, name: str) -> Iterator[tuple[str, str]]:
    """(file, new text) in an order that may be cut off anywhere: what ends goes first, what is new comes last.

    At no point has anybody a role by a password or token that neither ``before`` nor ``after`` grants. So a password
    that changes together with the role is taken away first. A token has its role in its own line and needs none of it.
    """
    passwords, tokens = before.passwords, before.tokens
    if name not in after.passwords or (
        after.passwords[name] != passwords.get(name) and after.roles[name] != before.roles.get(name)
    ):
        passwords = _with(passwords, name, None)
    if name not in after.tokens:
        tokens = _with(tokens, name, None)
    current = render(before)
    for users in (
        Users(passwords, before.roles, tokens),
        Users(passwords, after.roles, tokens),
        after,
    ):
        texts = render(users)
        for file in FILES:
            if texts[file] != current[file]:
                yield file, texts[file]
        current = texts


def describe(account: Account | None, new: Sequence[str] = ()) -> str:
    """A line for the diff: role, and what a user has to come with, but not what it is."""
    if account is None:
        return ""
    has = [what for what in ("password", "token") if account[f"has_{what}"]]  # type: ignore[literal-required]
    shown = ", ".join(f"new {what}" if what in new else what for what in has) or "neither password nor token"
    return f"{account['name']}: {account['role'] or 'no role'} ({shown})\n"
