# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program that goes into a package: what was altered is found and named, what is unusual breaks nothing."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import pathlib
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import check_evidence, evidence, merkle
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.check_evidence import Wrong
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.evidence import Selection, Wishes
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, Made, moment

# What is said about the entries, and proves nothing; the sums show when it was altered.
SAID = {"README.md", "check_evidence.py", "manifest.json", "SHA256SUMS"}


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Packages of a log: the whole of it, a part, and the whole without the bytes of some."""
    place = tmp_path_factory.mktemp("packages")
    made = trail_evidence.make(place / "trail")
    packages = {
        "whole": write(made, place / "whole", Wishes(openings=True)),
        "part": write(made, place / "part", Wishes(Selection(run=RUN_A), openings=True)),
    }
    told = {"type": "archived", "ts": moment(50), "first": 3, "last": 9, "file": "x", "sha256": "x"}
    made.append(told, {"type": "pruned", "ts": moment(50), "first": 3, "last": 5})
    with made.log() as log:
        log.add_checkpoint()
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq IN (3, 4, 5, 7, 8)")
    return packages | {"pruned": write(made, place / "pruned", Wishes(openings=True))}


def write(made: Made, directory: pathlib.Path, wishes: Wishes) -> pathlib.Path:
    directory.mkdir()
    with made.log() as log:
        evidence.write(log, directory, wishes, evidence.read_anchors([str(made.worm)], log.origin))
    return directory


@pytest.fixture(params=["whole", "part", "pruned"])
def package(request: pytest.FixtureRequest, original: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> pathlib.Path:
    return copy(original[request.param], tmp_path)


def copy(package: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(package, tmp_path / package.name))


def check(package: pathlib.Path, *trusted: str) -> dict[str, t.Any]:
    return check_evidence.check(str(package), trusted, signed=evidence.is_signed)


def sum_up(package: pathlib.Path) -> None:
    """Sums that fit again, as one writes them who has altered a file."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(package)}\n" for path in files]
    (package / "SHA256SUMS").write_text("".join(lines))


def alter(package: pathlib.Path, name: str, change: t.Callable[[list[t.Any]], list[t.Any]]) -> None:
    """Change the lines of JSON in a file."""
    lines = change([json.loads(line) for line in (package / name).read_bytes().splitlines()])
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)
    (package / name).write_text(text)
    sum_up(package)


def test_a_package_that_was_not_altered_holds(package: pathlib.Path) -> None:
    proved = check(package)
    assert (proved["whole"], proved["trusted"]) == (package.name != "part", False)
    assert proved["without_bytes"] == (5 if package.name == "pruned" else 0)
    assert check(package, proved["keys"][0])["trusted"]
    assert "OK: " in check_evidence.told(proved)[0]
    alter(package, "entries.jsonl", lambda lines: lines)
    assert check(package)["keys"] == proved["keys"]


def test_another_key_than_the_trusted_one_is_found(package: pathlib.Path) -> None:
    other = "node/trail/x+" + hashlib.sha256(b"node/trail/x\n\x01" + bytes(32)).hexdigest()[:8]
    other += "+" + base64.b64encode(b"\x01" + bytes(32)).decode()
    with pytest.raises(Wrong, match=r"The log began with the key .*, which is not the one that is trusted"):
        check(package, other)
    assert check(package, other, check(package)["keys"][0])["trusted"]


# ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_came_went_or_changed_are_found(package: pathlib.Path) -> None:
    readme = package / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace("WRONG", "RIGHT"))
    with pytest.raises(Wrong, match=r"README.md was altered: it has not the SHA-256"):
        check(package)
    readme.unlink()
    with pytest.raises(Wrong, match=r"README.md is missing"):
        check(package)
    readme.write_text(text)
    (package / "more.txt").touch()
    with pytest.raises(Wrong, match=r"more.txt was added: SHA256SUMS does not list it"):
        check(package)
    (package / "more.txt").unlink()
    check(package)


@pytest.mark.parametrize("name", ["link", "keys/\x1b[2J"])
def test_links_and_odd_names_are_refused(package: pathlib.Path, name: str) -> None:
    if name == "link":
        (package / name).symlink_to(package / "README.md")
    else:
        (package / name).touch()
    with pytest.raises(Wrong, match="is a link or an odd name") as raised:
        check(package)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("line", ["nothing", "0" * 64 + "  ./../x", "0" * 64 + "  ./README.md"])
def test_odd_sums_are_found(package: pathlib.Path, line: str) -> None:
    with open(package / "SHA256SUMS", "a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(Wrong, match=r"SHA256SUMS has a line that it cannot have|\.\./x is missing"):
        check(package)


def test_a_package_without_sums_is_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Wrong, match="SHA256SUMS cannot be read: No such file or directory"):
        check(tmp_path)
    (tmp_path / "SHA256SUMS").write_bytes(b"\xff")
    with pytest.raises(Wrong, match="SHA256SUMS is no UTF-8 text"):
        check(tmp_path)


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"format":"flowaudit-evidence/2","selection":{},"whole":true}',
        '{"format":"flowaudit-evidence/1","selection":[],"whole":true}',
        '{"format":"flowaudit-evidence/1","selection":{},"whole":1}',
    ],
)
def test_an_odd_manifest_is_found(package: pathlib.Path, manifest: str) -> None:
    (package / "manifest.json").write_text(manifest)
    sum_up(package)
    with pytest.raises(Wrong, match=r"manifest\.json (does not say what the package is|is not that of a package)"):
        check(package)


def test_a_part_does_not_pass_for_the_whole(original: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    package = copy(original["part"], tmp_path)
    manifest = json.loads((package / "manifest.json").read_bytes())
    (package / "manifest.json").write_text(json.dumps({**manifest, "whole": True, "selection": {}}))
    sum_up(package)
    with pytest.raises(Wrong, match="Entry 14 is missing"):
        check(package)


# ── Entries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def set_host(lines: list[t.Any]) -> list[t.Any]:
    lines[2]["host"] = "other"
    return lines


ALTERED: list[tuple[t.Callable[[list[t.Any]], list[t.Any]], str]] = [
    (set_host, r"Entry 3 was not written behind entry 2|Entry 2 is not as it was|The entries 0 to 12 are not those"),
    (lambda lines: lines[:2] + lines[3:], r"Entry \d+ (is missing|has no proof)"),
    (lambda lines: lines[:-1], r"Entry \d+ is missing|There are proofs of entries that are not there"),
    (
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        r"Entry \d+ is (missing or )?not in its place|no proof",
    ),
    (lambda lines: [*lines[:3], lines[2], *lines[3:]], r"Entry \d+ is (missing or )?not in its place"),
    (lambda lines: [*lines, lines[-1]], r"more entries than the newest checkpoint covers|not in its place"),
    (lambda lines: lines[1:], r"Entry \d+ (is missing|has no proof)"),
    (lambda lines: [], r"Entry 0 is missing|proofs of entries that are not there"),
    (lambda lines: [*lines, {**lines[-1], "seq": 4711}], "more entries|Entry 4711 has no proof"),
    (lambda lines: [{**lines[0], "seq": -1}, *lines[1:]], "Entry (0|None) is missing or not in its place"),
    (lambda lines: [{**lines[0], "seq": False}, *lines[1:]], "Entry (0|None) is missing or not in its place"),
    (
        lambda lines: [*lines[:2], {**lines[2], "type": "log.created"}, *lines[3:]],
        "Entry 2 begins a log that has begun",
    ),
    (lambda lines: [{**lines[0], "key": "x"}, *lines[1:]], "Entry 0 names no key: 'x'"),
    (
        lambda lines: [{**lines[0], "type": "event"}, *lines[1:]],
        "not written behind|not as it was|names the log's first key",
    ),
    (lambda lines: [*lines[:2], {"seq": 2}, *lines[3:]], "This is no entry"),
    (
        lambda lines: [*lines[:2], {**lines[2], "type": "pruned", "first": 1, "last": lines[2]["seq"]}, *lines[3:]],
        "Entry 2 does not say which entries it is about",
    ),
    (lambda lines: [*lines[:2], [], *lines[3:]], "This is no entry"),
]


@pytest.mark.parametrize(("change", "said"), ALTERED, ids=range(len(ALTERED)))
def test_altered_entries_are_found(
    package: pathlib.Path, change: t.Callable[[list[t.Any]], list[t.Any]], said: str
) -> None:
    alter(package, "entries.jsonl", change)
    with pytest.raises(Wrong, match=said):
        check(package)


def test_a_file_of_entries_that_was_cut_off_or_is_gone_is_found(package: pathlib.Path) -> None:
    path = package / "entries.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    sum_up(package)
    with pytest.raises(Wrong, match="ends in the middle of a line"):
        check(package)
    path.unlink()
    sum_up(package)
    with pytest.raises(Wrong, match=r"entries\.jsonl is missing"):
        check(package)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0].replace(b" ", b"  "), *lines[1:]], "leaves.txt has a line that it cannot have"),
        (lambda lines: [lines[0][:-1] + (b"0" if lines[0][-1:] != b"0" else b"1"), *lines[1:]], "are not those that"),
        (lambda lines: lines[1:], "Entry 3 is missing or not in its place"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "Entry 3 is missing or not in its place"),
        (lambda lines: [*lines, lines[-1]], "more entries than the newest checkpoint covers"),
        (lambda lines: [], "Entry 3 is missing or not in its place"),
    ],
)
def test_altered_hashes_of_pruned_entries_are_found(
    original: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    change: t.Callable[[list[bytes]], list[bytes]],
    said: str,
) -> None:
    package = copy(original["pruned"], tmp_path)
    path = package / "leaves.txt"
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))
    sum_up(package)
    with pytest.raises(Wrong, match=said):
        check(package)


@pytest.mark.parametrize(("gone", "lost"), [((9,), None), ((2,), 2), ((9, 10), 10), ((11, 12), 11)])
def test_entries_may_go_only_when_the_log_says_so(
    original: dict[str, pathlib.Path], tmp_path: pathlib.Path, gone: tuple[int, ...], lost: int | None
) -> None:
    package = copy(original["pruned"], tmp_path)
    lines = (package / "entries.jsonl").read_bytes().splitlines()
    leaves = {int(line.split()[0]): line for line in (package / "leaves.txt").read_bytes().splitlines()}
    for line in list(lines):
        seq = json.loads(line)["seq"]
        if seq in gone:
            lines.remove(line)
            leaves[seq] = f"{seq} {merkle.leaf_hash(line).hex()}".encode()
    (package / "entries.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (package / "leaves.txt").write_bytes(b"".join(leaves[seq] + b"\n" for seq in sorted(leaves)))
    sum_up(package)
    if lost is None:
        assert check(package)["without_bytes"] == 6
        return
    with pytest.raises(Wrong, match=f"Entry {lost} is missing, and no entry of the log says that it was archived"):
        check(package)


# ── Checkpoints, keys, proofs ────────────────────────────────────────────────────────────────────────────────────────


def notes(package: pathlib.Path) -> list[pathlib.Path]:
    return sorted(package.glob("*/*.checkpoint"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\n\n", "\n", "is no signed checkpoint"),
        ("— ", "- ", "is no signed checkpoint"),
        ("node/trail/", "other/trail/", "is of the log|is not signed by the key of its time"),
        ("node/trail/", "\n", "is no signed checkpoint"),
        ("node/trail/", "\x1b", "is no signed checkpoint"),
    ],
)
def test_altered_checkpoints_are_found(package: pathlib.Path, old: str, new: str, said: str) -> None:
    for path in notes(package):
        before = path.read_text()
        path.write_text(before.replace(old, new, 1))
        sum_up(package)
        with pytest.raises(Wrong, match=said):
            check(package)
        path.write_text(before)
    sum_up(package)
    check(package)


def test_a_signature_by_nobody_is_none(package: pathlib.Path) -> None:
    for path in notes(package):
        before = path.read_text()
        text, _blank, signatures = before.partition("\n\n")
        name, value = signatures.split()[1:3]
        raw = base64.b64decode(value)
        for forged in (raw[:4] + bytes(64), bytes(4) + raw[4:], raw + b"x"):
            path.write_text(f"{text}\n\n— {name} {base64.b64encode(forged).decode()}\n")
            sum_up(package)
            with pytest.raises(Wrong, match="is not signed by the key of its time"):
                check(package)
        path.write_text(before)


def test_a_checkpoint_under_another_name_is_found(package: pathlib.Path) -> None:
    for path in notes(package):
        other = path.with_name("1" + path.name[1:])
        path.rename(other)
        sum_up(package)
        with pytest.raises(Wrong, match="entries, its name says another"):
            check(package)
        other.rename(path)


def test_a_package_without_checkpoints_proves_nothing(package: pathlib.Path) -> None:
    for path in (package / "checkpoints").iterdir():
        path.unlink()
    (package / "checkpoints/notes.txt").touch()
    sum_up(package)
    with pytest.raises(Wrong, match="The package has no checkpoint, so it proves nothing"):
        check(package)


def test_entries_cut_off_with_their_checkpoints_are_found_by_an_anchor(
    original: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    package = copy(original["whole"], tmp_path)
    for path in (package / "checkpoints").iterdir():
        if int(path.stem) > 14:
            path.unlink()
    alter(package, "entries.jsonl", lambda lines: lines[:14])
    with pytest.raises(Wrong, match=r"anchors/.* has 32 entries, the newest checkpoint only 14"):
        check(package)


def test_the_checkpoint_that_hands_a_key_over_is_needed(
    original: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    package = copy(original["whole"], tmp_path)
    (package / "checkpoints/0000000000000014.checkpoint").unlink()
    sum_up(package)
    with pytest.raises(Wrong, match="The key of entry 13 was not signed by the key before it"):
        check(package)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("keys/1.pem", None, "The files in keys are not those"),
        ("keys/3.pem", "x", "The files in keys are not those"),
        ("keys/1.pem", "x", "keys/1 is not the key that entry 0 names"),
        ("keys/2.vkey", "x", "keys/2 is not the key that entry 13 names"),
    ],
)
def test_altered_keys_are_found(package: pathlib.Path, name: str, change: str | None, said: str) -> None:
    path = package / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change)
    sum_up(package)
    with pytest.raises(Wrong, match=said):
        check(package)


def test_a_log_made_anew_with_another_key_is_found_by_the_trusted_key_and_by_anchors(
    original: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "forged").mkdir()
    forged = trail_evidence.make(tmp_path / "forged" / "trail")
    package = write(forged, tmp_path / "package", Wishes())
    assert check(package)["whole"]
    trusted = check(original["whole"])["keys"][0]
    with pytest.raises(Wrong, match="which is not the one that is trusted"):
        check(package, trusted)
    (anchor,) = (original["whole"] / "anchors").glob("*-0002.checkpoint")
    shutil.copy(anchor, package / "anchors")
    sum_up(package)
    with pytest.raises(Wrong, match="is of the log node/trail/"):
        check(package)


def test_a_key_of_another_name_is_refused(original: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    package = copy(original["whole"], tmp_path)
    other = "other+" + hashlib.sha256(b"other\n\x01" + bytes(32)).hexdigest()[:8]
    other += "+" + base64.b64encode(b"\x01" + bytes(32)).decode()
    pretended = check_evidence._Package(str(package), [], "", evidence.is_signed, check_evidence.stamped_by_openssl)
    pretended.files = {"keys/1.pem", "keys/1.vkey"}
    pretended.keys = [(0, check_evidence.parse_key(other, "x"))]
    with pytest.raises(Wrong, match="Entry 0 names a key of other, and the log is node"):
        pretended._check_keys("node")


@pytest.mark.parametrize(
    "key", ["", "a+b", "a+zz+zz", "a+00000000+AA==", "a+00000000+AB==", "node+00000000+" + "A" * 44]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Wrong, match=r"The trusted key names no (Ed25519 )?key"):
        check_evidence.check("nowhere", [key])


PROOFS: list[tuple[str, t.Callable[[list[t.Any]], list[t.Any]], str]] = [
    ("inclusion", lambda lines: lines[:-1], "has no proof"),
    ("inclusion", lambda lines: [*lines, lines[0]], "There are proofs of entries that are not there"),
    ("inclusion", lambda lines: [lines[1], lines[0], *lines[2:]], "Entry 0 has no proof"),
    ("inclusion", lambda lines: [{**lines[0], "size": 31}, *lines[1:]], "Entry 0 has no proof"),
    ("inclusion", lambda lines: [{**lines[0], "hashes": lines[1]["hashes"]}, *lines[1:]], "Entry 0 is not as it was"),
    ("inclusion", lambda lines: [{**lines[0], "hashes": []}, *lines[1:]], "Entry 0 is not as it was"),
    (
        "inclusion",
        lambda lines: [{**lines[0], "hashes": lines[0]["hashes"] * 2}, *lines[1:]],
        "Entry 0 is not as it was",
    ),
    ("inclusion", lambda lines: [{**lines[0], "hashes": ["x"]}, *lines[1:]], "a line that is no proof"),
    ("inclusion", lambda lines: [{**lines[0], "hashes": None}, *lines[1:]], "a line that is no proof"),
    ("inclusion", lambda lines: [{**lines[0], "seq": "0"}, *lines[1:]], "a line that is no proof"),
    ("consistency", lambda lines: lines[1:], "is not proved to be of the log"),
    ("consistency", lambda lines: [*lines, lines[0]], "belongs to no checkpoint"),
    ("consistency", lambda lines: [*lines, {**lines[0], "earlier": 3}], "belongs to no checkpoint"),
    ("consistency", lambda lines: [{**lines[0], "size": 31}, *lines[1:]], "belongs to no checkpoint"),
    ("consistency", lambda lines: [{**lines[0], "hashes": []}, *lines[1:]], "is not proved to be of the log"),
    ("consistency", lambda lines: [{**lines[0], "hashes": lines[0]["hashes"][::-1]}, *lines[1:]], "is not proved"),
    ("consistency", lambda lines: [{**lines[0], "hashes": lines[0]["hashes"] * 3}, *lines[1:]], "is not proved"),
]


@pytest.mark.parametrize(("name", "change", "said"), PROOFS, ids=range(len(PROOFS)))
def test_altered_proofs_are_found(
    original: dict[str, pathlib.Path],
    tmp_path: pathlib.Path,
    name: str,
    change: t.Callable[[list[t.Any]], list[t.Any]],
    said: str,
) -> None:
    package = copy(original["part"], tmp_path)
    alter(package, f"proofs/{name}.jsonl", change)
    with pytest.raises(Wrong, match=said):
        check(package)


def test_a_part_without_the_first_entry_is_refused(original: dict[str, pathlib.Path], tmp_path: pathlib.Path) -> None:
    package = copy(original["part"], tmp_path)
    alter(package, "proofs/inclusion.jsonl", lambda lines: lines[1:])
    alter(package, "entries.jsonl", lambda lines: lines[1:])
    with pytest.raises(Wrong, match="Entry 0, which names the log's first key, is missing"):
        check(package)


def test_an_anchor_of_another_root_is_found_at_the_same_size(
    original: dict[str, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    package = copy(original["part"], tmp_path)
    (anchor,) = (package / "anchors").glob("*32-*.checkpoint")
    text = anchor.read_text()
    root = text.splitlines()[2]
    anchor.write_text(text.replace(root, base64.b64encode(bytes(32)).decode()))
    sum_up(package)
    with pytest.raises(Wrong, match="is not proved to be of the log"):
        check_evidence.check(str(package), signed=lambda _key, _signature, _text: True)


@given(data=st.data())
def test_proofs_lead_where_they_should(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70))
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    tree = merkle.Tree(size, lambda level, start, stop: leaves[start:stop] if level == 0 else [])
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion_proof(index)
    assert check_evidence.included(leaves[index], index, size, proof) == tree.root()
    earlier = data.draw(st.integers(1, size))
    if earlier < size:
        root = merkle.root(leaves[:earlier])
        path = tree.consistency_proof(earlier)
        assert check_evidence.consistent(earlier, size, path, root) == (root, tree.root())
        wrong = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=8).filter(lambda other: other != path))
        assert check_evidence.consistent(earlier, size, wrong, root) != (root, tree.root())
    other = data.draw(st.lists(st.binary(min_size=32, max_size=32), max_size=8).filter(lambda other: other != proof))
    assert check_evidence.included(leaves[index], index, size, other) != tree.root()
    grown = check_evidence.Tree()
    for leaf in leaves:
        grown.append(leaf)
    assert grown.root() == tree.root()


# ── Openings and timestamps ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [{**lines[0], "value": base64.b64encode(b"bert").decode()}, *lines[1:]], "has another value"),
        (lambda lines: [{**lines[0], "salt": lines[1]["salt"]}, *lines[1:]], "has another value"),
        (lambda lines: [{**lines[0], "value": "?"}, *lines[1:]], "a line that is no opening"),
        (lambda lines: [[], *lines[1:]], "a line that is no opening"),
        (
            lambda lines: [
                *lines,
                {"commitment": f"c:{base64.b64encode(hashlib.sha256(b'').digest()).decode()}", "salt": "", "value": ""},
            ],
            "which no entry names",
        ),
    ],
)
def test_altered_openings_are_found(
    package: pathlib.Path, change: t.Callable[[list[t.Any]], list[t.Any]], said: str
) -> None:
    alter(package, "openings.jsonl", change)
    with pytest.raises(Wrong, match=said):
        check(package)


def test_not_every_commitment_needs_to_be_opened(package: pathlib.Path) -> None:
    alter(package, "openings.jsonl", lambda lines: lines[1:])
    assert check(package)["openings"] > 0
    (package / "openings.jsonl").unlink()
    sum_up(package)
    proved = check(package)
    assert proved["openings"] == 0
    assert "Opened" not in "".join(check_evidence.told(proved))


def test_timestamps_are_verified_against_the_authority(package: pathlib.Path) -> None:
    (anchor,) = (package / "anchors").glob("*-0002.checkpoint")
    anchor.with_suffix(".tsr").write_text("token")
    sum_up(package)
    asked = []

    def stamped(token: str, digest: str, ca: str) -> str:
        asked.append((token, digest, ca))
        return "now"

    proved = check_evidence.check(str(package), signed=evidence.is_signed, stamped=stamped, timestamp_ca="/my/ca.pem")
    assert [stamp["time"] for stamp in proved["timestamps"]] == ["now"]
    expected = hashlib.sha256(anchor.read_bytes()).hexdigest()
    assert asked == [(str(anchor.with_suffix(".tsr")), expected, "/my/ca.pem")]
    assert any("Timestamp anchors/" in line for line in check_evidence.told(proved))
    with pytest.raises(Wrong, match="is no timestamp of its checkpoint, or not by the authority"):
        check_evidence.check(str(package), signed=evidence.is_signed, stamped=lambda *_arguments: "")
    anchor.with_suffix(".tsr").rename(package / "anchors/lonely.tsr")
    sum_up(package)
    with pytest.raises(Wrong, match=r"anchors/lonely\.tsr belongs to no checkpoint"):
        check(package)


# ── Every byte ───────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), summed=st.booleans())
def test_no_byte_of_what_proves_can_be_changed(package: pathlib.Path, seed: int, summed: bool) -> None:
    chance = random.Random(seed)
    proves = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    name = chance.choice([name for name in proves if not summed or name not in SAID])
    path = package / name
    content, sums = path.read_bytes(), (package / "SHA256SUMS").read_bytes()
    place = chance.randrange(len(content))
    path.write_bytes(content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :])
    if summed:
        sum_up(package)
    try:
        with pytest.raises(Wrong):
            check(package)
    finally:
        path.write_bytes(content)
        (package / "SHA256SUMS").write_bytes(sums)


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_it_found(
    package: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, key = check_evidence.check, check(package)["keys"][0]
    monkeypatch.setattr(check_evidence, "check", lambda *given: real(*given, signed=evidence.is_signed))
    assert check_evidence.main([str(package), "--key", key]) == 0
    said = capsys.readouterr().out
    assert said.startswith("OK: ")
    assert "NOTE" not in said
    assert ("5 of them were archived or deleted" in said) == (package.name == "pruned")
    assert ("no other entry fits the selection is not proved" in said) == (package.name == "part")
    assert check_evidence.main([str(package)]) == 0
    assert "NOTE: the key came with the package" in capsys.readouterr().out
    (package / "README.md").unlink()
    assert check_evidence.main([str(package)]) == 1
    assert capsys.readouterr().out == "WRONG: README.md is missing.\n"


def test_it_looks_where_it_lies(
    package: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object, **_more: object) -> t.NoReturn:
        raise FileNotFoundError("No such file or directory: 'openssl'")

    monkeypatch.setattr(tempfile, "tempdir", str(package.parent))
    monkeypatch.setattr(shutil, "rmtree", lambda *_arguments, **_more: None)
    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setattr(sys, "argv", ["check_evidence.py"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(package / "check_evidence.py"), run_name="__main__")
    assert end.value.code == 2
    said = capsys.readouterr().out
    assert said == "NOT CHECKED: The command openssl is needed and does not run: No such file or directory: 'openssl'\n"


def test_without_openssl_it_cannot_say(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = FileNotFoundError(2, "No such file or directory", "openssl")
    monkeypatch.setattr(subprocess, "run", lambda *_arguments, **_more: (never for never in ()).throw(missing))
    with pytest.raises(check_evidence.CannotCheck, match="The command openssl is needed and does not run"):
        check_evidence.stamped_by_openssl("t.tsr", "ab", "ca.pem")

    def fail(*_arguments: object) -> t.NoReturn:
        raise check_evidence.CannotCheck("It is too old.")

    monkeypatch.setattr(check_evidence, "check", fail)
    assert check_evidence.main([]) == 2
    assert capsys.readouterr().out == "NOT CHECKED: It is too old.\n"


def openssl(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, str]) -> list[list[str]]:
    """Openssl, as it answered one time after the other; what it was asked."""
    asked: list[list[str]] = []
    left = iter(answers)

    def run(command: list[str], **_more: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        status, said = next(left)
        return subprocess.CompletedProcess(command, status, said.encode())

    monkeypatch.setattr(subprocess, "run", run)
    return asked


KEY = check_evidence.Key("text", "name", b"1234", bytes(32))


def test_openssl_says_whether_a_signature_is_good(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    removed: list[str] = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_more: removed.append(path))
    asked = openssl(
        monkeypatch,
        (0, "Signature Verified Successfully"),
        (1, "Signature Verification Failure"),
        (1, "pkeyutl: Unrecognized flag rawin"),
    )
    assert check_evidence.signed_by_openssl(KEY, bytes(64), b"text\n")
    assert asked[0][:4] == ["openssl", "pkeyutl", "-verify", "-pubin"]
    assert pathlib.Path(asked[0][asked[0].index("-inkey") + 1]).read_bytes() == KEY.pem()
    assert pathlib.Path(asked[0][asked[0].index("-in") + 1]).read_bytes() == b"text\n"
    assert not check_evidence.signed_by_openssl(KEY, bytes(64), b"text\n")
    with pytest.raises(check_evidence.CannotCheck, match=r"3\.0 or newer is needed. It says: pkeyutl: Unrecognized"):
        check_evidence.signed_by_openssl(KEY, bytes(64), b"text\n")
    assert len(removed) == 3


REPLY = "Status info:\nTime stamp: Mar  1 10:00:00.123 2026 GMT\nOrdering: no\n"


def test_openssl_says_when_a_timestamp_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = openssl(monkeypatch, (0, REPLY), (0, "Verification: OK"), (0, REPLY), (1, "FAILED"), (0, "x"), (1, REPLY))
    assert check_evidence.stamped_by_openssl("t.tsr", "ab", "ca.pem") == "Mar  1 10:00:00 2026 GMT"
    assert asked[1][asked[1].index("-attime") + 1] == "1772359200"
    assert asked[1][asked[1].index("-CAfile") + 1] == "ca.pem"
    for _failure in range(3):
        assert check_evidence.stamped_by_openssl("t.tsr", "ab", "ca.pem") == ""


def test_it_is_written_for_older_pythons_and_needs_nothing_else() -> None:
    path = check_evidence.__file__
    assert path is not None
    tree = ast.parse(pathlib.Path(path).read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names
