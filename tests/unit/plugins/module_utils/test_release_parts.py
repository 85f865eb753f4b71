# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts a change of release is made of: records, ways between schemas, the switch, requests, the edge's log."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing as t

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Engine, Result
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.release import manifest, plan, smoke, switch, watch
from ansible_collections.flowaudit.ops.plugins.module_utils.release.manifest import Manifest, Migration
from ansible_collections.flowaudit.ops.plugins.module_utils.release.records import Journal, Pointer, Records, write_file
from ansible_collections.flowaudit.ops.plugins.module_utils.release.smoke import Check, Place
from ansible_collections.flowaudit.ops.tests.unit.plugins.servers import Answer, Server

IMAGES = {"backend": "registry:5000/backend@sha256:" + "a" * 64}


def release(release_id: str = "1.0.0", kinds: str = "0001=none", **more: t.Any) -> Manifest:
    migrations = manifest.migrations_of({manifest.LABEL_MIGRATIONS: kinds}, release_id)
    assert migrations is not None
    return Manifest(release_id=release_id, colour="blue", images=IMAGES, migrations=migrations, **more)


# ── Records ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_record_is_read_as_it_was_written() -> None:
    written = release(
        kinds="0001=none,0002=expand", actor="ada", timings={"pull": 1.5}, deployed_at="2026-01-31T12:00:00Z"
    )
    assert manifest.load(manifest.dump(written), "file") == written
    assert json.loads(manifest.dump(written))["schema_head"] == "0002"


@given(st.integers(0, 10_000), st.characters(min_codepoint=32, max_codepoint=126))
def test_a_record_with_another_character_is_refused(place: int, character: str) -> None:
    text = manifest.dump(release(actor="ada"))
    place %= len(text)
    edited = text[:place] + character + text[place + 1 :]
    if json_or_none(edited) == json_or_none(text):
        return
    with pytest.raises(FlowauditError):
        manifest.load(edited, "file")


def json_or_none(text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"checksum": "sha256:0"}', "null"])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(FlowauditError, match=r"is no record|changed by somebody"):
        manifest.load(text, "file")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"release_id": "../1.0.0"}, "is no release"),
        ({"release_id": "1" * 41}, "at most 40"),
        ({"colour": "red"}, "not blue or green"),
        ({"git_commit": "--output=x"}, "which is none"),
        ({"images": {}}, "has no images"),
        ({"images": {"backend": "backend:1.0.0"}}, "without a digest"),
        ({"migrations": (Migration("0001", "odd"),)}, "the classes are none, expand, breaking, contract"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong: dict[str, t.Any], said: str) -> None:
    with pytest.raises(FlowauditError, match=said):
        manifest.check(dataclasses.replace(release(), **wrong))


@pytest.mark.parametrize("label", ["0001", "0001=odd", "0001=none;0002=none", "a b=none"])
def test_a_label_that_is_no_list_of_migrations_is_refused(label: str) -> None:
    with pytest.raises(FlowauditError, match="0001=none,0002=expand"):
        manifest.migrations_of({manifest.LABEL_MIGRATIONS: label}, "1.0.0")


def test_an_application_may_have_no_migrations() -> None:
    assert manifest.migrations_of({manifest.LABEL_MIGRATIONS: ""}, "1.0.0") == ()
    assert manifest.migrations_of({}, "1.0.0") is None
    assert release(kinds="").schema_head == ""


# ── Ways ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
ALL = "0001=none,0002=expand,0003=breaking,0004=contract"


@pytest.mark.parametrize(
    ("schema", "kind", "revisions", "interrupts"),
    [
        ("0004", "none", (), False),
        ("0003", "contract", ("0004",), True),
        ("0001", "contract", ("0002", "0003", "0004"), True),
        ("", "none", ("0001", "0002", "0003", "0004"), False),
    ],
)
def test_the_worst_migration_on_the_way_counts(
    schema: str, kind: str, revisions: tuple[str, ...], interrupts: bool
) -> None:
    way = plan.way_there(release(kinds=ALL), schema)
    assert (way.kind, way.revisions, way.interrupts) == (kind, revisions, interrupts)


@pytest.mark.parametrize(
    ("newer", "older", "kind", "downgrade_to"),
    [
        ("0001=none,0002=expand", "0001=none", "expand", ""),
        ("0001=none,0002=expand,0003=breaking", "0001=none,0002=expand", "breaking", "0002"),
        ("0001=none,0002=expand,0003=breaking", "0001=none", "breaking", "0001"),
        ("0001=none", "0001=none", "none", ""),
    ],
)
def test_the_way_back(newer: str, older: str, kind: str, downgrade_to: str) -> None:
    way = plan.way_back(release("2.0.0", newer), release("1.0.0", older))
    assert (way.kind, way.downgrade_to) == (kind, downgrade_to)


def test_no_way_back_past_what_is_gone() -> None:
    newer = release("2.0.0", ALL, restore_point="pre-2.0.0-20260131T120000Z")
    with pytest.raises(FlowauditError, match=r"0004 removed.*restore_time=pre-2\.0\.0-20260131T120000Z"):
        plan.way_back(newer, release("1.0.0", "0001=none,0002=expand,0003=breaking"))
    with pytest.raises(FlowauditError, match=r"roll forward\)\."):
        plan.way_back(dataclasses.replace(newer, restore_point=""), release("1.0.0", "0001=none"))


def test_no_way_back_to_what_is_newer() -> None:
    with pytest.raises(FlowauditError, match="not an earlier one: deploy it"):
        plan.way_back(release("1.0.0", "0001=none"), release("1.1.0", "0001=none,0002=expand"))


@given(st.lists(st.integers(0, 30), unique=True, max_size=12), st.integers(1, 6), st.integers(0, 11))
def test_the_newest_are_kept_and_those_needed(ages: list[int], keep: int, needed: int) -> None:
    releases = [release(f"r{age}", deployed_at=f"2026-01-{age + 1:02}") for age in ages]
    names = [each.release_id for each in releases[needed : needed + 1]]
    gone = plan.superfluous(releases, keep, names)
    left = [each for each in releases if each not in gone]
    assert len(left) == min(len(releases), keep)
    assert set(names) <= {each.release_id for each in left}
    assert [each.deployed_at for each in gone] == sorted(each.deployed_at for each in gone)


# ── The switch ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_switch_is_yaml_and_names_one_colour() -> None:
    text = switch.text("app", "green", {"backend": 8000, "frontend": 8080})
    services = yaml.safe_load(text)["http"]["services"]
    assert services["frontend"]["loadBalancer"]["servers"] == [{"url": "http://app-green-frontend:8080"}]
    assert (switch.colour_of(text), switch.is_maintenance(text)) == ("green", False)
    closed = switch.text("app", "green", {"backend": 8000}, maintenance=True)
    assert (switch.colour_of(closed), switch.is_maintenance(closed)) == ("green", True)
    assert yaml.safe_load(closed)["http"]["routers"]["release-maintenance"]["middlewares"] == [
        "headers",
        "to-maintenance",
    ]
    assert switch.colour_of(text + closed.replace("green", "blue")) == switch.colour_of("") == ""


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_file_is_replaced_as_a_whole(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(str(path), "one")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("one", 0o644)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_names: (nothing for nothing in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_file(str(path), "two")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_read_is_said(tmp_path: pathlib.Path) -> None:
    records = Records(str(tmp_path))
    assert (records.current(), records.journal(), records.kept_warm(), records.manifests()) == (
        None,
        None,
        "",
        ([], []),
    )
    assert records.holder() == "somebody who left no name"
    records.prepare()
    for name, read in {"current": records.current, "release.journal": records.journal}.items():
        (tmp_path / name).write_text("[]")
        with pytest.raises(FlowauditError, match=name):
            read()
    (tmp_path / "releases" / "1.0.0.json").write_text(manifest.dump(release("1.1.0")))
    with pytest.raises(FlowauditError, match=r"record of release 1\.1\.0"):
        records.manifest("1.0.0")
    assert records.manifests() == (
        [],
        [str(tmp_path / "releases" / "1.0.0.json") + " is the record of release 1.1.0; move it away and deploy again."],
    )


def test_the_journal_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    records = Records(str(tmp_path))
    journal = Journal("deploy", Pointer("1.0.0", "blue"), Pointer("1.1.0", "green"), "start", "ada", "noon", "0001")
    records.note(journal)
    assert records.journal() == journal
    assert journal.describe() == "deploy of 1.1.0 by ada, since noon, at step start"
    records.close()
    records.close()
    assert records.journal() is None


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_smoke_test_says_what_is_wrong() -> None:
    server = Server(Answer(body=b"hello"))
    try:
        place = Place(f"http://portal.example:{server.port}", "127.0.0.1")
        assert smoke.problem(place, Check("/", text="hell")) == ""
        assert "without the text 'heaven'" in smoke.problem(place, Check("/", text="heaven"))
        server.answers = [Answer(body=b"", status=404)]
        assert "answered 404, not 200" in smoke.problem(place, Check("/gone"))
        assert smoke.problem(place, Check("/gone", status=404)) == ""
        with pytest.raises(
            FlowauditError, match=r"The smoke test failed: GET http://portal\.example:\d+/gone answered"
        ):
            smoke.require(place, Check("/gone"))
    finally:
        server.stop()
    assert "got no answer (ConnectionRefusedError" in smoke.problem(place, Check("/"))


@pytest.mark.parametrize(
    ("engine", "lock"),
    [
        ("acme/backend@sha256:1", "docker.io/acme/backend@sha256:1"),
        ("postgres@sha256:1", "docker.io/library/postgres@sha256:1"),
        ("registry:5000/x/y@sha256:1", "registry:5000/x/y:1.0@sha256:1"),
    ],
)
def test_an_image_is_found_under_the_engines_name(engine: str, lock: str) -> None:
    answer = json.dumps({"digests": [engine], "labels": {"a": "b"}})
    assert Engine(lambda command, seconds: Result(0, answer + "\n", "")).image_labels([lock]) == {lock: {"a": "b"}}


@pytest.mark.parametrize(
    "wrong", [{"path": "/suche?q=Prüfung"}, {"path": "/", "headers": {"a": "b\r\nc"}}, {"path": "/a b"}]
)
def test_what_http_cannot_send_is_refused_before(wrong: dict[str, t.Any]) -> None:
    with pytest.raises(FlowauditError, match="percent-encoding"):
        Check.of(wrong)


def test_only_what_is_recent_counts() -> None:
    lines = [
        json.dumps({"ServiceAddr": "a-1", "OriginStatus": 500, "StartUTC": f"2026-01-31T{hour}:00:00.5Z"})
        for hour in (10, 12)
    ]
    assert watch.count(lines, "a-", since="2026-01-31T11:00:00") == watch.Count(1, 1)


def test_a_check_comes_from_an_option() -> None:
    values = {"path": "/", "service": None, "method": "HEAD", "seconds": 2.5}
    assert Check.of(values) == Check("/", method="HEAD", seconds=2.5)
    secret = {"path": "/", "headers": {"X-Role": "user"}, "secret_headers": {"Authorization": "Bearer x"}}
    assert Check.of(secret).headers == {"X-Role": "user", "Authorization": "Bearer x"}


# ── The edge's log ───────────────────────────────────────────────────────────────────────────────────────────────────
def line(server: str, status: int) -> str:
    return json.dumps({"ServiceAddr": server, "OriginStatus": status}) + "\n"


def test_only_a_colours_own_answers_count() -> None:
    lines = [
        line("app-green-backend:8000", 200),
        line("app-green-frontend:8080", 502),
        line("app-blue-backend:8000", 500),
    ]
    lines += [
        "no json",
        "[]",
        json.dumps({"DownstreamStatus": 500}),
        json.dumps({"ServiceAddr": "app-green-x", "OriginStatus": "odd"}),
    ]
    assert watch.count(lines, "app-green-") == watch.Count(2, 1)


@pytest.mark.parametrize(
    ("before", "after", "rises"),
    [
        ((100, 0), (100, 4), False),  # too few to say
        ((100, 0), (100, 5), True),
        ((100, 10), (100, 11), False),  # it was like that before
        ((0, 0), (1000, 10), False),
    ],
)
def test_errors_rise(before: tuple[int, int], after: tuple[int, int], rises: bool) -> None:
    assert watch.rises(watch.Count(*before), watch.Count(*after), ratio=0.02, least=5) is rises


def test_the_log_is_followed_over_a_rotation(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "access.log"
    assert (watch.AccessLog(str(path)).read(), watch.AccessLog("").tail()) == ([], [])
    path.write_text("one\n")
    log = watch.AccessLog(str(path))
    assert log.tail() == ["one"]
    with path.open("a") as stream:
        stream.write("two\nthr")
        stream.flush()
        assert log.read() == ["two"]
        stream.write("ee\n")
    assert log.read() == ["three"]
    path.rename(tmp_path / "access.log.1")
    path.write_text("four\n")
    assert log.read() == ["four"]
    path.write_text("5\n")
    assert log.read() == ["5"]
    path.unlink()
    assert log.read() == []


def test_only_the_end_of_a_long_log_is_read(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_TAIL", 10)
    path = tmp_path / "access.log"
    path.write_text("first line\nlast\n")
    assert watch.AccessLog(str(path)).tail() == ["last"]


# ── The engine ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_what_the_engine_says_is_in_the_sentence() -> None:
    engine = Engine(lambda command, seconds: Result(1, "", "line 1\nline 2\n line 3\nline 4\n"))
    with pytest.raises(FlowauditError, match="does not tell its containers: line 2"):
        engine.containers("app-blue", ["backend"])
    with pytest.raises(FlowauditError, match="does not tell its containers: exit status 124"):
        Engine(lambda command, seconds: Result(124, "", "")).containers("app-blue", ["backend"])
    assert engine.image_labels(["x"]) == {}
    empty = Engine(lambda command, seconds: Result(1, "[]", "Error: No such container: app-blue-backend-1\n"))
    assert empty.containers("app-blue", ["backend"]) == {}
    assert not engine.remove_image("x")
    with pytest.raises(FlowauditError, match=r"The image x cannot be pulled: line 2 / line 3 / line 4"):
        engine.pull("x", 1)
    assert Result(3, "", "").said == "exit status 3"
