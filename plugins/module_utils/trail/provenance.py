# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who runs what, from where: found out on the control node before anything else happens."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import re
import socket
import subprocess
import typing as t
from collections.abc import Iterable, Mapping

from .commitment import Opening, commit

GIT_TIMEOUT = 10.0  # seconds; a repository on a dead share must not hang the run
_NOBODY = 2**32 - 1  # what the kernel says when nobody has logged in (a service)
_ON_DISK_FOR_A_WHILE = frozenset({"overlay", "tmpfs", "ramfs", "aufs"})
_VERSION = re.compile(r"""^\s*"?version"?:\s*"?([0-9][^",\s]*)""", re.M)
_OCTAL = re.compile(r"\\([0-7]{3})")
_CI_VARIABLES = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD", "JENKINS_URL")


def actor() -> Opening:
    """The commitment to who runs this: account, login account (it survives ``sudo`` and ``su``) and user id."""
    return actor_of(os.getuid(), login_uid())


def actor_of(uid: int, login: int | None) -> Opening:
    """The commitment to who somebody is, by user id and by the user id that logged in."""
    who = {"user": account(uid), "login_user": account(uid if login is None else login), "uid": uid}
    return commit("actor", json.dumps(who, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def login_uid() -> int | None:
    """The user id that logged in, as the kernel's audit keeps it (``/proc/self/loginuid``), or the one before sudo."""
    try:
        uid = int(pathlib.Path("/proc/self/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        uid = _NOBODY
    if uid != _NOBODY:
        return uid
    sudo = os.environ.get("SUDO_UID", "")
    return int(sudo) if sudo.isdecimal() and os.getuid() == 0 else None


def account(uid: int) -> str:
    """The name of a user id, or the id where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def node() -> str:
    """The control node's name."""
    return socket.gethostname()


class Repositories:
    """The Git repositories that code comes from; they are asked in the background while Ansible starts."""

    def __init__(self, places: Iterable[tuple[str, str]]) -> None:
        """``places``: what for (``playbook``, ``inventory``) and a path in the repository."""
        self._asked: list[tuple[str, pathlib.Path, subprocess.Popen[str]]] = []
        tops: dict[pathlib.Path, str] = {}
        for role, place in places:
            top = top_of(place)
            if top is None or top in tops:
                continue
            tops[top] = role
            # One command that says both: the commit, and a line for each change.
            command = ["git", "-C", str(top), "status", "--porcelain=v2", "--branch", "--untracked-files=normal"]
            # Variables of Git's (GIT_DIR, GIT_INDEX_FILE, GIT_CONFIG_…) could have it answer about something else.
            environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
            environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
            try:
                asked = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    errors="replace",
                    env=environment,
                    start_new_session=True,
                )
            except OSError:
                continue  # no git here: then the trail says nothing about commits
            self._asked.append((role, top, asked))

    def answers(self) -> list[dict[str, t.Any]]:
        """For each repository: role, name, commit, dirty."""
        found = []
        for role, top, asked in self._asked:
            try:
                output, _errors = asked.communicate(timeout=GIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                asked.kill()
                asked.communicate()
                output = ""
            found.append({"role": role, "name": top.name} | parse_status(output))
        return found


def top_of(place: str) -> pathlib.Path | None:
    """The top directory of the Git work tree that a path is in."""
    path = pathlib.Path(place).resolve()
    return next((directory for directory in (path, *path.parents) if (directory / ".git").exists()), None)


def parse_status(output: str) -> dict[str, t.Any]:
    """Commit and dirty from ``git status --porcelain=v2 --branch``; what cannot be told counts as dirty."""
    commit_id, dirty = "", False
    for line in output.splitlines():
        if line.startswith("# branch.oid "):
            commit_id = line.removeprefix("# branch.oid ")
        elif not line.startswith("#"):
            dirty = True
    known = len(commit_id) >= 40
    return {"commit": commit_id if known else "", "dirty": dirty or not known}


def collection_version() -> str:
    """The version of this collection: from its manifest when it was installed, from galaxy.yml in a checkout."""
    root = pathlib.Path(__file__).parents[3]
    for name in ("MANIFEST.json", "galaxy.yml"):
        try:
            text = (root / name).read_text("utf-8")
        except OSError:
            continue
        if found := _VERSION.search(text):
            return found[1]
    return ""


def why_ephemeral(directory: str, mounts: str, environment: Mapping[str, str]) -> str:
    """Why what is written to a directory will be gone soon; empty when nothing speaks for it.

    ``mounts`` is the text of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).
    """
    system = _file_system(directory, mounts)
    if system in _ON_DISK_FOR_A_WHILE:
        return f"it lies on {system}, which ends with the container or the machine's next start"
    named = next((name for name in _CI_VARIABLES if environment.get(name, "").lower() not in ("", "0", "false")), "")
    return f"this is a CI job ({named} is set), whose files end with it" if named else ""


def _file_system(directory: str, mounts: str) -> str:
    path = os.path.realpath(directory)
    best, system = -1, ""
    for line in mounts.splitlines():
        left, separator, right = line.partition(" - ")
        fields = left.split()
        if not separator or len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])  # blanks are written so
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, system = len(point), right.split()[0]
    return system
