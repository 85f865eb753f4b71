# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Swarm says of an update, and the releases it remembers."""

from __future__ import annotations

import base64
import json
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.release import manifest, swarm
from ansible_collections.flowaudit.ops.plugins.module_utils.release.manifest import Manifest, Migration
from ansible_collections.flowaudit.ops.plugins.modules import swarm_service_wait

OLD, NEW = (f"registry:5000/api@sha256:{digit * 64}" for digit in "01")


def service(image: str = NEW, state: str = "", replicas: int | None = 2, **labels: str) -> dict[str, t.Any]:
    mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    spec = {"Mode": mode, "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": image}}}
    return {"Spec": spec} | ({"UpdateStatus": {"State": state, "Message": "a task failed"}} if state else {})


def task(
    image: str = NEW, state: str = "Running 3 seconds ago", desired: str = "Running", **more: str
) -> dict[str, str]:
    told = {"Name": "api.1", "Node": "swarm1", "Error": ""}
    return {**told, "Image": image, "CurrentState": state, "DesiredState": desired, **more}


def release(number: int, *kinds: str, **more: t.Any) -> Manifest:
    migrations = tuple(Migration(f"{revision:04}", kind) for revision, kind in enumerate(kinds, 1))
    at = f"2026-03-{number:02}T10:00:00+00:00"
    return Manifest(f"rc-{number}", "", {"api": NEW}, migrations=migrations, deployed_at=at, **more)


def config(made: Manifest, name: str = "") -> dict[str, t.Any]:
    data = base64.b64encode(manifest.dump(made).encode()).decode()
    return {"Spec": {"Name": name or f"ltc-{made.release_id}", "Data": data}}


# ── How an update is going ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "tasks"),
    [
        (service(), [task(), task()]),
        (service(state="completed"), [task(), task(), task(OLD, "Shutdown 1 second ago", "Shutdown")]),
        (service(replicas=None), [task(), task(), task()]),
        # The same image, by another name.
        (service("mirror:5000/api@" + NEW.partition("@")[2]), [task(), task()]),
    ],
)
def test_it_is_done_when_all_of_it_runs(said: t.Any, tasks: t.Any) -> None:
    assert swarm.verdict(said, tasks, NEW) == (True, "")


@pytest.mark.parametrize(
    ("said", "tasks"),
    [
        (service(state="updating"), [task(), task()]),
        (service(OLD, state="rollback_started"), [task(), task(OLD)]),
        (service(), [task()]),
        (service(), [task(), task(state="Starting 2 seconds ago")]),
        (service(), [task(), task(OLD)]),
        (service(replicas=None), []),
        (service(replicas=0), []),
    ],
)
def test_it_goes_on(said: t.Any, tasks: t.Any) -> None:
    assert swarm.verdict(said, tasks, NEW) == (False, "")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (service(OLD, "rollback_completed"), f"It has {OLD} (rollback_completed). The Swarm says: a task failed."),
        (service(state="paused"), f"It has {NEW} (paused). The Swarm says: a task failed."),
        (service(OLD), f"It has {OLD} (changed by somebody else)."),
    ],
)
def test_it_has_failed(said: t.Any, why: str) -> None:
    assert swarm.verdict(said, [task(), task()], NEW) == (False, why)


def test_an_update_that_was_taken_back_has_failed_even_with_the_same_image() -> None:
    taken_back = service(state="rollback_completed")
    assert swarm.verdict(taken_back, [task(), task()], NEW).failure.startswith(f"It has {NEW} (rollback_completed).")
    # It was taken back earlier, and this is what it was taken back to.
    assert swarm.verdict(taken_back, [task(), task()], NEW, updated=False) == (True, "")


def test_what_tasks_had_to_say_is_told_once() -> None:
    tasks = [
        task(Error="unhealthy"),
        task(Error="unhealthy"),
        task(OLD, Error="old"),
        task(),
        task(Node="", Error="full"),
    ]
    assert swarm.troubles(tasks, NEW) == ["api.1 on swarm1: unhealthy", "api.1 on no node: full"]


# ── What it remembers ────────────────────────────────────────────────────────────────────────────────────────────────


def test_releases_are_found_newest_first() -> None:
    found = swarm.releases([config(release(1)), config(release(3)), config(release(2))])
    assert [(name, made.release_id) for name, made in found] == [
        *(("ltc-rc-3", "rc-3"), ("ltc-rc-2", "rc-2"), ("ltc-rc-1", "rc-1"))
    ]


@pytest.mark.parametrize(
    "data", ["", "no base64", base64.b64encode(b"\xff").decode(), base64.b64encode(b"{}").decode(), None]
)
def test_what_is_no_record_is_told(data: str | None) -> None:
    with pytest.raises(FlowauditError, match="The config ltc is no record"):
        swarm.releases([{"Spec": {"Name": "ltc", "Data": data}}])


def test_a_record_that_somebody_made_up_is_told() -> None:
    text = manifest.dump(release(1)).replace("rc-1", "rc-2")
    with pytest.raises(FlowauditError, match="The config ltc was changed by somebody else"):
        swarm.releases([{"Spec": {"Name": "ltc", "Data": base64.b64encode(text.encode()).decode()}}])


@pytest.mark.parametrize(
    ("labels", "whole", "back"),
    [
        (["rc-3", "rc-3"], True, "rc-2"),
        # A deployment of a new release that did not come to its end.
        (["rc-9", "rc-9"], False, "rc-3"),
        (["rc-3", "rc-9"], False, "rc-3"),
        (["rc-3", ""], False, "rc-3"),
        # Of an earlier release, or a rollback to it: who knows.
        (["rc-2", "rc-2"], False, None),
        (["rc-2", "rc-3"], False, None),
        ([], False, None),
    ],
)
def test_the_services_say_whether_the_last_change_came_to_its_end(
    labels: list[str], whole: bool, back: str | None
) -> None:
    known = [release(1), release(3), release(2)]
    now, all_of_it = swarm.current(known, labels)
    assert now is not None and (now.release_id, all_of_it) == ("rc-3", whole)
    found = swarm.back(known, labels)
    assert (found.release_id if found else None) == back


def test_before_the_first_release_none_runs() -> None:
    assert swarm.current([], []) == (None, False)
    assert swarm.back([], ["rc-1"]) is None
    assert swarm.back([release(1)], ["rc-1"]) is None


def test_a_service_says_which_release_it_runs() -> None:
    assert swarm.release_of(service(**{swarm.LABEL_RELEASE: "rc-1"})) == "rc-1"
    assert swarm.release_of({"Spec": {"Labels": None}}) == ""


# ── The database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_migration_that_the_release_before_can_live_with_is_run() -> None:
    assert swarm.way_there(release(2, "none", "expand"), "0001").revisions == ("0002",)


@pytest.mark.parametrize("kind", ["breaking", "contract"])
def test_one_that_it_cannot_is_refused(kind: str) -> None:
    with pytest.raises(FlowauditError, match=f"rc-2 has a migration of the class {kind}.* Make two releases of it"):
        swarm.way_there(release(2, "none", kind), "0001")


def test_going_back_leaves_what_was_added() -> None:
    way = swarm.way_back(release(2, "none", "expand"), release(1, "none"))
    assert (way.kind, way.revisions) == ("expand", ("0002",))


@pytest.mark.parametrize(("kind", "message"), [("breaking", "roll forward"), ("contract", "removed what rc-1 needs")])
def test_what_cannot_be_gone_back_to_is_refused(kind: str, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        swarm.way_back(release(2, "none", kind), release(1, "none"))


# ── Waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Docker:
    """Answers as docker does, one answer after the other; the last one stays."""

    def __init__(self, *answers: tuple[t.Any, list[dict[str, str]]] | str) -> None:
        self.answers = list(answers)

    def __call__(self, words: list[str]) -> tuple[int, str, str]:
        answer = self.answers[0]
        if words[2] == "ps" and len(self.answers) > 1:
            self.answers.pop(0)
        if isinstance(answer, str):
            if len(self.answers) > 1:
                self.answers.pop(0)
            return 1, "", answer
        told, tasks = answer
        return 0, json.dumps([told]) if words[2] == "inspect" else "\n".join(map(json.dumps, tasks)), ""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_service_wait, "_PAUSE", 0)


def test_it_waits_for_the_end_of_the_update() -> None:
    docker = Docker(
        "no leader",
        (service(state="updating"), [task(OLD)]),
        (service(), [task(), task(Node="swarm2"), task(OLD, desired="Shutdown")]),
    )
    assert swarm_service_wait.run(docker, "api", NEW, 30)["nodes"] == ["swarm1", "swarm2"]


def test_a_failure_is_told_with_what_the_tasks_said() -> None:
    docker = Docker((service(OLD, "rollback_completed"), [task(OLD), task(Error="unhealthy", desired="Shutdown")]))
    with pytest.raises(FlowauditError, match=f"api does not run {NEW}. It has {OLD} .* api.1 on swarm1: unhealthy"):
        swarm_service_wait.run(docker, "api", NEW, 30)


@pytest.mark.parametrize(
    ("docker", "message"),
    [
        (Docker("no such service"), "docker service inspect: no such service"),
        (
            Docker((service(), [task(state="Pending 1 second ago", Error="no suitable node")])),
            "It does not after 0 seconds. api.1",
        ),
    ],
)
def test_waiting_has_an_end(docker: Docker, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        swarm_service_wait.run(docker, "api", NEW, 0)
