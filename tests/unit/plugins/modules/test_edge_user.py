# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules write real files; what may be in them is tested with edge_users."""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import pathlib
import re
import sys
import threading
import typing as t

import bcrypt
import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils import edge_user_files
from ansible_collections.flowaudit.ops.plugins.modules import edge_user, edge_user_info

ROLES = ["user", "trainer", "admin"]
PASSWORD = "correct horse battery"
# htpasswd -nbB -C 10 anna 'correct horse battery', by apache2-utils 2.4.71
HTPASSWD = "$2y$10$bjj.RftEjF.kWyG6zvuoX.OG3s1Uollq4.PRoQdd5BibmAZ4cp5GC"

Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "users"
    directory.mkdir()
    for file in ("passwords", "roles", "tokens"):
        (directory / file).write_text("")
        (directory / file).chmod(0o640)
    return directory


@pytest.fixture
def user(directory: pathlib.Path, run_module: t.Any) -> Run:
    def run(name: str = "anna", **arguments: t.Any) -> dict[str, t.Any]:
        result: dict[str, t.Any] = run_module(
            edge_user.main, **{"name": name, "roles": ROLES, "directory": str(directory), **arguments}
        )
        return result

    return run


def texts(directory: pathlib.Path) -> dict[str, str]:
    assert sorted(path.name for path in directory.iterdir()) == ["passwords", "roles", "tokens"]
    return {path.name: path.read_text() for path in directory.iterdir()}


def stored(directory: pathlib.Path, name: str = "anna") -> str:
    [line] = [line for line in texts(directory)["passwords"].splitlines() if line.startswith(f"{name}:")]
    return line.partition(":")[2]


# ── users ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_is_added_once(user: Run, directory: pathlib.Path) -> None:
    first = user(role="trainer", password=PASSWORD)
    assert first["changed"] is True
    assert first["user"] == {"name": "anna", "role": "trainer", "has_password": True, "has_token": False}
    assert "token" not in first
    after = texts(directory)
    assert after["roles"] == "anna trainer\n"
    assert after["tokens"] == ""
    assert re.fullmatch(r"anna:\$2y\$10\$[./A-Za-z0-9]{53}\n", after["passwords"])
    second = user(role="trainer", password=PASSWORD)
    assert second["changed"] is False
    assert second["diff"]["before"] == second["diff"]["after"] == "anna: trainer (password)\n"
    assert texts(directory) == after


def test_the_hash_is_one_of_bcrypt(user: Run, directory: pathlib.Path) -> None:
    user(role="user", password=PASSWORD)
    assert bcrypt.checkpw(PASSWORD.encode(), stored(directory).encode())
    assert not bcrypt.checkpw(b"another", stored(directory).encode())


def test_a_hash_of_htpasswd_is_known(user: Run, directory: pathlib.Path) -> None:
    (directory / "passwords").write_text(f"anna:{HTPASSWD}\n")
    (directory / "roles").write_text("anna user\n")
    assert user(password=PASSWORD)["changed"] is False
    assert user(password=PASSWORD + "!")["changed"] is True


def test_a_hash_apache_would_hand_to_another_library_is_made_anew(user: Run, directory: pathlib.Path) -> None:
    (directory / "passwords").write_text(f"anna:{HTPASSWD.replace('$2y$', '$2b$')}\n")
    (directory / "roles").write_text("anna user\n")
    assert user(password=PASSWORD)["changed"] is True
    assert stored(directory).startswith("$2y$10$")


def test_another_password_replaces_the_hash(user: Run, directory: pathlib.Path) -> None:
    user(role="user", password=PASSWORD)
    result = user(password="another password")
    assert result["changed"] is True
    assert bcrypt.checkpw(b"another password", stored(directory).encode())
    assert (result["diff"]["before"], result["diff"]["after"]) == (
        "anna: user (password)\n",
        "anna: user (new password)\n",
    )


def test_another_cost_is_another_hash(user: Run, directory: pathlib.Path) -> None:
    user(role="user", password=PASSWORD)
    assert user(password=PASSWORD, cost=11)["changed"] is True
    assert stored(directory).startswith("$2y$11$")
    assert user(password=PASSWORD, cost=11)["changed"] is False


def test_a_password_of_72_bytes_counts_to_its_last(user: Run, directory: pathlib.Path) -> None:
    user(role="user", password="ä" * 36)
    assert user(password="ä" * 35 + "ö")["changed"] is True


def test_a_role_changes_alone(user: Run, directory: pathlib.Path) -> None:
    user(role="user", password=PASSWORD, token="new")
    before = texts(directory)
    result = user(role="admin")
    after = texts(directory)
    assert result["changed"] is True
    assert after == {
        "passwords": before["passwords"],
        "roles": "anna admin\n",
        "tokens": before["tokens"].replace("anna:user", "anna:admin"),
    }
    assert (result["diff"]["before"], result["diff"]["after"]) == (
        "anna: user (password, token)\n",
        "anna: admin (password, token)\n",
    )


def test_a_user_is_removed_once_and_the_others_stay(user: Run, directory: pathlib.Path) -> None:
    user("berta", role="user", password=PASSWORD)
    before = texts(directory)
    user(role="admin", password=PASSWORD, token="new")
    result = user(state="absent")
    assert (result["changed"], result["user"]) == (True, {})
    assert (result["diff"]["before"], result["diff"]["after"]) == ("anna: admin (password, token)\n", "")
    assert texts(directory) == before
    assert user(state="absent")["changed"] is False


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_is_returned_once_and_its_digest_kept(user: Run, directory: pathlib.Path) -> None:
    result = user(role="user", token="new")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", result["token"])
    digest = hashlib.sha256(result["token"].encode()).hexdigest()
    assert texts(directory) == {"passwords": "", "roles": "anna user\n", "tokens": f"{digest} anna:user\n"}
    assert result["user"] == {"name": "anna", "role": "user", "has_password": False, "has_token": True}
    again = user()
    assert again["changed"] is False
    assert "token" not in again


def test_a_new_token_takes_the_place_of_the_old_one(user: Run, directory: pathlib.Path) -> None:
    first = user(role="user", token="new")
    second = user(token="new")
    assert second["changed"] is True
    assert second["token"] != first["token"]
    assert texts(directory)["tokens"].count("\n") == 1
    assert second["diff"]["after"] == "anna: user (new token)\n"


def test_a_token_can_go_when_there_is_a_password(user: Run, directory: pathlib.Path) -> None:
    user(role="user", token="new")
    assert user(token="absent")["msg"] == (
        "User 'anna' would have neither password nor token; give one, or remove the user."
    )
    user(password=PASSWORD)
    assert user(token="absent")["changed"] is True
    assert texts(directory)["tokens"] == ""
    assert user(token="absent")["changed"] is False


# ── check mode, diff and secrets ────────────────────────────────────────────────────────────────────────────────────

DEEDS: dict[str, dict[str, t.Any]] = {
    "nothing": {},
    "role": {"role": "admin"},
    "same password": {"password": PASSWORD},
    "password": {"password": "another password"},
    "token": {"token": "new"},
    "removal": {"state": "absent"},
    "addition": {"name": "carl", "role": "user", "password": PASSWORD},
}


@pytest.mark.parametrize("deed", DEEDS)
def test_check_mode_says_what_a_run_does_and_does_nothing(deed: str, user: Run, directory: pathlib.Path) -> None:
    user(role="user", password=PASSWORD)
    before = texts(directory)
    said = user(**DEEDS[deed], _ansible_check_mode=True)
    assert texts(directory) == before
    assert "token" not in said
    done = user(**DEEDS[deed])
    assert [said[key] for key in ("changed", "user", "diff")] == [done[key] for key in ("changed", "user", "diff")]
    assert done["changed"] == (texts(directory) != before)


def test_no_result_holds_a_password_or_a_hash(user: Run, directory: pathlib.Path) -> None:
    for arguments in ({"role": "user", "password": PASSWORD}, {"password": "another password"}, {"state": "absent"}):
        result = json.dumps(user(**arguments, _ansible_diff=True))
        assert "$2y$" not in result
        assert PASSWORD not in result
        assert "another password" not in result


# ── the files ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_owner_and_mode_of_the_files_stay(user: Run, directory: pathlib.Path) -> None:
    owner = (70081, 70082) if os.getuid() == 0 else (os.getuid(), os.getgid())
    for path in directory.iterdir():
        os.chown(path, *owner)
    inodes = {path.name: path.stat().st_ino for path in directory.iterdir()}
    user(role="user", password=PASSWORD, token="new")
    for path in directory.iterdir():
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (*owner, 0o640)
        # Moved into place, so a reader sees the old file or the new one.
        assert status.st_ino != inodes[path.name]


@pytest.mark.parametrize("file", ["passwords", "roles", "tokens"])
@pytest.mark.parametrize("main", [edge_user.main, edge_user_info.main])
def test_a_foreign_line_stops_everything(
    file: str, main: t.Callable[[], None], directory: pathlib.Path, run_module: t.Any
) -> None:
    (directory / file).write_bytes(b"m\xfcller:secret\n")
    before = (directory / file).read_bytes()
    arguments = {"name": "anna", "role": "user", "roles": ROLES, "token": "new"} if main is edge_user.main else {}
    result = run_module(main, directory=str(directory), **arguments)
    assert result["msg"].startswith(f"Line 1 of {directory}/{file} is not of the form ")
    assert "secret" not in result["msg"]
    assert (directory / file).read_bytes() == before


@pytest.mark.parametrize("missing", ["", "passwords", "roles", "tokens"])
@pytest.mark.parametrize("main", [edge_user.main, edge_user_info.main])
def test_without_its_files_there_is_nothing_to_keep(
    missing: str, main: t.Callable[[], None], directory: pathlib.Path, run_module: t.Any
) -> None:
    place = directory / missing if missing else directory.with_name("nowhere")
    if missing:
        place.unlink()
    arguments = {"name": "anna", "state": "absent"} if main is edge_user.main else {}
    result = run_module(main, directory=str(place.parent if missing else place), **arguments)
    assert result["msg"] == f"{place} is missing; run the playbook flowaudit.ops.site first."


def test_a_file_that_cannot_be_read_is_named(user: Run, directory: pathlib.Path) -> None:
    (directory / "roles").unlink()
    (directory / "roles").mkdir()
    assert user(state="absent")["msg"] == f"{directory}/roles cannot be read: Is a directory."


def test_a_file_that_cannot_be_moved_leaves_nothing_behind(directory: pathlib.Path) -> None:
    def fail(source: str, target: str) -> None:
        raise OSError("no")

    before = texts(directory)
    with pytest.raises(OSError, match="no"):
        edge_user_files.replace(str(directory), "roles", "anna user\n", fail)
    assert texts(directory) == before


def test_a_run_waits_for_another(user: Run, directory: pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def finish() -> None:
        (directory / "roles").write_text("berta user\n")
        (directory / "passwords").write_text(f"berta:{HTPASSWD}\n")
        os.close(descriptor)

    timer = threading.Timer(0.3, finish)
    timer.start()
    user(role="user", token="new")
    timer.join()
    assert texts(directory)["roles"] == "berta user\nanna user\n"


# ── bcrypt ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_bcrypt() -> t.Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bcrypt", None)
        importlib.reload(edge_user)
        yield
    importlib.reload(edge_user)


@pytest.mark.usefixtures("no_bcrypt")
def test_without_bcrypt_a_password_fails_and_a_token_does_not(user: Run) -> None:
    assert "Failed to import the required Python library (bcrypt)" in user(role="user", password=PASSWORD)["msg"]
    assert user(role="user", token="new")["changed"] is True


@pytest.mark.usefixtures("no_bcrypt")
def test_without_bcrypt_check_mode_says_what_a_run_would_do_that_installs_it(
    user: Run, directory: pathlib.Path
) -> None:
    before = texts(directory)
    result = user(role="user", password=PASSWORD, _ansible_check_mode=True)
    assert (result["changed"], result["diff"]["after"]) == (True, "anna: user (new password)\n")
    assert texts(directory) == before


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"role": "auditor"}, "role is 'auditor'; the roles are user, trainer, admin."),
        ({"password": "short"}, "The password of 'anna' has 5 characters; give it 12 or more."),
        ({"password": PASSWORD}, "User 'anna' has no role yet; give one."),
        ({"role": "user"}, "User 'anna' would have neither password nor token; give one, or remove the user."),
        ({"cost": 9}, "cost is 9; give a number from 10 to 14."),
        ({"cost": 15}, "cost is 15; give a number from 10 to 14."),
        ({"role": "user", "roles": None}, "missing parameter(s) required by 'role': roles"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_written(
    arguments: dict[str, t.Any], message: str, user: Run, directory: pathlib.Path
) -> None:
    before = texts(directory)
    assert user(**arguments)["msg"] == message
    assert texts(directory) == before


# ── the list ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_has_names_roles_and_means(user: Run, directory: pathlib.Path, run_module: t.Any) -> None:
    user("berta", role="user", token="new")
    user(role="admin", password=PASSWORD)
    result = run_module(edge_user_info.main, directory=str(directory))
    assert result["changed"] is False
    assert result["users"] == [
        {"name": "anna", "role": "admin", "has_password": True, "has_token": False},
        {"name": "berta", "role": "user", "has_password": False, "has_token": True},
    ]
