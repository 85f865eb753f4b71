# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files on a real file system: written when they differ, and only then."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.flowaudit.ops.plugins.modules import write_files


def entry(path: pathlib.Path, content: str = "one\n", **more: t.Any) -> dict[str, t.Any]:
    return {"path": str(path), "content": content, **more}


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_their_directories_are_made_once(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    files = [entry(tmp_path / "a/b/first.conf"), entry(tmp_path / "second.conf", "zwei ä\n", mode="0440")]
    result = run_module(write_files.main, files=files)
    assert result["changed"]
    assert result["written"] == [file["path"] for file in files]
    assert (tmp_path / "a/b/first.conf").read_text() == "one\n"
    assert mode(tmp_path / "a/b/first.conf") == 0o644
    assert mode(tmp_path / "a/b") == 0o755
    assert (tmp_path / "second.conf").read_text(encoding="utf-8") == "zwei ä\n"
    assert mode(tmp_path / "second.conf") == 0o440
    inode = (tmp_path / "second.conf").stat().st_ino
    again = run_module(write_files.main, files=files)
    assert (again["changed"], again["written"], again["diff"]) == (False, [], [])
    assert (tmp_path / "second.conf").stat().st_ino == inode
    assert sorted(os.listdir(tmp_path)) == ["a", "second.conf"]


def test_a_file_that_differs_is_replaced_and_shown(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    path = tmp_path / "file.conf"
    path.write_text("two\n")
    result = run_module(write_files.main, files=[entry(path)])
    assert path.read_text() == "one\n"
    assert result["diff"] == [
        {"before_header": str(path), "before": "two\n", "after_header": str(path), "after": "one\n"}
    ]


def test_other_permissions_are_a_change(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    path = tmp_path / "file.conf"
    path.write_text("one\n")
    path.chmod(0o666)
    result = run_module(write_files.main, files=[entry(path)])
    assert result["changed"]
    assert result["diff"] == [{"prepared": f"{path}: permissions become 0644\n"}]
    assert mode(path) == 0o644


def test_check_mode_says_so_and_writes_nothing(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    result = run_module(write_files.main, files=[entry(tmp_path / "a/file.conf")], _ansible_check_mode=True)
    assert result["changed"]
    assert result["diff"][0]["before_header"] == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [0, 1])
def test_what_a_validation_refuses_is_not_written(
    tmp_path: pathlib.Path, run_module: t.Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    commands = []

    def run_command(self: AnsibleModule, command: list[str]) -> tuple[int, str, str]:
        commands.append(command)
        assert pathlib.Path(command[1]).read_text() == "one\n"
        return status, "", "line 1: no such setting\n"

    monkeypatch.setattr(AnsibleModule, "run_command", run_command)
    path = tmp_path / "file.conf"
    result = run_module(write_files.main, files=[entry(path, validate="checker %s --strict")])
    assert [command[::2] for command in commands] == [["checker", "--strict"]]
    assert path.exists() is (status == 0)
    assert os.listdir(tmp_path) == (["file.conf"] if status == 0 else [])
    if status:
        assert result["msg"].endswith("refuses the new content: line 1: no such setting")


def test_a_wrong_mode_is_refused(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    result = run_module(write_files.main, files=[entry(tmp_path / "file.conf", mode="u=rw")])
    assert result["msg"].endswith("has the mode 'u=rw'; write an octal number, such as '0644'.")


def test_a_directory_in_the_way_is_refused(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    result = run_module(write_files.main, files=[entry(tmp_path)])
    assert result["msg"] == f"{tmp_path} is a directory; remove it, or name another file."
