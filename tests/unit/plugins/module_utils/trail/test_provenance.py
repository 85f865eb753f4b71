# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who runs what, from where; Git and the kernel are played here."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import subprocess
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import provenance

COMMIT = "0123456789abcdef0123456789abcdef01234567"


# ── Who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def files(monkeypatch: pytest.MonkeyPatch, contents: dict[str, str]) -> None:
    """Have some files say something else, or be missing (none)."""
    honest = pathlib.Path.read_text

    def read_text(path: pathlib.Path, *arguments: t.Any, **more: t.Any) -> str:
        if str(path) not in contents:
            return honest(path, *arguments, **more)
        if not contents[str(path)]:
            raise FileNotFoundError(path)
        return contents[str(path)]

    monkeypatch.setattr(pathlib.Path, "read_text", read_text)


@pytest.mark.parametrize(
    ("kernel", "sudo", "uid", "found"),
    [
        ("1000", "", 0, 1000),
        ("1000", "1001", 0, 1000),  # the kernel knows better
        ("4294967295", "1001", 0, 1001),
        ("4294967295", "", 0, None),
        ("4294967295", "1001", 1002, None),  # only root was somebody else before
        ("4294967295", "root", 0, None),
        ("", "1001", 0, 1001),
        ("text", "", 0, None),
    ],
)
def test_who_has_logged_in(
    monkeypatch: pytest.MonkeyPatch, kernel: str, sudo: str, uid: int, found: int | None
) -> None:
    files(monkeypatch, {"/proc/self/loginuid": kernel})
    monkeypatch.setenv("SUDO_UID", sudo)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert provenance.login_uid() == found


def test_the_actor_is_only_committed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {0: "root", 1000: "ada"}

    def account(uid: int) -> t.Any:
        return type("Account", (), {"pw_name": names[uid]})

    monkeypatch.setattr(pwd, "getpwuid", account)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for login, name in ((1000, "ada"), (4711, "4711"), (None, "root")):
        monkeypatch.setattr(provenance, "login_uid", lambda login=login: login)
        opening = provenance.actor()
        assert opening.kind == "actor"
        assert json.loads(opening.value) == {"user": "root", "login_user": name, "uid": 0}
        assert "ada" not in opening.commitment


def test_the_node_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "control-1")
    assert provenance.node() == "control-1"


# ── From which code ──────────────────────────────────────────────────────────────────────────────────────────────────


class Git:
    """Plays ``git``."""

    asked: t.ClassVar[list[tuple[list[str], dict[str, str]]]] = []
    says = ""
    hangs = False

    def __init__(self, command: list[str], env: dict[str, str], **more: t.Any) -> None:
        assert more["stdin"] == more["stderr"] == subprocess.DEVNULL
        self.asked.append((command, env))
        self.killed = False

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        if self.hangs and not self.killed:
            raise subprocess.TimeoutExpired("git", timeout or 0)
        return self.says, None

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch) -> type[Git]:
    made = type("Played", (Git,), {"asked": []})
    monkeypatch.setattr(subprocess, "Popen", made)
    return made


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "project"
    (made / ".git").mkdir(parents=True)
    (made / "playbooks").mkdir()
    return made


def test_each_repository_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, git: type[Git], project: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere/.git")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    (tmp_path / "link").symlink_to(project)
    git.says = f"# branch.oid {COMMIT}\n# branch.head main\n"
    places = [
        ("playbook", str(project / "playbooks")),
        ("inventory", str(tmp_path / "link/hosts")),
        ("x", str(tmp_path)),
    ]
    found = provenance.Repositories(places).answers()
    assert found == [{"role": "playbook", "name": "project", "commit": COMMIT, "dirty": False}]
    ((command, environment),) = git.asked
    assert command[:3] == ["git", "-C", str(project)] and "--porcelain=v2" in command
    assert [key for key in environment if key.startswith("GIT_")] == ["GIT_OPTIONAL_LOCKS"]
    assert environment["PATH"] == os.environ["PATH"]


def test_git_that_hangs_does_not_hang_the_run(git: type[Git], project: pathlib.Path) -> None:
    git.hangs, git.says = True, "# half"
    found = provenance.Repositories([("playbook", str(project))]).answers()
    assert found == [{"role": "playbook", "name": "project", "commit": "", "dirty": True}]


def test_without_git_nothing_is_said(monkeypatch: pytest.MonkeyPatch, project: pathlib.Path) -> None:
    def missing(*arguments: t.Any, **more: t.Any) -> t.NoReturn:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "Popen", missing)
    assert provenance.Repositories([("playbook", str(project))]).answers() == []


@pytest.mark.parametrize(
    ("output", "commit", "dirty"),
    [
        (f"# branch.oid {COMMIT}\n", COMMIT, False),
        (f"# branch.oid {COMMIT}\n1 .M N... 100644 x\n", COMMIT, True),
        (f"# branch.oid {COMMIT}\n? new.yml\n", COMMIT, True),
        ("# branch.oid (initial)\n", "", True),
        ("", "", True),
    ],
)
def test_what_git_says(output: str, commit: str, dirty: bool) -> None:
    assert provenance.parse_status(output) == {"commit": commit, "dirty": dirty}


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        ({"MANIFEST.json": '{"collection_info": {\n  "version": "1.2.3",\n}}'}, "1.2.3"),
        ({"galaxy.yml": "name: ops\nversion: 0.2.0\n"}, "0.2.0"),
        ({"MANIFEST.json": "{}", "galaxy.yml": 'version: "0.3.0"\n'}, "0.3.0"),
        ({}, ""),
    ],
)
def test_the_version_of_the_collection(monkeypatch: pytest.MonkeyPatch, contents: dict[str, str], found: str) -> None:
    root = pathlib.Path(provenance.__file__).parents[3]
    files(monkeypatch, {str(root / name): contents.get(name, "") for name in ("MANIFEST.json", "galaxy.yml")})
    assert provenance.collection_version() == found


def test_this_collection_has_a_version() -> None:
    assert provenance.collection_version().count(".") == 2


# ── Whether it will last ─────────────────────────────────────────────────────────────────────────────────────────────


def mounts(**types: str) -> str:
    """The text of mountinfo, by mount point (``_`` for a slash)."""
    lines = ["garbage", "1 2"]
    for number, (point, system) in enumerate(types.items()):
        lines.append(f"{number} 1 0:1 / {point.replace('_', '/')} rw shared:1 - {system} none rw")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("directory", "text", "why"),
    [
        ("/var/lib/trail", mounts(_="ext4"), ""),
        ("/var/lib/trail", mounts(_="overlay"), "overlay"),
        ("/var/lib/trail", mounts(_="overlay", _var_lib="ext4"), ""),
        ("/var/lib/trail", mounts(_="ext4", _var="tmpfs"), "tmpfs"),
        ("/var/lib/trail", mounts(_="ext4", _va="tmpfs"), ""),
        ("/var/lib/trail", mounts(_var="tmpfs", _="ext4"), "tmpfs"),
        ("/var/lib/trail", mounts(_var="ext4") + "\n" + mounts(_var="tmpfs"), "tmpfs"),  # the later lies above
        ("/var/my trail/x", mounts(_="ext4") + "\n9 1 0:1 / /var/my\\040trail rw - tmpfs none rw", "tmpfs"),
        ("/var/büro/x", mounts(_="ext4") + "\n9 1 0:1 / /var/büro rw - tmpfs none rw", "tmpfs"),
        ("/var/lib/trail", "", ""),
    ],
)
def test_where_files_end_with_the_machine(directory: str, text: str, why: str) -> None:
    told = provenance.why_ephemeral(directory, text, {})
    assert (f"it lies on {why}," in told) if why else told == ""


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"CI": "true"}, "CI"),
        ({"CI": "false"}, ""),
        ({"CI": "", "GITLAB_CI": "1"}, "GITLAB_CI"),
        ({"JENKINS_URL": "https://ci.example.org"}, "JENKINS_URL"),
        ({"CIRCUS": "true"}, ""),
    ],
)
def test_where_files_end_with_a_job(environment: dict[str, str], named: str) -> None:
    told = provenance.why_ephemeral("/x", mounts(_="ext4"), environment)
    assert (f"({named} is set)" in told) if named else told == ""
