# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The change of a release, on a made-up host: what it does, what it refuses, and what a kill at any moment leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import random
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.release import sequence, switch, watch
from ansible_collections.flowaudit.ops.plugins.module_utils.release.records import Pointer
from ansible_collections.flowaudit.ops.tests.unit.plugins.release_host import RELEASES, FakeHost, Kill, fake_host


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    with fake_host(tmp_path / "host", monkeypatch) as host:
        host.install("1.0.0")
        yield host


def assert_at_rest(host: FakeHost, release_id: str) -> None:
    """The release serves, works, has the only worker, and nothing is under way."""
    current = host.records.current()
    assert current is not None
    assert (host.serving, current.release_id, host.workers) == (release_id, release_id, [release_id])
    assert host.records.journal() is None
    assert switch.colour_of(host.switch_file.read_text()) == current.colour
    found, problems = host.records.manifests()
    assert problems == []
    assert release_id in [each.release_id for each in found]


# ── Deploying ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_release_is_deployed_beside_the_old_one(host: FakeHost) -> None:
    outcome = host.change("deploy", "1.1.0")
    assert_at_rest(host, "1.1.0")
    assert (outcome.changed, outcome.release_id, outcome.previous_id, outcome.colour) == (
        True,
        "1.1.0",
        "1.0.0",
        "green",
    )
    # Users met the old one or the new one, never nothing.
    assert set(host.served) <= {"1.0.0", "1.1.0"}
    assert host.schema == "0002"
    assert host.running("blue") == "1.0.0"  # kept warm
    assert host.records.kept_warm() == "blue"
    manifest = host.records.manifest("1.1.0")
    assert manifest is not None
    assert dataclasses.asdict(manifest) | {"deployed_at": "", "timings": {}} == {
        "release_id": "1.1.0",
        "colour": "green",
        "images": RELEASES["1.1.0"].images,
        "git_commit": RELEASES["1.1.0"].commit,
        "migrations": (("0001", "none"), ("0002", "expand")),
        "schema_before": "0001",
        "migration_class": "expand",
        "restore_point": host.restore_points[0],
        "change_id": "CHG-1",
        "actor": "ada",
        "deployed_at": "",
        "timings": {},
    }
    assert host.restore_points[0].startswith("pre-1.1.0-")
    assert {"pull", "migrate", "start", "flip", "confirm", "hand_over"} <= set(manifest.timings)


def test_it_is_done_once(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.commands.clear()
    outcome = host.change("deploy", "1.1.0", colour="blue")
    assert (outcome.changed, outcome.release_id, host.commands) == (False, "1.1.0", [])


def test_no_restore_point_and_no_migration_where_the_schema_stays(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.commands.clear()
    host.change("deploy", "1.1.1")
    assert_at_rest(host, "1.1.1")
    assert len(host.restore_points) == 1
    assert not any("upgrade" in each for each in host.commands)


def test_the_worker_is_handed_over_not_doubled(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    order = [each for each in host.commands if each.endswith(" worker")]
    assert "app-blue" in order[0] and "stop --timeout 1 worker" in order[0]
    assert "app-green" in order[1] and order[1].endswith("worker")


def test_a_breaking_migration_needs_consent_and_shows_the_maintenance_page(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    with pytest.raises(FlowauditError, match=r"0003 \(breaking\).*accept_interruption=true"):
        host.change("deploy", "1.2.0")
    assert_at_rest(host, "1.1.0")
    host.served.clear()
    host.change("deploy", "1.2.0", accept_interruption=True)
    assert_at_rest(host, "1.2.0")
    lines = [each for each in host.commands if "stop --timeout 1 worker" in each or "upgrade" in each]
    assert "stop --timeout 1 worker" in lines[-2] and "upgrade" in lines[-1]  # nobody works on the old schema any more


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({"pull": "connection refused"}, "cannot be pulled: connection refused"),
        ({"schema": "no route to host"}, "revision cannot be read: no route to host"),
        ({"restore-point": "no space left"}, "no restore point: no space left"),
        (
            {"upgrade": "canceling statement due to lock timeout"},
            "migrations of 1.1.0 failed: canceling .* lock timeout",
        ),
        ({"green/compose.yaml up": "backend is unhealthy"}, "did not become healthy"),
        ({"smoke-test": "no search results"}, "smoke test smoke-test failed: no search results"),
        (
            {"app-green/compose.yaml up --detach --no-deps --pull never --wait --wait-timeout 1 worker": "x"},
            "worker did",
        ),
        ({"stop --timeout 1 worker": "engine is busy"}, "worker did not stop"),
    ],
)
def test_what_goes_wrong_leaves_the_old_release(host: FakeHost, failing: dict[str, str], said: str) -> None:
    host.failing = failing
    with pytest.raises(FlowauditError, match=said):
        host.change("deploy", "1.1.0")
    host.failing = {}
    assert_at_rest(host, "1.0.0")
    host.change("deploy", "1.1.0")
    assert_at_rest(host, "1.1.0")


def test_a_release_that_is_not_healthy_is_never_routed_to(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.served.clear()
    with pytest.raises(FlowauditError, match=r"step start\)\. 1\.1\.0 serves as before; its logs are in"):
        host.change("deploy", "1.3.0", accept_interruption=True)
    assert_at_rest(host, "1.1.0")
    assert host.schema == "0002"  # the schema went back with it
    assert "1.3.0" not in host.served
    (incident,) = (pathlib.Path(host.host.incident_directory)).iterdir()
    about = json.loads((incident / "release.json").read_text())
    assert (about["release_id"], about["why"]) == ("1.3.0", "taken back at start")
    assert (incident / "containers.log.gz").stat().st_size > 0


def test_errors_that_rise_take_it_back(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {"ServiceAddr": "app-blue-backend:8000", "OriginStatus": 200}
    new = {"ServiceAddr": "app-green-backend:8000", "OriginStatus": 200}
    host.access_log.write_text("".join(json.dumps(old) + "\n" for _line in range(100)))
    original = host.ask

    def ask(place, check):  # type: ignore[no-untyped-def]
        answer = original(place, check)
        if host.serving == "1.1.0":
            with host.access_log.open("a") as log:
                for number in range(20):
                    log.write(json.dumps(new | ({"OriginStatus": 500} if number % 5 == 0 else {})) + "\n")
        return answer

    monkeypatch.setattr("ansible_collections.flowaudit.ops.plugins.module_utils.release.smoke.ask", ask)
    with pytest.raises(FlowauditError, match=r"Errors rise since the switch: .* 0\.0% before \(step watch\)"):
        host.change("deploy", "1.1.0")
    assert_at_rest(host, "1.0.0")


def test_a_way_back_that_fails_says_so_and_goes_on_from_there(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.failing = {"green/compose.yaml up": "", "blue/compose.yaml up": "unhealthy", "downgrade": "lock timeout"}
    with pytest.raises(
        FlowauditError, match=r"Going back to 1\.1\.0 failed, too: .*lock timeout.*flowaudit\.ops\.rollback"
    ):
        host.change("deploy", "1.2.0", accept_interruption=True)
    assert host.serving == ""  # the maintenance page
    host.failing = {}
    outcome = host.change("rollback")
    assert outcome.taken_back.startswith("deploy of 1.2.0 by ada")
    assert_at_rest(host, "1.1.0")
    assert host.schema == "0002"


# ── Refused before anything is touched ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("release_id", "more", "said"),
    [
        ("1 0", {}, "is no release"),
        ("1.1.0", {"images": {}}, "has no images"),
        ("1.1.0", {"images": {"backend": "registry:5000/backend:1.1.0"}}, "without a digest"),
        ("1.1.0", {"images": {"backend": RELEASES["1.2.0"].images["backend"]}}, "says it is 1.2.0"),
        ("1.1.0", {"compose_file": ""}, "compose_file is empty"),
        ("1.1.0", {"colour": "blue"}, "run it again"),
    ],
)
def test_wrong_input_is_refused(host: FakeHost, release_id: str, more: dict[str, object], said: str) -> None:
    with pytest.raises(FlowauditError, match=said):
        host.change("deploy", release_id, **more)
    assert_at_rest(host, "1.0.0")


@pytest.mark.parametrize(("term", "said"), [("free_disk", "GB left"), ("free_memory", "GB of memory left")])
def test_a_host_without_room_is_refused(host: FakeHost, term: str, said: str) -> None:
    host.terms = dataclasses.replace(host.terms, **{term: 2**60})
    with pytest.raises(FlowauditError, match=said):
        host.change("deploy", "1.1.0")
    assert not any("pull" in each.split() for each in host.commands)


def test_images_that_do_not_say_their_migrations_are_refused(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {name: text for name, text in RELEASES["1.1.0"].labels.items() if "migrations" not in name}
    monkeypatch.setattr(type(RELEASES["1.1.0"]), "labels", labels)
    with pytest.raises(FlowauditError, match="app_release_migrations"):
        host.change("deploy", "1.1.0", images={"backend": RELEASES["1.1.0"].images["backend"]})
    assert_at_rest(host, "1.0.0")


def test_a_fresh_host_is_provisioned_first(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        fake_host(tmp_path / "host", monkeypatch) as host,
        pytest.raises(FlowauditError, match=r"flowaudit\.ops\.site"),
    ):
        host.change("deploy", "1.1.0")


def test_an_older_release_is_not_deployed_on_a_newer_schema(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    with pytest.raises(FlowauditError, match=r"at revision 0002, which release 1\.0\.0 does not have.*rollback"):
        host.change("deploy", "1.0.0")
    assert_at_rest(host, "1.1.0")


def test_the_second_one_is_told_who_is_at_it(host: FakeHost) -> None:
    who = {"action": "deploy", "release_id": "1.1.0", "actor": "ben", "since": "noon"}
    with host.records.lock(0, who):
        assert host.records.locked()
        with pytest.raises(FlowauditError, match=r"deploy of 1\.1\.0 by ben since noon \(process \d+\)"):
            host.change("deploy", "1.1.0")
    assert not host.records.locked()
    host.change("deploy", "1.1.0")


# ── Rolling back ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_previous_release_comes_back_warm(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.commands.clear()
    host.served.clear()
    outcome = host.change("rollback")
    assert_at_rest(host, "1.0.0")
    assert outcome.warm
    assert host.schema == "0002"  # it works on the newer schema
    assert set(host.served) <= {"1.0.0", "1.1.0"}
    assert not any("pull" in each.split() for each in host.commands)
    assert outcome.rolled_back_commits == (RELEASES["1.0.0"].commit, RELEASES["1.1.0"].commit)
    assert pathlib.Path(outcome.incident, "containers.log.gz").exists()
    assert host.records.previous() is None  # once more would not lead forward again


def test_it_can_be_deployed_again_and_taken_back_again(host: FakeHost) -> None:
    for _time in range(3):
        host.change("deploy", "1.1.0")
        assert_at_rest(host, "1.1.0")
        host.change("rollback")
        assert_at_rest(host, "1.0.0")


def cool(host: FakeHost) -> None:
    """What was kept warm no longer runs."""
    for name in [each for each in host.containers if "blue" in each]:
        host.containers[name] = (host.containers[name][0], False)


def test_one_that_is_no_longer_running_comes_back_cold(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    cool(host)
    outcome = host.change("rollback")
    assert_at_rest(host, "1.0.0")
    assert not outcome.warm


def test_one_that_fell_ill_meanwhile_is_made_anew(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.ill.add("app-blue-backend-1")
    outcome = host.change("rollback")
    assert_at_rest(host, "1.0.0")
    assert not outcome.warm


def test_any_release_that_is_kept_comes_back_by_name(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.1.1")
    host.change("rollback", "1.0.0")
    assert_at_rest(host, "1.0.0")
    assert host.records.previous() is None


def test_where_it_leads_is_what_was_deployed_before(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.1.1")
    host.change("rollback")
    assert_at_rest(host, "1.1.0")
    assert host.records.previous() == Pointer("1.0.0", "blue")
    host.change("rollback")
    assert_at_rest(host, "1.0.0")
    with pytest.raises(FlowauditError, match="no previous release"):
        host.change("rollback")


def test_a_breaking_migration_is_taken_back_with_consent(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.2.0", accept_interruption=True)
    with pytest.raises(FlowauditError, match=r"takes back the migration 0003.*accept_interruption"):
        host.change("rollback")
    assert_at_rest(host, "1.2.0")
    host.change("rollback", accept_interruption=True)
    assert_at_rest(host, "1.1.0")
    assert host.schema == "0002"
    (line,) = [each for each in host.commands if "downgrade" in each]
    assert "app-blue/" in line  # with the image that knows the migration: 1.2.0's


def test_what_a_migration_removed_does_not_come_back(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "2.0.0", accept_interruption=True)
    point = host.restore_points[-1]
    with pytest.raises(FlowauditError, match=rf"0003 removed.*roll forward.*restore_time={point}"):
        host.change("rollback", accept_interruption=True)
    assert_at_rest(host, "2.0.0")


def test_what_a_deployment_removed_is_gone_on_from(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.failing = {"green/compose.yaml up": "", "blue/compose.yaml up": "backend is unhealthy"}
    with pytest.raises(FlowauditError, match=r"removed what 1\.1\.0 needs; deploy a release that .*restore_time=pre-2"):
        host.change("deploy", "2.0.0", accept_interruption=True)
    host.failing = {}
    assert (host.serving, host.schema) == ("", "0003")  # the maintenance page
    with pytest.raises(FlowauditError, match="removed what"):
        host.change("rollback")
    host.change("deploy", "2.0.1")
    assert_at_rest(host, "2.0.1")
    manifest = host.records.manifest("2.0.1")
    assert manifest is not None
    assert (manifest.migration_class, manifest.schema_before) == ("contract", "0002")


def test_a_contract_that_did_not_happen_is_taken_back(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.failing = {"upgrade": "lock timeout"}
    with pytest.raises(FlowauditError, match=r"lock timeout \(step migrate\)\. 1\.1\.0 serves as before"):
        host.change("deploy", "2.0.0", accept_interruption=True)
    host.failing = {}
    assert_at_rest(host, "1.1.0")


def test_tidying_up_that_fails_is_done_by_the_next_run(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.1.1")
    host.failing = {"ps --all": "engine is busy"}
    with pytest.raises(
        FlowauditError, match=r"1\.2\.0 serves, but tidying up after it failed: .*engine is busy; run it"
    ):
        host.change("deploy", "1.2.0", accept_interruption=True)
    host.failing = {}
    assert host.change("deploy", "1.2.0", colour="blue").resumed_at == "tidy"
    assert_at_rest(host, "1.2.0")


def test_a_database_that_is_ahead_is_not_taken_back_by_who_does_not_know_it(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.2.0", accept_interruption=True)
    host.schema = "0004"  # of a release that was taken back, and left its expand migration
    host.failing = {"schema": "Can't locate revision identified by '0004'"}
    with pytest.raises(FlowauditError, match="Can't locate revision"):
        host.change("rollback", accept_interruption=True)
    host.failing = {}
    with pytest.raises(FlowauditError, match=r"ahead of what 1\.2\.0 knows"):
        host.change("rollback", accept_interruption=True)
    assert host.records.journal() is None
    assert not switch.is_maintenance(host.switch_file.read_text())


def test_a_rollback_begun_again_leads_where_it_led(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.1.1")
    host.lives = 25
    with pytest.raises(Kill):
        host.change("rollback", "1.0.0")
    host.lives = None
    assert host.records.journal() is not None
    host.change("rollback")
    assert_at_rest(host, "1.0.0")


def test_a_worker_that_keeps_restarting_is_stopped_too(host: FakeHost) -> None:
    host.restarting.add("app-green-worker-1")
    host.failing = {
        "app-green/compose.yaml up --detach --no-deps --pull never --wait --wait-timeout 1 worker": "unhealthy"
    }
    host.containers["app-green-worker-1"] = (host.containers["app-blue-worker-1"][0], False)
    with pytest.raises(FlowauditError, match="serves as before"):
        host.change("deploy", "1.1.0")
    assert any("app-green" in each and each.endswith("stop --timeout 1 worker") for each in host.commands)


def test_the_maintenance_page_is_there_while_the_schema_goes_back(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.failing = {"smoke-test": "no results"}
    during = []
    run = host.run
    host.run = lambda command, seconds: (
        during.append(host.switch_file.read_text()) if "downgrade" in command else None,
        run(command, seconds),
    )[1]  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(FlowauditError, match=r"1\.1\.0 serves as before"):
        host.change("deploy", "1.2.0", accept_interruption=True)
    assert [switch.is_maintenance(each) for each in during] == [True]
    host.failing = {}
    assert_at_rest(host, "1.1.0")


def test_anything_that_goes_wrong_after_the_switch_is_taken_back(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "rises", lambda *_arguments, **_more: 1 / 0)
    with pytest.raises(FlowauditError, match=r"division by zero \(step watch\)\. 1\.0\.0 serves as before"):
        host.change("deploy", "1.1.0")
    assert_at_rest(host, "1.0.0")


def test_other_images_are_another_release(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    with pytest.raises(FlowauditError, match="a release of their own"):
        host.change("deploy", "1.1.0", colour="blue", images=RELEASES["1.1.1"].images)


def test_a_deployment_to_a_warm_colour_asks_compose(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("rollback")
    host.commands.clear()
    assert not host.change("deploy", "1.1.0").warm
    assert any("app-green/compose.yaml up" in each for each in host.commands)


def test_old_logs_of_incidents_go(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "_INCIDENTS", 2)
    directory = pathlib.Path(host.host.incident_directory)
    for number in range(4):
        (directory / f"2025-01-0{number + 1}T000000Z-release-1.0.0").mkdir()
    (directory / "INC-1").mkdir()
    host.change("deploy", "1.1.0")
    host.change("rollback")
    left = sorted(each.name for each in directory.iterdir())
    assert len(left) == 3
    assert "INC-1" in left


def test_an_edited_record_is_refused(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    path = pathlib.Path(host.records.releases, "1.0.0.json")
    path.write_text(path.read_text().replace(RELEASES["1.0.0"].commit, "6" * 40))
    with pytest.raises(FlowauditError, match="was changed by somebody else"):
        host.change("rollback")
    assert_at_rest_but_for_records(host, "1.1.0")


def assert_at_rest_but_for_records(host: FakeHost, release_id: str) -> None:
    assert (host.serving, host.workers, host.records.journal()) == (release_id, [release_id], None)


def test_other_images_than_those_locked_are_refused(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    with pytest.raises(FlowauditError, match="disagree about the images"):
        host.change("rollback", images=RELEASES["1.1.1"].images)
    assert_at_rest(host, "1.1.0")


def test_a_release_whose_images_are_gone_is_refused(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    cool(host)
    host.pulled -= set(RELEASES["1.0.0"].images.values())
    with pytest.raises(FlowauditError, match=r"not on this host any more; deploy that release"):
        host.change("rollback")
    assert_at_rest(host, "1.1.0")


def test_an_unknown_release_is_refused(host: FakeHost) -> None:
    with pytest.raises(FlowauditError, match="has no record on this host"):
        host.change("rollback", "0.9.0")
    with pytest.raises(FlowauditError, match="no previous release"):
        host.change("rollback")


def test_a_rollback_that_fails_leaves_the_current_release(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    for name in [each for each in host.containers if "blue" in each]:
        host.containers[name] = (host.containers[name][0], False)
    host.failing = {"blue/compose.yaml up": "out of memory"}
    with pytest.raises(FlowauditError, match=r"out of memory.*1\.1\.0 serves as before"):
        host.change("rollback")
    host.failing = {}
    assert_at_rest(host, "1.1.0")


# ── Keeping and forgetting ───────────────────────────────────────────────────────────────────────────────────────────
def test_the_newest_releases_and_their_images_are_kept(host: FakeHost) -> None:
    host.change("deploy", "1.1.0")
    host.change("deploy", "1.1.1")
    outcome = host.change("deploy", "1.2.0", accept_interruption=True)
    assert outcome.pruned == ["1.0.0"]
    found, _problems = host.records.manifests()
    assert sorted(each.release_id for each in found) == ["1.1.0", "1.1.1", "1.2.0"]
    assert not host.pulled & set(RELEASES["1.0.0"].images.values())
    assert set(RELEASES["1.1.0"].images.values()) <= host.pulled


def test_provisioning_records_the_release_once(host: FakeHost) -> None:
    assert not host.change("record", "1.0.0", colour="blue").changed
    with pytest.raises(FlowauditError, match="changed by deploying"):
        host.change("record", "1.1.0", colour="green")


# ── Killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _expand(host: FakeHost) -> None:
    host.change("deploy", "1.1.0", accept_interruption=True)


def _breaking(host: FakeHost) -> None:
    host.change("deploy", "1.2.0", accept_interruption=True)


def _back(host: FakeHost) -> None:
    host.change("rollback", "1.0.0", accept_interruption=True)


def _back_schema(host: FakeHost) -> None:
    host.change("rollback", "1.1.0", accept_interruption=True)


CHANGES: dict[str, tuple[list[Callable[[FakeHost], None]], Callable[[FakeHost], None], str, str]] = {
    "deploy, expand": ([], _expand, "1.0.0", "1.1.0"),
    "deploy, breaking": ([_expand], _breaking, "1.1.0", "1.2.0"),
    "deploy, breaking, over two releases": ([], _breaking, "1.0.0", "1.2.0"),
    "rollback, flip": ([_expand], _back, "1.1.0", "1.0.0"),
    "rollback, schema": ([_expand, _breaking], _back_schema, "1.2.0", "1.1.0"),
}


@pytest.mark.parametrize("then", ["the same again", "taken back"])
@pytest.mark.parametrize("name", CHANGES)
def test_killed_anywhere_a_whole_release_serves_and_the_next_run_goes_on(
    name: str, then: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, change, origin, target = CHANGES[name]
    interrupts = "breaking" in name or "schema" in name
    killed = 0
    for lives in range(1000):
        with fake_host(tmp_path / str(lives), monkeypatch) as host:
            host.install("1.0.0")
            for each in before:
                each(host)
            host.served.clear()
            host.lives = lives
            try:
                change(host)
            except Kill:
                killed += 1
            else:
                break
            host.lives = None
            serving, content = host.serving, host.switch_file.read_text()
            assert serving in (origin, target) or (interrupts and switch.is_maintenance(content)), (
                lives,
                host.commands,
            )
            assert len(host.workers) <= 1, (lives, host.commands)
            recorded = host.records.current()
            assert recorded is not None
            if then == "the same again":
                change(host)
                assert_at_rest(host, target)
            elif host.records.journal() is not None and recorded.release_id == origin:
                # A rollback that is begun again goes on; it is taken back by naming where it came from.
                host.change("rollback", origin if "rollback" in name else "", accept_interruption=True)
                assert_at_rest(host, origin)
            if not interrupts:
                assert set(host.served) <= {origin, target}, (lives, host.commands)
    else:
        pytest.fail("it never came to its end")
    assert killed > 35


def test_killed_twice_it_still_comes_to_an_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(2026)
    for number in range(60):
        name = chance.choice(sorted(CHANGES))
        before, change, origin, target = CHANGES[name]
        with fake_host(tmp_path / str(number), monkeypatch) as host:
            host.install("1.0.0")
            for each in before:
                each(host)
            for most in (120, 60):
                host.lives = chance.randint(0, most)
                with contextlib.suppress(Kill):
                    change(host)
            host.lives = None
            assert len(host.workers) <= 1
            recorded = host.records.current()
            assert recorded is not None
            taken_back = recorded.release_id == origin and host.records.journal() is not None and chance.random() < 0.5
            if taken_back:
                host.change("rollback", origin if "rollback" in name else "", accept_interruption=True)
            else:
                change(host)
            assert_at_rest(host, origin if taken_back else target)
