# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The service under load, killed, stopped, restarted: nothing that it acknowledged is lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import staging
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import note

from .conftest import OPERATOR, PYTHON, PYTHONPATH, Custodian, Node, as_user

# A run that says of each batch that it was acknowledged, until the service is gone or it is done.
RUN = """
import sys
from ansible_collections.flowaudit.ops.plugins.module_utils.change import staging
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, note
path, batches, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
run, log = entry.new_id(), client.CustodyLog(client.Custody(path))
def draft(kind, **fields):
    return {"type": kind, "ts": entry.timestamp(), "run": run, **fields}
log.append([draft("run.start", command="x")])
print(run, flush=True)
try:
    for batch in range(batches):
        log.append([draft("event", number=batch * size + more, text="x" * 100) for more in range(size)])
        print(batch * size + size, flush=True)
    log.append([draft("run.end", status="ok", stats={})])
except client.FlowauditError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""


@contextlib.contextmanager
def runs(custodian: Custodian, count: int, batches: int, size: int) -> t.Iterator[list[subprocess.Popen[str]]]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PYTHONPATH}
    words = [PYTHON, "-c", RUN, str(custodian.path), str(batches), str(size)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    words,
                    env=environment,
                    cwd="/",
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    **as_user(OPERATOR),
                )
            )
            for _number in range(count)
        ]
        yield started


def acknowledged(process: subprocess.Popen[str]) -> tuple[str, int, str]:
    """The run's id, how many entries it knows to be recorded, and what it said at its end."""
    output, errors = process.communicate(timeout=120)
    lines = output.splitlines()
    return lines[0], int(lines[-1]) if len(lines) > 1 else 0, errors


def recorded(custodian: Custodian) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for value in custodian.entries("event"):
        found.setdefault(value["run"], []).append(value["number"])
    return found


def test_eight_runs_at_once(custodian: Custodian) -> None:
    with runs(custodian, 8, 20, 64) as started:
        said = [acknowledged(process) for process in started]
    assert [errors for _run, _count, errors in said] == [""] * 8
    assert recorded(custodian) == {run: list(range(20 * 64)) for run, _count, _errors in said}
    assert custodian.verified().whole
    assert custodian.all_ended()
    assert len(custodian.entries("run.end")) == 8 and custodian.entries("run.aborted") == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_service_that_ends_in_the_middle(custodian: Custodian, number: int) -> None:
    with runs(custodian, 4, 10_000, 16) as started:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(1)
        custodian.stop(number)
        custodian.start()
        said = []
        for process in started:
            output, errors = process.communicate(timeout=60)
            assert (process.returncode, bool(errors)) == (3, True)
            # The last line may be a part of one.
            whole = output.rpartition("\n")[0].splitlines()
            said.append(int(whole[-1]) if whole else 0)
    found = recorded(custodian)
    assert sum(said) > 0
    for numbers in found.values():
        assert numbers == list(range(len(numbers)))
    # What was acknowledged is there; at most one batch more that nobody was told of.
    assert all(
        kept <= len(numbers) <= kept + 16
        for kept, numbers in zip(sorted(said), sorted(found.values(), key=len), strict=True)
    )
    assert custodian.verified().whole
    assert len(custodian.entries("run.aborted")) == 4
    assert custodian.all_ended()


def test_without_the_service_nothing_runs(node: Node) -> None:
    change_id = node.approved()
    node.custodian.stop()
    node.custodian.listener.close()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 1
    assert "The custody of this control node does not answer" in done.stdout
    assert node.visits() == {"h1": 0, "h2": 0, "h3": 0}


def test_a_run_stops_when_the_service_does(node: Node) -> None:
    wait = "touch {{ playbook_dir }}/../at; until [ -e {{ playbook_dir }}/../go ]; do sleep 0.1; done"
    first = {"name": "First", "ansible.builtin.raw": wait, "changed_when": True}
    second = {"name": "Second", "ansible.builtin.raw": "touch {{ playbook_dir }}/../second", "changed_when": True}
    node.playbook("two.yml", first, second)
    node.commit("Two tasks")
    change_id = node.approved(scope={"hosts": ["h1"], "playbooks": ["two.yml"]})
    process = node.start("two.yml", "-e", f"change_id={change_id}", "--limit", "h1")
    deadline = time.monotonic() + 60
    while not (node.directory / "at").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.1)
    node.custodian.stop(signal.SIGKILL)
    node.custodian.start()
    (node.directory / "go").touch()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "Nothing is done that is not recorded, so the run stops here." in output
    assert not (node.directory / "second").exists()
    (aborted,) = node.entries("run.aborted")
    assert [task["name"] for task in aborted["tasks_in_flight"]] == ["First"]


def test_the_record_of_a_run_is_whole(node: Node) -> None:
    change_id = node.approved()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout, done.stdout
    kinds = [value["type"] for value in node.custodian.entries()]
    assert kinds[:3] == ["log.created", "policy.accepted", "run.authorized"]
    assert kinds[3] == "run.start" and kinds[-1] == "run.end"
    authorized, begun, end = (node.entries(kind)[0] for kind in ("run.authorized", "run.start", "run.end"))
    assert authorized["run"] == begun["run"] == end["run"]
    assert authorized["chg"] == begun["chg"] == end["chg"] == change_id
    assert {value["host"] for value in node.entries("task.result")} == {"h1", "h2"}
    report = node.custodian.verified()
    assert report.whole and report.signed_size == len(kinds)
    # What a change of another inventory shows for a run on staging.
    with node.custodian.connected() as custody, contextlib.closing(node.custodian.log()) as log:
        shown = staging.check(custody.proof_of(end["run"]), [note.parse_key(log.current_key())])
        with pytest.raises(client.FlowauditError, match="no run"):
            custody.proof_of("another")
    assert (shown.run, shown.playbooks, shown.succeeded) == (end["run"], ("play.yml",), True)


def test_an_inventory_that_needs_no_changes(node: Node) -> None:
    """Recorded, with certificates, without approvals: where root says so."""
    configuration = yaml.safe_load(node.custodian.configuration.read_text())
    gate = node.top / "inventories" / "demo" / "gate.yml"
    configuration["inventories"]["demo"] = {"gate": str(gate), "protected": False}
    node.custodian.configuration.write_text(yaml.safe_dump(configuration))
    node.custodian.stop()
    node.custodian.start()
    node.write(
        "inventories/demo/gate.yml", yaml.safe_load(node.gate_path.read_text()) | {"name": "demo", "protected": False}
    )
    node.commit("A demo")
    done = node.run("play.yml", "--limit", "h1", inventory="inventories/demo")
    # Its hosts trust the CA of production, and demo has one of its own.
    assert done.returncode == 4, done.stdout
    assert node.visits() == {"h1": 0, "h2": 0, "h3": 0}
    (node.directory / "ca.pub").write_text(node.custodian.authority("demo"))
    done = node.run("play.yml", "--limit", "h1", inventory="inventories/demo")
    assert done.returncode == 0, done.stdout
    assert node.visits() == {"h1": 1, "h2": 0, "h3": 0}
    assert [value["chg"] for value in node.custodian.entries() if "chg" in value] == []
    # Without a limit it is for all of them, and the trail says so.
    assert node.run("play.yml", inventory="inventories/demo").returncode == 0
    assert node.visits() == {"h1": 2, "h2": 1, "h3": 1}
    assert [value["hosts"] for value in node.entries("run.authorized")][-2:] == [["h1"], ["h1", "h2", "h3"]]


def step(node: Node, playbook: str, change_id: str, person: str, *more: str) -> str:
    """A step of a change that somebody takes with their own key."""
    key = node.directory / person
    shutil.copy(node.keys / person, key)
    node.own()
    words = ["change_inventory=inventories", f"change_id={change_id}", f"change_key={key}"]
    words += [f"change_person={person}@example.org", "change_reason=Because", "change_confirm=false", *more]
    done = node.run(f"flowaudit.ops.{playbook}", *(part for word in words for part in ("-e", word)), inventory="")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_what_was_revoked_stays_revoked(node: Node) -> None:
    """Also when the files that say so are taken away: custody was told."""
    change_id = node.approved()
    step(node, "change_revoke", change_id, "alice")
    assert [value["chg"] for value in node.entries("change.revoked")] == [change_id]
    for path in (node.changes / change_id).glob("revo*"):
        path.unlink()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 1
    assert f"{change_id} is revoked." in done.stdout
    assert node.visits() == {"h1": 0, "h2": 0, "h3": 0}


def test_what_has_run_is_known_and_reviewed(node: Node) -> None:
    change_id = node.approved()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout
    listed = node.run("flowaudit.ops.change_list", "-e", "change_inventory=inventories", inventory="")
    assert listed.returncode == 0 and "done" in listed.stdout, listed.stdout
    step(node, "change_review", change_id, "bob")
    assert [value["chg"] for value in node.entries("change.reviewed")] == [change_id]
    # Nothing of it is a trail of the operator's own.
    assert not list((node.directory / "home").rglob("trail.sqlite3"))


def test_what_is_no_run_of_an_inventory_is_recorded_too(node: Node) -> None:
    """Without a gate there is no certificate, but a record."""
    node.playbook("local.yml", {"name": "Here", "ansible.builtin.debug": {}}, hosts="localhost")
    node.own()
    done = node.run("local.yml", inventory="", env={"ANSIBLE_CALLBACKS_ENABLED": "flowaudit.ops.trail"})
    assert done.returncode == 0, done.stdout
    (begun,) = node.entries("run.start")
    assert begun["playbook"] == ["local.yml"]
    assert [value["status"] for value in node.entries("run.end")] == ["ok"]
    assert json.dumps(begun).count(OPERATOR) == 0
