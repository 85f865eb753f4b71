# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions to the trail, as a playbook asks them."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.modules import trail_info
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, RUN_B, RUN_C, RUN_D, SECRET, Made


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def ask(original: Made, run_module: t.Any) -> t.Callable[..., dict[str, t.Any]]:
    return lambda **given: run_module(trail_info.main, directory=str(original.directory), **given)


def test_runs_come_newest_first_and_in_pages(ask: t.Callable[..., dict[str, t.Any]], original: Made) -> None:
    answer = ask(limit=3)
    assert [run["run"] for run in answer["runs"]] == [RUN_D, RUN_C, RUN_B]
    assert (answer["changed"], answer["size"]) == (False, 34)
    assert answer["origin"] == original.entries()[0]["origin"]
    rest = ask(limit=3, before=answer["next"])
    assert [run["run"] for run in rest["runs"]] == [RUN_A]
    assert rest["next"] is None


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"run": RUN_A}, [RUN_A]),
        ({"change_id": "CHG-2"}, [RUN_C]),
        ({"host": "db01"}, [RUN_B]),
        ({"status": "open"}, [RUN_D]),
        ({"user": "bert"}, [RUN_B]),
        ({"playbook": "site.yml"}, [RUN_A]),
        ({"command": "ansible"}, [RUN_B]),
        ({"since": "2026-03-01T10:10:00Z", "until": "2026-03-01T11:15:00+01:00"}, [RUN_B]),
        ({"since": "1s"}, []),
    ],
)
def test_each_filter_counts(ask: t.Callable[..., dict[str, t.Any]], given: dict[str, t.Any], found: list[str]) -> None:
    assert [run["run"] for run in ask(**given)["runs"]] == found


def test_changes_of_a_host_and_failures_are_entries(ask: t.Callable[..., dict[str, t.Any]]) -> None:
    answer = ask(about="entries", host="web01", changed=True)
    assert [value["task"] for value in answer["entries"]] == ["t1"]
    assert "openings" not in answer
    assert [value["host"] for value in ask(about="entries", failed=True)["entries"]] == ["db02", "db01", "web01"]
    assert [value["seq"] for value in ask(about="entries", type="gap", change_id="CHG-2")["entries"]] == [29]


def test_commitments_are_opened_on_request(ask: t.Callable[..., dict[str, t.Any]], original: Made) -> None:
    answer = ask(about="entries", run=RUN_A, openings=True)
    assert answer["openings"] == {
        original.openings["anna"].commitment: '{"login_user":"anna","uid":1000,"user":"anna"}',
        original.openings["diff"].commitment: SECRET,
    }


def test_a_story_is_told(ask: t.Callable[..., dict[str, t.Any]]) -> None:
    assert ask(about="story", run=RUN_A)["story"][0].split() == ["Run", RUN_A]
    assert ask(about="story", language="de")["story"][0].split() == ["Lauf", RUN_D]
    assert ask(about="story", run="x")["msg"].endswith("has no run x; what was archived is not found here.")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"type": "gap"}, "type"),
        ({"about": "entries", "user": "anna"}, "user"),
        ({"about": "story", "limit": 3}, "limit"),
        ({"about": "entries", "language": "de"}, "language"),
        ({"failed": True}, "failed"),
    ],
)
def test_a_filter_that_says_nothing_is_refused(
    ask: t.Callable[..., dict[str, t.Any]], given: dict[str, t.Any], name: str
) -> None:
    answer = ask(**given)
    assert answer["failed"]
    assert answer["msg"].startswith(f"{name} says nothing about {given.get('about', 'runs')}; leave it out")


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_page_has_a_size(ask: t.Callable[..., dict[str, t.Any]], limit: int) -> None:
    assert ask(limit=limit)["msg"] == f"limit is {limit}; it must be from 1 to 10000."


def test_what_is_wrong_is_said_in_a_sentence(
    ask: t.Callable[..., dict[str, t.Any]], run_module: t.Any, tmp_path: pathlib.Path
) -> None:
    assert ask(since="yesterday")["msg"].startswith("'yesterday' is no point in time; write 2026-03-01")
    missing = run_module(trail_info.main, directory=str(tmp_path / "none"))
    assert missing["msg"].startswith(f"There is no trail in {tmp_path / 'none'}")
