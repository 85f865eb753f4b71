# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long playbooks may take."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import runbook
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError


def write(top: pathlib.Path, name: str, *plays: t.Any) -> None:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(list(plays)))


def takes(seconds: t.Any) -> dict[str, t.Any]:
    return {"hosts": "all", "vars": {"runbook": {"max_duration": seconds}}}


def seconds(top: pathlib.Path, *names: str) -> float:
    return runbook.duration(names, top).total_seconds()


def test_the_plays_of_all_playbooks_count(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.yml", takes(60), takes(30), {"hosts": "all"})
    write(tmp_path, "b/b.yml", takes(5))
    assert seconds(tmp_path, "a.yml", "b/b.yml", "ansible") == 95


def test_what_is_imported_counts(tmp_path: pathlib.Path) -> None:
    imports = ["c.yml", "flowaudit.ops.deploy", "of.another.collection", "{{ some }}.yml"]
    write(tmp_path, "b/b.yml", *({"ansible.builtin.import_playbook": name} for name in imports))
    write(tmp_path, "a.yml", {"import_playbook": "b/b.yml"}, takes(1))
    write(tmp_path, "b/c.yml", takes(10))
    assert seconds(tmp_path, "a.yml") == 11 + seconds(tmp_path, "flowaudit.ops.deploy")


def test_the_runbooks_of_this_collection_say_it(tmp_path: pathlib.Path) -> None:
    assert runbook.duration(["flowaudit.ops.rollback"], tmp_path) == datetime.timedelta(minutes=5)


@pytest.mark.parametrize("said", [None, "60", 1.5, [60]])
def test_what_is_no_number_of_seconds_says_nothing(tmp_path: pathlib.Path, said: t.Any) -> None:
    write(tmp_path, "a.yml", takes(said), {"hosts": "all", "vars": ["x"]}, {"vars": {"runbook": "x"}}, "play")
    assert seconds(tmp_path, "a.yml") == 0


@pytest.mark.parametrize("content", ["", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "- hosts: all\n  vars: !vault x\n"])
def test_what_cannot_be_read_without_a_password_says_nothing(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "a.yml").write_text(content)
    assert seconds(tmp_path, "a.yml") == 0


@pytest.mark.parametrize("said", [-1, 10**30])
def test_what_no_run_takes_is_refused(tmp_path: pathlib.Path, said: int) -> None:
    write(tmp_path, "a.yml", takes(said))
    with pytest.raises(FlowauditError, match="says that it takes"):
        seconds(tmp_path, "a.yml")


def test_what_lies_elsewhere_is_not_read(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.yml", takes(60))
    (tmp_path / "top").mkdir()
    assert seconds(tmp_path / "top", str(tmp_path / "a.yml"), "../a.yml", "flowaudit.ops.../a") == 0


def test_a_name_that_no_file_can_have_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match="cannot be looked for: File name too long"):
        seconds(tmp_path, f"{'a' * 300}.yml")


def test_what_imports_itself_is_refused(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a.yml", {"import_playbook": "b.yml"})
    write(tmp_path, "b.yml", {"import_playbook": "a.yml"}, {"import_playbook": "b.yml"}, {"import_playbook": "b.yml"})
    with pytest.raises(FlowauditError, match=r"a\.yml imports more than 100 playbooks, itself perhaps"):
        seconds(tmp_path, "a.yml")


def test_what_is_no_yaml_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yml").write_text("a: [")
    with pytest.raises(FlowauditError, match="is no YAML"):
        seconds(tmp_path, "a.yml")
