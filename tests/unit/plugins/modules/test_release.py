# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules release and release_info on a made-up host: options in, result out, check mode, diff."""

from __future__ import annotations

import pathlib
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.modules import release, release_info
from ansible_collections.flowaudit.ops.tests.unit.plugins.release_host import (
    PUBLIC,
    RELEASES,
    FakeHost,
    compose_file,
    fake_host,
)


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    with fake_host(tmp_path / "host", monkeypatch) as host:
        host.install("1.0.0")
        monkeypatch.setattr(release, "runner", lambda module, lock: host.run)
        yield host


def options(host: FakeHost, release_id: str, colour: str = "green", **more: t.Any) -> dict[str, t.Any]:
    known = RELEASES.get(release_id)
    return {
        "release_id": release_id,
        "colour": colour,
        "compose_file": compose_file(known, colour) if known else "",
        "images": known.images if known else {},
        "actor": "ada",
        "application": {
            "public": PUBLIC,
            "background": ["worker"],
            "migration": "migrate",
            "upgrade": ["upgrade"],
            "downgrade": ["downgrade"],
            "schema": ["schema"],
        },
        "host": {
            "state_directory": host.records.directory,
            "project": "app",
            "project_directory": host.host.project_directory,
            "switch_file": host.host.switch_file,
            "edge_network": "edge",
            "incident_directory": host.host.incident_directory,
            "engine_directory": host.host.engine_directory,
        },
        "terms": {"settle": 0, "watch": 0, "free_disk": 0},
        "tests": {"health_service": "backend", "direct": [{"service": "backend", "path": "/api/health"}]},
        **more,
    }


def test_a_release_is_deployed_and_read_back(host: FakeHost, run_module: t.Any) -> None:
    result = run_module(release.main, **options(host, "1.1.0"))
    assert (result["changed"], result["release_id"], result["previous_id"]) == (True, "1.1.0", "1.0.0")
    assert result["diff"] == {"before": "1.0.0 (blue)\n", "after": "1.1.0 (green)\n"}
    assert (result["images"], result["git_commit"]) == (RELEASES["1.1.0"].images, RELEASES["1.1.0"].commit)
    found = run_module(release_info.main, state_directory=host.records.directory)
    assert found["current"] == {"release_id": "1.1.0", "colour": "green"}
    assert found["previous"] == {"release_id": "1.0.0", "colour": "blue"}
    assert (found["spare"], found["locked"], found["under_way"], found["problems"]) == ("blue", False, "", [])
    assert [each["release_id"] for each in found["releases"]] == ["1.1.0", "1.0.0"]
    assert found["releases"][0]["schema_head"] == "0002"
    again = run_module(release.main, **options(host, "1.1.0", "blue"))
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])


def test_check_mode_says_what_would_serve_and_changes_nothing(host: FakeHost, run_module: t.Any) -> None:
    before = host.switch_file.read_text()
    foreseen = run_module(release.main, _ansible_check_mode=True, **options(host, "1.1.0"))
    assert (foreseen["changed"], foreseen["release_id"]) == (True, "1.1.0")
    assert foreseen["diff"]["after"] == "1.1.0 (green)\n"
    assert (host.switch_file.read_text(), host.records.journal()) == (before, None)
    run_module(release.main, **options(host, "1.1.0"))
    back = run_module(release.main, _ansible_check_mode=True, **options(host, "", "blue", state="rolled_back"))
    assert (back["changed"], back["release_id"], back["migration_class"]) == (True, "1.0.0", "expand")
    same = run_module(release.main, _ansible_check_mode=True, **options(host, "1.1.0", "blue"))
    assert not same["changed"]
    refused = run_module(release.main, _ansible_check_mode=True, **options(host, "9.9.9", "blue"))
    assert (refused["failed"], "has no images" in refused["msg"]) == (True, True)


def test_a_failure_says_what_serves(host: FakeHost, run_module: t.Any) -> None:
    host.failing = {"upgrade": "lock timeout"}
    result = run_module(release.main, **options(host, "1.1.0"))
    assert (result["failed"], result["changed"]) == (True, False)
    assert result["msg"].endswith(
        "lock timeout (step migrate). 1.0.0 serves as before; its logs are in " + result["incident"] + "."
    )
    assert result["timings"]["migrate"] >= 0


def test_it_rolls_back(host: FakeHost, run_module: t.Any) -> None:
    run_module(release.main, **options(host, "1.1.0"))
    result = run_module(
        release.main, **{**options(host, "1.0.0", "blue"), "release_id": "", "images": {}, "state": "rolled_back"}
    )
    assert (result["changed"], result["release_id"], result["warm"]) == (True, "1.0.0", True)


def test_provisioning_records_what_it_brought(host: FakeHost, run_module: t.Any) -> None:
    again = options(host, "1.0.0", "blue", state="recorded")
    assert not run_module(release.main, **again)["changed"]
    pathlib.Path(host.records.releases, "1.0.0.json").write_text("edited")
    assert run_module(release.main, _ansible_check_mode=True, **again)["changed"]
    assert run_module(release.main, **again)["changed"]
    assert not run_module(release.main, **again)["changed"]


def test_migrations_may_come_from_the_inventory(host: FakeHost, run_module: t.Any) -> None:
    result = run_module(release.main, **options(host, "1.1.0", migrations="0001=none,0002=odd"))
    assert "classes" not in result["msg"]
    assert "with its class" in result["msg"]
    assert run_module(release.main, **options(host, "1.1.0", migrations="0001=none,0002=expand"))["changed"]


def test_a_fresh_host_has_no_release(tmp_path: pathlib.Path, run_module: t.Any) -> None:
    found = run_module(release_info.main, state_directory=str(tmp_path))
    assert (found["current"], found["previous"], found["spare"], found["releases"]) == ({}, {}, "green", [])
    (tmp_path / "current").write_text("{}")
    assert "does not name a release" in run_module(release_info.main, state_directory=str(tmp_path))["msg"]


def test_a_portal_that_is_no_address_is_refused(host: FakeHost, run_module: t.Any) -> None:
    wrong = options(host, "1.1.0")
    wrong["tests"] = {**wrong["tests"], "url": "portal"}
    assert "must start with https://" in run_module(release.main, **wrong)["msg"]


def test_programs_are_ended_in_time_and_keep_the_lock() -> None:
    calls = []

    class Module:
        @staticmethod
        def run_command(command: list[str], pass_fds: list[int] | None) -> tuple[int, str, str]:
            calls.append((command, pass_fds))
            return 0, "out", ""

    assert release.runner(Module(), 7)(["docker", "ps"], 30.9).output == "out"  # type: ignore[arg-type]
    release.runner(Module(), -1)(["docker", "ps"], 5)  # type: ignore[arg-type]
    assert calls == [
        (["timeout", "--kill-after=10", "30", "docker", "ps"], [7]),
        (["timeout", "--kill-after=10", "5", "docker", "ps"], None),
    ]
