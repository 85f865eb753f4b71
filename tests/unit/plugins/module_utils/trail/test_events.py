# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From what happened to the fields of an entry."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import events, redact

COPY = "ansible.builtin.copy"


def result(**fields: t.Any) -> events.Result:
    given: dict[str, t.Any] = {"task": "t1", "host": "h1", "status": "ok", "fqcn": COPY, "src": "site.yml:3"}
    return events.Result(**given | {"result": {}, "duration": 0.8124} | fields)


def fields_of(**fields: t.Any) -> dict[str, t.Any]:
    found, openings = result(**fields).fields(redact.Policy())
    assert openings == []
    return found


PLAIN = {
    "task": "t1",
    "host": "h1",
    "status": "ok",
    "fqcn": COPY,
    "src": "site.yml:3",
    "changed": False,
    "check": False,
    "dur_ms": 812,
}


def test_a_result_says_who_did_what_and_how_it_ended() -> None:
    assert fields_of() == PLAIN
    assert fields_of(duration=-1.0) == PLAIN | {"dur_ms": 0}
    more = fields_of(
        status="failed", changed=True, check=True, ignored=True, delegates=["h2", "h3"], result={"attempts": 3}
    )
    assert more == PLAIN | {
        "status": "failed",
        "changed": True,
        "check": True,
        "ignored": True,
        "delegate": "h2, h3",
        "attempts": 3,
    }
    assert fields_of(result={"attempts": True}) == PLAIN


def test_what_is_kept_of_it_is_the_policys_business() -> None:
    told = {"dest": "/etc/x", "mode": "0644", "content": "secret", "msg": "secret"}
    assert fields_of(result=told) == PLAIN | {"kept": {"dest": "/etc/x", "mode": "0644"}}


def test_no_log_is_absolute() -> None:
    items = {"ok": 1, "changed": 0, "failed": 0, "skipped": 0}
    told = {"dest": "/etc/x", "diff": {"before": "", "after": "secret"}, "attempts": 2}
    hidden = fields_of(no_log=True, keep_diff=True, items=items, result=told)
    assert hidden == PLAIN | {"no_log": True, "attempts": 2}


def test_a_diff_is_a_number_of_lines_unless_it_is_kept() -> None:
    told = {"diff": {"before": "a\n", "after": "a\nb\n"}}
    assert fields_of(result=told) == PLAIN | {"diff": {"added": 1, "removed": 0}}
    for kept, policy in ((True, redact.Policy()), (False, redact.Policy(diffs=frozenset({COPY})))):
        found, (opening,) = result(result=told, keep_diff=kept).fields(policy)
        assert found["diff"] == {"added": 1, "removed": 0}
        assert found["blobs"] == {"diff": [opening.commitment, len(opening.value)]}
        assert opening.kind == "diff" and opening.value.splitlines()[-1] == b"+b"
    assert fields_of(result={"diff": []}, keep_diff=True) == PLAIN


def test_the_diffs_of_a_loop_are_one_without_those_that_are_hidden() -> None:
    def item(*lines: str, **more: t.Any) -> dict[str, t.Any]:
        return {"diff": {"before": "", "after": "\n".join(lines)}, **more}

    results = [
        item("a"),
        item("b", _ansible_no_log=True),
        {"diff": [item("c", "d")["diff"]]},
        "text",
        {"changed": True},
    ]
    found, (opening,) = result(result={"results": results}, keep_diff=True).fields(redact.Policy())
    assert found["diff"] == {"added": 3, "removed": 0} and b"+b" not in opening.value
    assert "diff" not in fields_of(result={"results": "text"})


def test_the_items_of_a_loop_are_counted() -> None:
    items = events.Items()
    assert (items.counts, items.delegates) == ({}, [])
    items.add("ok", False, "h2")
    items.add("ok", True, "h3")
    items.add("failed", True, "h2")
    items.add("unreachable", False)
    items.add("skipped", False)
    assert items.counts == {"ok": 1, "changed": 1, "failed": 2, "skipped": 1}
    assert items.delegates == ["h2", "h3"]
    assert fields_of(items=items.counts) == PLAIN | {"items": items.counts}


def test_sources_do_not_tell_where_the_project_lies(tmp_path: pathlib.Path) -> None:
    project = tmp_path / "home" / "project"
    (project / "roles").mkdir(parents=True)
    (tmp_path / "link").symlink_to(project)
    base = str(project)
    assert events.source(f"{project}/roles/x.yml:3", base) == "roles/x.yml:3"
    assert events.source(f"{tmp_path}/link/roles/x.yml:3", base + "/") == "roles/x.yml:3"
    assert events.source("/home/ada/ansible_collections/acme/net/roles/r/tasks/main.yml:1", base) == (
        "acme.net/roles/r/tasks/main.yml:1"
    )
    assert events.source("/home/ada/elsewhere.yml:3", base) == "elsewhere.yml:3"
    assert events.source("/home/ada/elsewhere.yml:3", "") == "elsewhere.yml:3"
    assert events.source("", base) == ""


def test_a_host_may_be_anything() -> None:
    for name in ("db.example.org", "192.0.2.1", "2001:db8::1%eth0", "[2001:db8::1]", "büro-1"):
        assert events.host(name) == name
    for name in ("me:secret@h3", "secret of mine", "", "x" * 300, None):
        assert events.host(name) == redact.WITHHELD


def test_an_event_is_text_without_secrets() -> None:
    told = {"name": "Set the password of x", "data": {"größe": 3, "list": ["a"], "api_token": "secret", "rows": "42"}}
    assert events.event(told) == {
        "name": "Set the password of x",
        "data": {"gr\\xf6\\xdfe": "3", "list": "['a']", "api_token": "[withheld]", "rows": "42"},
    }
    # Twice is as good as once: the action does it, and the callback again.
    assert events.event(events.event(told)) == events.event(told)


@pytest.mark.parametrize("told", [None, "text", [], {"name": "x", "data": None}, {"name": "x"}])
def test_an_event_that_is_none_says_nothing(told: t.Any) -> None:
    assert events.event(told) == {"name": "x" if isinstance(told, dict) else "", "data": {}}


def test_a_name_is_as_it_is_written() -> None:
    assert events.name("Restart {{ service }}") == "Restart {{ service }}"
    assert events.name("Use token=abc") == "Use token=[withheld]"
    assert events.name(None) == events.name(["x"]) == ""
