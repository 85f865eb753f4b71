# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import tree
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError


@pytest.fixture
def top(tmp_path, monkeypatch):
    made = tmp_path / "top"
    made.mkdir()
    monkeypatch.chdir(made)  # the guard takes what a link says to be of the working directory
    for name in ("play.yml", "roles/web/tasks/main.yml", "changes/production/CHG-2026-0001/change.json"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / "link").symlink_to("play.yml")
    return made


def digest(top):
    return tree.digest(top, [top / "changes"])


@pytest.mark.parametrize(
    "deed",
    [
        lambda top: (top / "play.yml").write_text("other"),
        lambda top: (top / "play.yml").chmod(0o755),
        lambda top: (top / "roles").rename(top / "parts"),
        lambda top: (top / "more.yml").write_text(""),
        lambda top: (top / "roles/web/.hidden").write_text(""),
        lambda top: (top / "roles/web/tasks/main.yml").unlink(),
        lambda top: ((top / "link").unlink(), (top / "link").symlink_to("roles")),
        lambda top: ((top / "link").unlink(), shutil.copy(top / "play.yml", top / "link")),
    ],
)
def test_what_ansible_may_read_makes_another_digest(top, deed):
    before = digest(top)
    deed(top)
    assert digest(top) != before


@pytest.mark.parametrize(
    "deed",
    [
        lambda top: (top / "changes/production/other").write_text(""),
        lambda top: shutil.rmtree(top / "changes"),
        lambda top: (top / ".vault_password").write_text(""),
        lambda top: ((top / "roles/__pycache__").mkdir(), (top / "roles/__pycache__/x.pyc").write_text("")),
        lambda top: os.utime(top / "play.yml", (0, 0)),
        lambda top: (top / "empty").mkdir(),
        lambda top: (top / "play.yml").chmod(0o640),
    ],
)
def test_what_does_not_count_leaves_the_digest_as_it_is(top, deed):
    before = digest(top)
    assert before.startswith("sha256:") and len(before) == 71
    deed(top)
    assert digest(top) == before


def test_the_digest_is_of_the_place_a_link_leads_to(top, tmp_path):
    (tmp_path / "other").symlink_to(top)
    assert tree.digest(tmp_path / "other", [tmp_path / "other" / "changes"]) == digest(top)
    shutil.copytree(top, tmp_path / "copy", symlinks=True)
    assert digest(tmp_path / "copy") == digest(top)


def test_nothing_is_left_out_unless_it_is_said(top):
    before = tree.digest(top)
    (top / "changes/production/other").write_text("")
    assert tree.digest(top) != before


def test_a_link_that_leads_out_is_refused(top):
    (top / "out").symlink_to(top.parent)
    with pytest.raises(FlowauditError, match=r"top/out is a link that leads out of .*/top: nobody can approve"):
        digest(top)


def test_what_is_no_file_is_refused(top):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(top / "socket"))
    with pytest.raises(FlowauditError, match=r"top/socket is no file; take it away\."):
        digest(top)


def test_what_cannot_be_read_is_said(top, monkeypatch):
    with pytest.raises(FlowauditError, match=r"none cannot be read: No such file or directory\."):
        tree.digest(top / "none")

    # Root may read everything, so the kernel's answer is played.
    def refuse(path, *arguments, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(FlowauditError, match=r"link|play\.yml cannot be read: Permission denied\."):
        digest(top)


def test_what_is_covered_is_what_the_digest_looks_at(top):
    (top / ".tasks").mkdir()
    (top / "roles/__pycache__").mkdir()
    without = [top / "changes", top / "none"]
    (top / ".git").mkdir(exist_ok=True)
    for name in ("play.yml", "roles", "roles/web/tasks/main.yml", ".", ".tasks"):
        assert tree.covers(top, top / name, without), name
    for name in ("none", ".git", "changes", "changes/production", "roles/__pycache__", "link", ".."):
        assert not tree.covers(top, top / name, without), name


def test_bytecode_is_removed_where_ansible_would_load_it(top, monkeypatch):
    gone = ("roles/web/__pycache__/x.pyc", "plugins/filter/__pycache__/y.pyc")
    kept = ("changes/__pycache__/z.pyc", ".venv/__pycache__/z.pyc", "roles/z.pyc", "plugins/__pycache__/z.py")
    for name in (*gone, *kept):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    before = digest(top)
    tree.drop_bytecode(top, [top / "changes"])
    assert [name for name in (*gone, *kept) if (top / name).exists()] == list(kept)
    assert digest(top) == before
    (top / gone[0]).write_text("")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "unlink", refuse)
    with pytest.raises(FlowauditError, match=r"x\.pyc cannot be removed: Permission denied\."):
        tree.drop_bytecode(top, [top / "changes"])


def test_the_digest_of_a_collection_is_of_what_ansible_loads(tmp_path):
    for name in ("plugins/x.py", "roles/web/tasks/main.yml", "docs/x.md", "tests/x.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    before = tree.collection_digest(tmp_path)
    (tmp_path / "docs/x.md").write_text("other")
    (tmp_path / "MANIFEST.json").write_text("{}")
    assert tree.collection_digest(tmp_path) == before
    (tmp_path / "plugins/x.py").write_text("other")
    assert tree.collection_digest(tmp_path) != before


def test_this_collection_has_a_digest(collection):
    assert collection.startswith("sha256:")


# ── Git ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def uncommitted(project):
    return tree.uncommitted(project.top, project.top / "changes")


def test_what_is_not_committed_is_named(project):
    assert uncommitted(project) == []
    project.write("play.yml", "other")
    project.write("ünder way.yml", "new")
    project.write("changes/production/CHG-2026-0001/change.json", "{}")
    assert uncommitted(project) == ["play.yml", "ünder way.yml"]
    project.commit()
    assert uncommitted(project) == []


def test_changes_outside_of_the_repository_leave_nothing_out(project, tmp_path):
    project.write("changes/x", "")
    assert tree.uncommitted(project.top, tmp_path / "elsewhere") == ["changes/"]


def test_variables_of_git_do_not_mislead(project, tmp_path, monkeypatch):
    project.write("play.yml", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert uncommitted(project) == ["play.yml"]


def test_what_git_does_not_know_is_an_error(tools, tmp_path):
    with pytest.raises(
        FlowauditError, match=r"Git cannot say whether .* is as it was committed: .*not a git repository"
    ):
        tree.uncommitted(tmp_path, tmp_path / "changes")


@pytest.mark.parametrize(
    ("error", "message"),
    [(FileNotFoundError(2, "No such file"), "No such file"), (subprocess.TimeoutExpired("git", 30), "timed out")],
)
def test_no_answer_of_git_is_an_error(tmp_path, monkeypatch, error, message):
    def fail(*arguments, **more):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(FlowauditError, match=f"Git cannot say whether .* is as it was committed: .*{message}"):
        tree.uncommitted(tmp_path, tmp_path / "changes")


def test_git_that_fails_silently_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 1, "", ""))
    with pytest.raises(FlowauditError, match="is as it was committed: it did not say why"):
        tree.uncommitted(tmp_path, tmp_path / "changes")


def test_a_file_that_was_renamed_is_named(project):
    project.git("mv", "play.yml", "played.yml")
    assert set(uncommitted(project)) <= {"play.yml", "played.yml"}


def test_a_link_into_the_changes_is_refused(top):
    (top / "linked.yml").symlink_to("changes/tasks.yml")
    (top / "changes/tasks.yml").write_text("approved")
    with pytest.raises(FlowauditError, match=r"linked\.yml is a link that leads out of what is looked at"):
        digest(top)


def test_tasks_in_a_hidden_directory_count(top):
    (top / ".tasks").mkdir()
    (top / ".tasks/main.yml").write_text("approved")
    before = digest(top)
    (top / ".tasks/main.yml").write_text("other")
    assert digest(top) != before
