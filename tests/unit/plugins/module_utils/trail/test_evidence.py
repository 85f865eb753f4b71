# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A package holds what was asked for, proves it, and is written whole or not at all."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import os
import pathlib
import re
import tarfile
import typing as t
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    anchors,
    archive,
    check_evidence,
    evidence,
    evidence_text,
    merkle,
    note,
    query,
    rotation,
    verify,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import syslog
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.evidence import Kept, Selection, Wishes
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, RUN_B, SECRET, Made, moment

SIGNED = 32  # entries that the newest checkpoint covers
KEYS = (0, 13)  # entries that name one


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def made(original: Made, tmp_path: pathlib.Path) -> Made:
    return original.copy(tmp_path)


def kept(made: Made, *paths: pathlib.Path) -> list[Kept]:
    with made.log() as log:
        return evidence.read_anchors([str(path) for path in paths or (made.worm,)], log.origin)


def export(
    made: Made, directory: pathlib.Path, selection: Selection | None = None, **more: t.Any
) -> tuple[evidence.Summary, dict[str, t.Any]]:
    """What was written, and what it proves."""
    directory.mkdir()
    items = more.pop("kept", ())
    with made.log() as log:
        summary = evidence.write(log, directory, Wishes(selection or Selection(), **more), items)
    return summary, check_evidence.check(str(directory), signed=evidence.is_signed)


def lines(path: pathlib.Path) -> list[t.Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# ── Anchors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_anchors_are_read_from_directories_files_and_syslog(made: Made, tmp_path: pathlib.Path) -> None:
    newest = made.checkpoints()[SIGNED]
    message = syslog.message(newest, 0.0, "cn1", 1).decode()
    other = newest.replace("node/trail/", "other/trail/")
    (made.worm / "other.checkpoint").write_text(other)
    (tmp_path / "messages").write_text(f"something else\n{message}\n")
    with gzip.open(tmp_path / "messages.1.gz", "wt") as stream:
        stream.write(f"{message}\n{message}\n")
    one = next(iter(made.worm.glob("*-early.checkpoint")))
    items = kept(made, made.worm, tmp_path / "messages", tmp_path / "messages.1.gz", one)
    assert [item.keeper for item in items] == [
        *[str(made.worm)] * 2,
        str(tmp_path / "messages"),
        *[str(tmp_path / "messages.1.gz")] * 2,
        str(one),
    ]
    assert {item.anchor.note for item in items[2:5]} == {newest}
    assert items[2].anchor.source == f"{tmp_path / 'messages'}: the syslog's line 2"
    assert [item.token for item in items] == [None] * 6


def test_a_damaged_anchor_is_handed_on_to_be_noticed(made: Made) -> None:
    (made.worm / "bad.checkpoint").write_text("nothing\n")
    items = kept(made)
    assert len(items) == 3
    with made.log() as log:
        finding = evidence.prove(log, items).report.finding
    assert finding is not None
    assert "bad.checkpoint is no checkpoint" in finding.message


def test_a_place_without_a_checkpoint_of_the_log_is_an_error(made: Made, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FlowauditError, match=r"empty holds no checkpoint of the log node/trail/.*; name where"):
        kept(made, tmp_path / "empty")
    with pytest.raises(FlowauditError, match=r"The anchors in .*missing cannot be read: .*No such file"):
        kept(made, tmp_path / "missing")
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(FlowauditError, match=r"The anchors in .*bad.gz cannot be read"):
        kept(made, tmp_path / "bad.gz")


def test_timestamps_count_when_they_hold(made: Made, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made.directory / "timestamps"
    with made.log() as log:
        assert evidence.read_timestamps(log, "") == []
        assert evidence.read_timestamps(log, "ca.pem") == []
    place.mkdir()
    for size, signed in made.checkpoints().items():
        (place / f"{size}.checkpoint").write_text(signed)
    token = place / f"{SIGNED}.tsr"
    token.write_bytes(b"token")

    def stamped(given_settings: anchors.Settings, _origin: str) -> list[verify.Anchor]:
        assert (given_settings.timestamp_directory, given_settings.timestamp_ca) == (str(place), "ca.pem")
        return [verify.Anchor(str(token), "the note")]

    monkeypatch.setattr(anchors, "kept", stamped)
    with made.log() as log:
        (item,) = evidence.read_timestamps(log, "ca.pem")
    assert (item.token, item.anchor.note) == (token, made.checkpoints()[SIGNED])
    # And into a package, with the authority's certificate.
    ca = tmp_path / "ca.pem"
    ca.write_text("certificate")
    (tmp_path / "package").mkdir()
    with made.log() as log:
        evidence.write(log, tmp_path / "package", Wishes(timestamp_ca=str(ca)), [item])
    stem = f"{SIGNED:016d}-0001"
    assert (tmp_path / f"package/anchors/{stem}.tsr").read_bytes() == b"token"
    assert (tmp_path / "package/anchors/timestamp-ca.pem").read_text() == "certificate"
    seen = []

    def stamp(path: str, digest: str, authority: str) -> str:
        seen.append((pathlib.Path(path).name, len(digest), pathlib.Path(authority).name))
        return "Mar  1 10:00:00 2026 GMT"

    proved = check_evidence.check(str(tmp_path / "package"), signed=evidence.is_signed, stamped=stamp)
    assert proved["timestamps"] == [{"file": f"anchors/{stem}.tsr", "time": "Mar  1 10:00:00 2026 GMT"}]
    assert seen == [(f"{stem}.tsr", 64, "timestamp-ca.pem")]
    assert "openssl ts -verify" in (tmp_path / "package/README.md").read_text()


# ── Proving ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_good_log_is_proved(made: Made) -> None:
    with made.log() as log:
        proof = evidence.prove(log, kept(made), [note.parse_key(made.first_key())])
    assert proof.report.whole
    assert (proof.report.size, proof.report.signed_size, proof.report.anchors) == (34, SIGNED, 2)
    assert (proof.archived, proof.deleted) == (0, 0)


def test_stored_hashes_are_proved_too(made: Made) -> None:
    with made.database() as connection:
        connection.execute("INSERT INTO nodes VALUES (8, 0, ?)", (bytes(32),))
    with made.log() as log:
        finding = evidence.prove(log).report.finding
    assert finding is not None
    assert "stored hashes of entries that are not there" in finding.message


def archived(made: Made, tmp_path: pathlib.Path, delete: bool = False) -> str:
    """The log after retention: run A is archived, and deleted if asked for."""
    place = tmp_path / "archive"
    place.mkdir(exist_ok=True)
    with made.database() as connection:
        # The log was made today; retention goes by the entries' time.
        connection.execute("CREATE TABLE IF NOT EXISTS scratch (x)")
        connection.execute("DROP TABLE scratch")
    with made.log() as log:
        archive._archive(log, place, archive.Archive(0, 12, archive._file(log, 0, 13), ""))
        if delete:
            (item,) = archive.archives(log)
            log.append([{"type": "pruned", "ts": moment(50), "first": item.first, "last": item.last}])
            (place / item.file).unlink()
        log.add_checkpoint()
    return str(place)


def test_archived_entries_are_counted_and_can_be_read(made: Made, tmp_path: pathlib.Path) -> None:
    place = archived(made, tmp_path)
    with made.log() as log:
        proof = evidence.prove(log)
        assert (proof.report.whole, proof.archived, proof.deleted) == (True, 12, 0)
        proof = evidence.prove(log, archive_directory=place)
        assert (proof.report.whole, proof.archived, proof.deleted) == (True, 0, 0)


def test_deleted_entries_are_counted(made: Made, tmp_path: pathlib.Path) -> None:
    archived(made, tmp_path, delete=True)
    with made.log() as log:
        proof = evidence.prove(log)
    assert (proof.report.whole, proof.archived, proof.deleted) == (True, 0, 12)


@pytest.mark.parametrize(("places", "lost"), [("seq = 15", 15), ("seq BETWEEN 5 AND 12", 5), ("seq IN (12, 15)", 15)])
def test_bytes_that_are_gone_without_a_word_are_a_finding(
    made: Made, tmp_path: pathlib.Path, places: str, lost: int
) -> None:
    if lost == 15:
        archived(made, tmp_path)
    with made.database() as connection:
        connection.execute(f"UPDATE entries SET line = NULL WHERE {places}")
    with made.log() as log:
        finding = evidence.prove(log).report.finding
    assert finding is not None
    assert (finding.first, finding.last) == (lost, lost)
    assert f"The bytes of entry {lost} are gone, and no entry says" in finding.message


@pytest.mark.parametrize(
    "line", [b'"type":"archived"', b'{"type":"archived"}', b'{"type":"archived","first":"0","last":9}', b'{"x":1}']
)
def test_an_odd_announcement_announces_nothing(line: bytes) -> None:
    assert evidence._told(line, "archived") == []


# ── The package ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_whole_log_is_everything_that_is_signed(made: Made, tmp_path: pathlib.Path) -> None:
    package = tmp_path / "package"
    summary, proved = export(made, package, kept=kept(made))
    assert (summary.size, summary.entries, summary.without_bytes, summary.openings) == (SIGNED, SIGNED, 0, 0)
    assert (summary.checkpoints, summary.anchors) == (3, 2)
    assert (proved["whole"], proved["entries"], proved["root"]) == (True, SIGNED, summary.root)
    assert [value["seq"] for value in lines(package / "entries.jsonl")] == list(range(SIGNED))
    assert lines(package / "entries.jsonl") == made.entries()[:SIGNED]
    assert sorted(path.name for path in package.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "anchors",
        "check_evidence.py",
        "checkpoints",
        "entries.jsonl",
        "keys",
        "manifest.json",
    ]
    manifest = json.loads((package / "manifest.json").read_bytes())
    assert (manifest["whole"], manifest["selection"]) == (True, {})
    assert [item["source"].startswith(str(made.worm)) for item in manifest["anchors"]] == [True, True]
    assert all(path.stat().st_mode & 0o077 == 0 for path in package.rglob("*"))
    sample = "anna"
    assert not any(sample in path.read_text() for path in package.rglob("*") if path.is_file())


def test_disclosed_values_are_those_of_the_entries(made: Made, tmp_path: pathlib.Path) -> None:
    summary, proved = export(made, tmp_path / "package", Selection(run=RUN_A), openings=True)
    assert (summary.openings, proved["openings"]) == (2, 2)
    told = [base64.b64decode(item["value"]) for item in lines(tmp_path / "package/openings.jsonl")]
    assert told == [b'{"login_user":"anna","uid":1000,"user":"anna"}', SECRET.encode()]


def test_erased_values_are_not_there_to_disclose(made: Made, tmp_path: pathlib.Path) -> None:
    with made.log() as log:
        erased = {"type": "redaction", "ts": moment(50), "commitments": [], "reason": "asked"}
        log.erase([made.openings["bert"].commitment], erased)
    summary, _proved = export(made, tmp_path / "package", Selection(run=RUN_B), openings=True)
    assert summary.openings == 0
    assert not (tmp_path / "package/openings.jsonl").exists()


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(run=RUN_A), range(1, 13)),
        (Selection(change_id="CHG-2"), range(20, 31)),
        (Selection(period=query.Period(moment(0, 3), moment(0, 6))), range(4, 7)),
        (Selection(first=3, last=5), range(3, 6)),
        (Selection(first=30), range(30, 32)),
        (Selection(last=2), range(3)),
        (Selection(run=RUN_A, first=6), range(6, 13)),
        (Selection(first=13, last=13), [13]),
    ],
)
def test_a_part_is_what_was_selected_and_the_keys(
    made: Made, tmp_path: pathlib.Path, selection: Selection, wanted: t.Iterable[int]
) -> None:
    package = tmp_path / "package"
    summary, proved = export(made, package, selection, kept=kept(made))
    expected = sorted({*wanted, *KEYS})
    assert [value["seq"] for value in lines(package / "entries.jsonl")] == expected
    assert (summary.entries, proved["entries"], proved["whole"]) == (len(expected), len(expected), False)
    assert proved["selection"] == selection.told()
    assert [proof["seq"] for proof in lines(package / "proofs/inclusion.jsonl")] == expected
    # The same from the archive, entry by entry.
    with made.log() as log:
        found = evidence._Writing(log, package, Wishes(selection, archive_directory=str(tmp_path)), ())._selected()
        assert [row.seq for row, _wanted in found] == expected


def test_a_part_keeps_the_checkpoints_that_say_something_about_it(made: Made, tmp_path: pathlib.Path) -> None:
    for number in range(5):
        made.append({"type": "event", "ts": moment(50, number)})
        made.keep()
    sizes = sorted(made.checkpoints())
    assert sizes == [13, 14, SIGNED, 35, 36, 37, 38, 39]
    export(made, tmp_path / "package", Selection(run=RUN_B), kept=kept(made))
    names = [int(path.stem) for path in sorted((tmp_path / "package/checkpoints").iterdir())]
    assert names == [14, SIGNED, 39]  # the new key, the first after the run, the newest
    anchored = [int(path.stem[:16]) for path in sorted((tmp_path / "package/anchors").iterdir())]
    assert anchored == [SIGNED, 39]
    proofs = [proof["earlier"] for proof in lines(tmp_path / "package/proofs/consistency.jsonl")]
    assert proofs == [14, SIGNED]


def test_every_change_of_keys_is_in_a_part(made: Made, tmp_path: pathlib.Path) -> None:
    for number in range(3):
        with made.log() as log:
            rotation.rotate(log)
        made.append({"type": "event", "ts": moment(50, number)})
        made.keep()
    _summary, proved = export(made, tmp_path / "package", Selection(first=1, last=1), kept=kept(made))
    assert len(proved["keys"]) == 5
    assert proved["keys"][0] == made.first_key()


def test_a_checkpoint_that_only_others_have_is_the_logs_too(made: Made, tmp_path: pathlib.Path) -> None:
    items = kept(made)
    with made.database() as connection:
        connection.execute("DELETE FROM checkpoints WHERE size = ?", (SIGNED,))
    summary, _proved = export(made, tmp_path / "package", kept=items)
    assert summary.size == SIGNED


def test_entries_without_bytes_are_listed_by_their_hash(made: Made, tmp_path: pathlib.Path) -> None:
    place = archived(made, tmp_path)
    summary, proved = export(made, tmp_path / "without")
    assert (summary.entries, summary.without_bytes, proved["without_bytes"]) == (35 - 12, 12, 12)
    listed = (tmp_path / "without/leaves.txt").read_text().splitlines()
    with made.log() as log:
        assert listed == [f"{row.seq} {row.leaf.hex()}" for row in log.rows(1, 13)]
    summary, _proved = export(made, tmp_path / "with", archive_directory=place)
    assert (summary.entries, summary.without_bytes) == (35, 0)
    assert not (tmp_path / "with/leaves.txt").exists()


def test_archived_entries_are_selected_from_the_archive(made: Made, tmp_path: pathlib.Path) -> None:
    place = archived(made, tmp_path)
    with pytest.raises(
        FlowauditError, match=r"No entry of the trail in .* fits {'run': '.*'}, of those that are signed"
    ):
        export(made, tmp_path / "without", Selection(run=RUN_A))
    _summary, proved = export(made, tmp_path / "with", Selection(run=RUN_A), archive_directory=place)
    assert proved["entries"] == 14


def test_what_is_not_signed_is_not_selected(made: Made, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match=r"No entry .* fits {'first': 33}, of those that are signed \(32\)"):
        export(made, tmp_path / "package", Selection(first=33))


def test_a_log_that_nobody_signed_is_no_evidence(made: Made, tmp_path: pathlib.Path) -> None:
    with made.database() as connection:
        connection.execute("DELETE FROM checkpoints")
    with pytest.raises(FlowauditError, match="is signed by nobody yet; anchor it"):
        export(made, tmp_path / "package")


def test_a_key_that_was_not_handed_over_makes_no_good_package(made: Made, tmp_path: pathlib.Path) -> None:
    with made.database() as connection:
        connection.execute("DELETE FROM checkpoints WHERE size = 14")
    with pytest.raises(check_evidence.Wrong, match="The key of entry 13 was not signed by the key before it"):
        export(made, tmp_path / "package", Selection(run=RUN_A))


def test_an_entry_with_a_line_break_is_not_exported(made: Made, tmp_path: pathlib.Path) -> None:
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = replace(line, ',', char(10) || ',') WHERE seq = 3")
    with pytest.raises(FlowauditError, match="An entry has a line break, which no entry has"):
        export(made, tmp_path / "package")


def test_a_package_that_cannot_be_written_is_an_error(made: Made, tmp_path: pathlib.Path) -> None:
    (tmp_path / "package").write_text("a file")
    with made.log() as log, pytest.raises(FlowauditError, match=r"The evidence cannot be written to .*package: "):
        evidence.write(log, tmp_path / "package", Wishes())


def test_the_same_log_makes_the_same_package(made: Made, tmp_path: pathlib.Path) -> None:
    for name in ("one", "two"):
        export(made, tmp_path / name, kept=kept(made), openings=True)
        evidence.pack(tmp_path / name, tmp_path / f"{name}.tar.gz")
        os.utime(tmp_path / name / "README.md", (1, 1))
    assert evidence.same(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_a_packed_package_holds_after_it_was_unpacked(made: Made, tmp_path: pathlib.Path) -> None:
    export(made, tmp_path / "package")
    evidence.pack(tmp_path / "package", tmp_path / "package.tgz")
    assert (tmp_path / "package.tgz").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "package.tgz") as packed:
        assert {(member.uid, member.uname, member.mtime) for member in packed} == {(0, "", 315532800)}
        packed.extractall(tmp_path / "out", filter="data")
    assert check_evidence.check(str(tmp_path / "out/flowaudit-evidence"), signed=evidence.is_signed)["whole"]
    assert [evidence.is_archive(pathlib.Path(name)) for name in ("a.tgz", "a.tar.gz", "a.gz", "a")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_tree_forgets_before_it_grows_too_large(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_REMEMBERED", 3)
    known: dict[tuple[int, int], bytes] = {}
    with made.log() as log:
        tree = evidence._Tree(34, log.hashes, known)
        rows = list(log.rows())
        root = merkle.root(row.leaf for row in rows)
        for row in rows:
            proof = tree.inclusion_proof(row.seq)
            assert merkle.verify_inclusion(row.leaf, row.seq, 34, proof, root)
            assert len(known) <= 3


def test_many_openings_are_read_in_parts(made: Made, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_AT_ONCE", 1)
    summary, _proved = export(made, tmp_path / "package", openings=True)
    assert summary.openings == 4


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(selection=st.data())
def test_whatever_is_selected_the_package_holds(made: Made, tmp_path: pathlib.Path, selection: st.DataObject) -> None:
    first = selection.draw(st.integers(0, SIGNED - 1))
    last = selection.draw(st.integers(first, SIGNED - 1))
    package = tmp_path / os.urandom(8).hex()
    _summary, proved = export(made, package, Selection(first=first, last=last), kept=kept(made))
    assert proved["entries"] == len({*range(first, last + 1), *KEYS})


# ── The checker's source ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_checker_goes_along_as_its_source() -> None:
    path = check_evidence.__file__
    assert path is not None
    assert evidence.checker() == pathlib.Path(path).read_text(encoding="utf-8")


def test_the_checker_is_found_in_an_archive_of_modules(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive_file:
        archive_file.writestr("checker.py", "X = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "modules.zip"))
    spec = importlib.util.find_spec("checker")
    assert spec is not None
    monkeypatch.setattr(check_evidence, "__spec__", spec)
    monkeypatch.setattr(check_evidence, "__name__", "checker")
    assert evidence.checker() == "X = 1\n"


def test_a_checker_without_source_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_evidence, "__spec__", None)
    with pytest.raises(FlowauditError, match=r"The source of check_evidence.py is not there"):
        evidence.checker()


# ── Delivery ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def package(path: pathlib.Path, text: str = "x") -> pathlib.Path:
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"format": check_evidence.FORMAT, "text": text}))
    (path / "keys").mkdir()
    return path


def test_packages_are_the_same_when_each_file_is(tmp_path: pathlib.Path) -> None:
    one, two = package(tmp_path / "one"), package(tmp_path / "two")
    assert evidence.same(one, two)
    (two / "keys/1.pem").write_text("x")
    assert not evidence.same(one, two)
    (one / "keys/1.pem").write_text("y")
    assert not evidence.same(one, two)
    assert not evidence.same(one, one / "keys/1.pem")
    assert not evidence.same(one / "keys/1.pem", two / "keys/1.pem")


def test_a_package_gets_its_name_when_nothing_has_it(tmp_path: pathlib.Path) -> None:
    evidence.deliver(package(tmp_path / "scratch/made"), tmp_path / "dest", force=False)
    assert (tmp_path / "dest/manifest.json").exists()
    (tmp_path / "scratch/file").write_text("packed")
    evidence.deliver(tmp_path / "scratch/file", tmp_path / "dest.tgz", force=False)
    assert (tmp_path / "dest.tgz").read_text() == "packed"


def test_nothing_is_replaced_unless_told_to(tmp_path: pathlib.Path) -> None:
    dest = package(tmp_path / "dest", "old")
    new = package(tmp_path / "scratch/made", "new")
    with pytest.raises(FlowauditError, match="dest is there already and holds something else; name another one"):
        evidence.deliver(new, dest, force=False)
    evidence.deliver(new, dest, force=True)
    assert json.loads((dest / "manifest.json").read_bytes())["text"] == "new"
    (tmp_path / "file").write_text("old")
    (tmp_path / "scratch/file").write_text("new")
    evidence.deliver(tmp_path / "scratch/file", tmp_path / "file", force=True)
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("content", [None, "no json", "[]", "{}"])
def test_only_a_package_is_replaced(tmp_path: pathlib.Path, content: str | None) -> None:
    dest = tmp_path / "home"
    dest.mkdir()
    if content is not None:
        (dest / "manifest.json").write_text(content)
    with pytest.raises(FlowauditError, match="home is there already and is no evidence package; it is not replaced"):
        evidence.deliver(package(tmp_path / "scratch/made"), dest, force=True)
    assert dest.exists()


def test_the_old_package_stays_when_the_new_one_cannot_have_its_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, new = package(tmp_path / "dest", "old"), package(tmp_path / "scratch/made", "new")
    rename = os.rename

    def fail(source: pathlib.Path, target: pathlib.Path) -> None:
        if source == new:
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(FlowauditError, match=r"The evidence cannot be written to .*dest: Permission denied"):
        evidence.deliver(new, dest, force=True)
    assert json.loads((dest / "manifest.json").read_bytes())["text"] == "old"


def test_scratch_is_gone_afterwards(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ZeroDivisionError), evidence.scratch(tmp_path, "name") as place:
        (place / "file").write_text("x")
        assert place.name.startswith(".name.")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(FlowauditError, match=r"cannot be written to .*missing"),
        evidence.scratch(tmp_path / "missing", "x"),
    ):
        pass


# ── The README ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("more", [True, False])
def test_the_readme_says_what_is_there_and_nothing_else(whole: bool, more: bool) -> None:
    facts = evidence_text.Facts("node`/trail", 9, 5, 4 if more else 0, "" if whole else "run `x`", more, more, more)
    text = evidence_text.readme(facts)
    german, english = text.split("\n---\n")
    for half in (german, english):
        assert half.count("```bash") == 3 + (1 if whole else 2) + 2 * more + 1
        assert ("leaves.txt` |" in half) == more
        assert ("anchors/*.tsr` |" in half) == more
        assert ("openings.jsonl` |" in half) == more
        assert ("proofs/inclusion.jsonl" in half) != whole
        assert ("declare -A due" in half) == whole
        assert "node'/trail" in half
        assert ("run 'x'" in half) != whole
        assert not {"@wrong@", "@entry@"} & set(re.findall("@[a-z]+@", half))
        assert "\n\n\n" not in half
    assert "FALSCH" in german
    assert "WRONG" not in german
    assert "WRONG" in english
    assert "Was es nicht beweist" in german
    assert "What it does not prove" in english
