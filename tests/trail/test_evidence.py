# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Evidence as a third party meets it: no collection, only the package, and the programs that its README names.

Whatever is done to a package is found by its program, run by the system's Python, and by the commands that are taken
from the README itself.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    commitment,
    entry,
    evidence,
    home,
    merkle,
    note,
    query,
    sqlite,
    story,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.evidence import Selection, Wishes
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, Made, moment

# The system's own, with nothing installed into it: that of an auditor.
PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or shutil.which("python3")
BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
LANGUAGES = {"de": "FALSCH", "en": "WRONG"}


@dataclasses.dataclass
class Package:
    """A package, the key its reader trusts, and the commands of its README, as they were before anybody altered it."""

    directory: pathlib.Path
    trusted: str
    commands: dict[str, list[str]]

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(PYTHON), "-I", "-S", "check_evidence.py", *arguments]
        return subprocess.run(command, cwd=self.directory, env=BARE, capture_output=True, text=True, check=False)

    def type(self, language: str = "en", *, trusted: bool = True) -> Iterator[subprocess.CompletedProcess[str]]:
        """What each of the commands says, one after the other."""
        environment = BARE | ({"trusted": self.trusted} if trusted else {})
        for block in self.commands[language]:
            command = ["bash", "-c", block]
            yield subprocess.run(
                command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False
            )

    def path(self, name: str) -> pathlib.Path:
        return self.directory / name

    def sum_up(self) -> None:
        """Sums that fit again."""
        files = sorted(path for path in self.directory.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
        sums = {path.relative_to(self.directory): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        self.path("SHA256SUMS").write_text("".join(f"{digest}  ./{name}\n" for name, digest in sums.items()))

    def alter(self, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
        """Change the lines of a file."""
        path = self.path(name)
        path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))


def packed(made: Made, directory: pathlib.Path, wishes: Wishes) -> Package:
    directory.mkdir()
    with made.log() as log:
        kept = evidence.read_anchors([str(made.worm)], log.origin)
        evidence.write(log, directory, wishes, kept)
    return package_of(directory, made.first_key())


def package_of(directory: pathlib.Path, trusted: str) -> Package:
    halves = (directory / "README.md").read_text(encoding="utf-8").split("\n---\n")
    commands = {
        language: re.findall(r"```bash\n(.*?)\n```", half, re.DOTALL)
        for language, half in zip(LANGUAGES, halves, strict=True)
    }
    return Package(directory, trusted, commands)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    """The whole log, a part of it, and the whole of one from which entries have gone."""
    place = tmp_path_factory.mktemp("evidence")
    made = trail_evidence.make(place / "trail")
    packages = {
        "whole": packed(made, place / "whole", Wishes(openings=True)),
        "part": packed(made, place / "part", Wishes(Selection(run=RUN_A), openings=True)),
    }
    made.append({"type": "archived", "ts": moment(50), "first": 3, "last": 9, "file": "x", "sha256": "x"})
    with made.log() as log:
        log.add_checkpoint()
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq IN (3, 4, 5, 7, 8)")
    return packages | {"gone": packed(made, place / "gone", Wishes())}


@pytest.fixture
def package(request: pytest.FixtureRequest, originals: dict[str, Package], tmp_path: pathlib.Path) -> Package:
    original = originals[request.param]
    copy = pathlib.Path(shutil.copytree(original.directory, tmp_path / "package"))
    return dataclasses.replace(original, directory=copy)


ALL = pytest.mark.parametrize("package", ["whole", "part", "gone"], indirect=True)


@ALL
def test_the_program_says_that_it_holds(package: Package) -> None:
    said = package.program("--key", package.trusted)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("OK: ")
    assert "NOTE" not in said.stdout
    assert "NOTE: the key came with the package" in package.program().stdout


@ALL
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_commands_of_the_readme_say_that_it_holds(package: Package, language: str) -> None:
    answers = list(package.type(language))
    assert len(answers) >= 5
    for answer in answers:
        assert (answer.returncode, answer.stderr) == (0, ""), answer
        assert answer.stdout.splitlines()[-1 if "python3" not in answer.args[2] else 0].startswith("OK")


def test_it_needs_no_more_than_the_readme_says(originals: dict[str, Package], tmp_path: pathlib.Path) -> None:
    """A directory with these programs alone is enough."""
    coreutils = "base64 cat cut mktemp od paste rm seq sha256sum sort tail tr wc"
    for name in f"{coreutils} diff find grep sed bash openssl jq python3".split():
        (tmp_path / name).symlink_to(str(shutil.which(name, path=BARE["PATH"])))
    for kind in ("whole", "part"):
        for block in originals[kind].commands["en"]:
            command = [str(tmp_path / "bash"), "-c", block]
            done = subprocess.run(
                command, cwd=originals[kind].directory, env={"PATH": str(tmp_path)}, capture_output=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, b""), done


# ── What somebody may do to a package ────────────────────────────────────────────────────────────────────────────────

Tampering = Callable[[Package, pathlib.Path], None]
TAMPERING: list[tuple[str, Tampering, bool]] = []


def on(*kinds: str, summed: bool = True) -> Callable[[Tampering], Tampering]:
    """Of which packages it is done; the sums are made to fit afterwards, unless told otherwise."""

    def add(change: Tampering) -> Tampering:
        TAMPERING.extend((kind, change, summed) for kind in kinds)
        return change

    return add


def resealed(lines: list[bytes]) -> list[bytes]:
    """Places and ``prev`` made right again."""
    made: list[bytes] = []
    previous: bytes | None = None
    for seq, line in enumerate(lines):
        row = entry.seal(json.loads(line), seq, previous)
        made.append(row.line or b"")
        previous = row.leaf
    return made


@on("whole", "part", "gone")
def edit_an_entry(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: [line.replace(b'"web02"', b'"web03"') for line in lines])


@on("whole")
def edit_an_entry_and_make_the_chain_right(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: resealed([x.replace(b'"web02"', b'"web03"') for x in lines]))


@on("whole", "part")
def write_an_entry_another_way(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: [*lines[:2], lines[2].replace(b":", b": ", 1), *lines[3:]])


@on("whole", "part", "gone")
def delete_an_entry(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: lines[:2] + lines[3:])


@on("whole")
def delete_an_entry_and_make_the_chain_right(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: resealed(lines[:5] + lines[6:]))


@on("whole")
def insert_an_entry_and_make_the_chain_right(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: resealed([*lines[:5], lines[4], *lines[5:]]))


@on("whole", "part")
def reorder_entries(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])


@on("whole", "part")
def repeat_an_entry(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: [*lines[:4], lines[3], *lines[4:]])


@on("whole", "gone")
def cut_off_the_end(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("entries.jsonl", lambda lines: lines[:-1])


@on("whole")
def cut_off_the_end_with_its_checkpoint(package: Package, _scratch: pathlib.Path) -> None:
    package.path("checkpoints/0000000000000032.checkpoint").unlink()
    package.alter("entries.jsonl", lambda lines: lines[:14])


@on("whole", "part")
def make_it_all_anew_with_another_key(package: Package, scratch: pathlib.Path) -> None:
    forged = trail_evidence.make(scratch / "trail")
    wishes = Wishes(Selection() if package.directory.joinpath("proofs").exists() is False else Selection(run=RUN_A))
    shutil.rmtree(package.directory)
    packed(forged, package.directory, wishes)


@on("whole")
def put_another_key_in(package: Package, scratch: pathlib.Path) -> None:
    signer = home.FileSigner.generate("x", scratch / "key")
    package.path("keys/1.pem").write_text(signer.key.pem())


@on("whole", "part")
def sign_with_another_key(package: Package, scratch: pathlib.Path) -> None:
    newest = sorted(package.path("checkpoints").iterdir())[-1]
    text, _signatures = note.split(newest.read_text())
    newest.write_text(note.sign(text, [home.FileSigner.generate(text.partition("\n")[0], scratch / "key")]))


@on("whole")
def swap_signatures(package: Package, _scratch: pathlib.Path) -> None:
    first, *_others, last = sorted(package.path("checkpoints").iterdir())
    texts = [path.read_text().partition("\n\n") for path in (first, last)]
    first.write_text(f"{texts[0][0]}\n\n{texts[1][2]}")


@on("whole", "part")
def change_a_root(package: Package, _scratch: pathlib.Path) -> None:
    newest = sorted(package.path("checkpoints").iterdir())[-1]
    root = newest.read_text().splitlines()[2]
    newest.write_text(newest.read_text().replace(root, base64.b64encode(bytes(32)).decode()))


@on("whole", "part")
def change_an_anchor(package: Package, _scratch: pathlib.Path) -> None:
    anchor = sorted(package.path("anchors").glob("*.checkpoint"))[0]
    anchor.write_text(anchor.read_text().replace("node/trail", "mode/trail"))


@on("whole", "part")
def say_that_an_anchor_has_no_entries(package: Package, _scratch: pathlib.Path) -> None:
    (anchor, *_others) = sorted(package.path("anchors").glob("*.checkpoint"))
    origin, _size, rest = anchor.read_text().split("\n", 2)
    anchor.with_name(f"{0:016d}-0001.checkpoint").write_text(f"{origin}\n0\n{rest}")


@on("whole", "part")
def take_an_anchor_of_another_log(package: Package, scratch: pathlib.Path) -> None:
    forged = trail_evidence.make(scratch / "trail")
    for path in forged.worm.glob("*32*.checkpoint"):
        shutil.copy(path, package.path("anchors") / f"{path.stem}-0009.checkpoint")


@on("whole", summed=False)
def change_a_file_that_is_listed(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("README.md", lambda lines: lines[:-1])


@on("whole", summed=False)
def add_a_file(package: Package, _scratch: pathlib.Path) -> None:
    package.path("checkpoints/notes.txt").touch()


@on("whole", summed=False)
def remove_a_file(package: Package, _scratch: pathlib.Path) -> None:
    package.path("manifest.json").unlink()


@on("whole", "part")
def disclose_another_value(package: Package, _scratch: pathlib.Path) -> None:
    wrong = base64.b64encode(b'{"user":"bert"}')
    package.alter("openings.jsonl", lambda lines: [re.sub(rb'"value":"[^"]*"', b'"value":"%s"' % wrong, lines[0])])


@on("gone")
def change_the_hash_of_a_pruned_entry(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("leaves.txt", lambda lines: [lines[0][:-2] + b"00", *lines[1:]])


@on("gone")
def lose_the_hash_of_a_pruned_entry(package: Package, _scratch: pathlib.Path) -> None:
    package.alter("leaves.txt", lambda lines: lines[1:])


def proofs(name: str, change: Callable[[list[t.Any]], list[t.Any]]) -> Tampering:
    def tamper(package: Package, _scratch: pathlib.Path) -> None:
        def altered(lines: list[bytes]) -> list[bytes]:
            return [json.dumps(proof).encode() for proof in change([json.loads(line) for line in lines])]

        package.alter(f"proofs/{name}.jsonl", altered)

    return tamper


def swapped(lines: list[t.Any]) -> list[t.Any]:
    lines[1]["hashes"], lines[2]["hashes"] = lines[2]["hashes"], lines[1]["hashes"]
    return lines


def shortened(lines: list[t.Any]) -> list[t.Any]:
    return [{**lines[0], "hashes": lines[0]["hashes"][:-1]}, *lines[1:]]


def lengthened(lines: list[t.Any]) -> list[t.Any]:
    return [{**lines[0], "hashes": [*lines[0]["hashes"], "0" * 64]}, *lines[1:]]


for name, change in (
    ("inclusion", swapped),
    ("inclusion", shortened),
    ("inclusion", lengthened),
    ("inclusion", lambda lines: lines[:-1]),
    ("consistency", shortened),
    ("consistency", lengthened),
    ("consistency", lambda lines: lines[1:]),
):
    on("part")(proofs(name, change))


@pytest.mark.parametrize(("package", "tamper", "summed"), TAMPERING, indirect=["package"])
def test_what_was_done_to_it_is_found_both_ways(
    package: Package, tamper: Tampering, summed: bool, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "scratch").mkdir()
    tamper(package, tmp_path / "scratch")
    if summed:
        package.sum_up()
    said = package.program("--key", package.trusted)
    assert (said.returncode, said.stdout[:7]) == (1, "WRONG: "), said
    answers = (answer for answer in package.type() if "check_evidence.py" not in answer.args[2])
    wrong = next(answer for answer in answers if answer.returncode)
    assert wrong.stdout.splitlines()[-1].startswith("WRONG: ")


def test_there_are_many_ways_to_tamper() -> None:
    assert len({change for _kind, change, _summed in TAMPERING}) >= 25


@pytest.mark.parametrize("package", ["whole", "part"], indirect=True)
def test_no_command_does_what_is_written_in_a_package(package: Package) -> None:
    trap = "a[$(touch pwned)]"
    for path in package.directory.glob("*/*.checkpoint"):
        origin, _size, *rest = path.read_text().split("\n")
        path.write_text("\n".join([origin, trap, *rest]))
    package.alter(
        "entries.jsonl", lambda lines: [re.sub(rb'"seq":\d+', b'"seq":"%s"' % trap.encode(), x) for x in lines]
    )
    for name in ("inclusion", "consistency"):
        if package.path("proofs").exists():
            change = rb'"(seq|size|earlier)":\d+', rb'"\1":"%s"' % trap.encode()
            package.alter(f"proofs/{name}.jsonl", lambda lines: [re.sub(*change, line) for line in lines])  # noqa: B023
    package.sum_up()
    answers = list(package.type())
    assert [answer.returncode for answer in answers[2:4]] == [1, 1]
    assert not list(package.directory.rglob("pwned"))


@pytest.mark.parametrize("package", ["whole"], indirect=True)
def test_it_is_said_in_german_too(package: Package, tmp_path: pathlib.Path) -> None:
    edit_an_entry_and_make_the_chain_right(package, tmp_path)
    package.sum_up()
    last = [answer.stdout.splitlines()[-1] for answer in package.type("de") if answer.returncode]
    assert last[0].startswith("FALSCH: checkpoints/")


@pytest.mark.parametrize("package", ["whole"], indirect=True)
def test_nothing_but_the_trusted_key_shows_a_forgery_made_with_care(package: Package, tmp_path: pathlib.Path) -> None:
    make_it_all_anew_with_another_key(package, tmp_path)
    assert package.program().returncode == 0
    assert all(answer.returncode == 0 for answer in package.type(trusted=False))
    assert package.program("--key", package.trusted).returncode == 1


# ── Timestamps, by a real authority ──────────────────────────────────────────────────────────────────────────────────


def openssl(*arguments: str | os.PathLike[str]) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A time-stamping authority: its certificate, its key, its configuration."""
    place = tmp_path_factory.mktemp("authority")
    (place / "tsa.cnf").write_text(
        f"""\
[req]
distinguished_name = name
x509_extensions = stamping
prompt = no
[name]
CN = Time-stamping authority of the tests
[stamping]
basicConstraints = critical, CA:TRUE
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = tests
[tests]
serial = {place}/serial
default_policy = 1.2.3.4.1
signer_digest = sha256
digests = sha256
ess_cert_id_alg = sha256
"""
    )
    key, certificate = place / "key.pem", place / "ca.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", place / "tsa.cnf",
            "-keyout", key, "-out", certificate)  # fmt: skip
    return place


def stamp(authority: pathlib.Path, checkpoint: pathlib.Path) -> None:
    query = authority / "query.tsq"
    openssl("ts", "-query", "-data", checkpoint, "-sha256", "-cert", "-out", query)
    openssl("ts", "-reply", "-config", authority / "tsa.cnf", "-section", "tests", "-queryfile", query,
            "-signer", authority / "ca.pem", "-inkey", authority / "key.pem",
            "-out", checkpoint.with_suffix(".tsr"))  # fmt: skip


def test_timestamps_go_along_and_are_verified(authority: pathlib.Path, tmp_path: pathlib.Path) -> None:
    made = trail_evidence.make(tmp_path / "trail")
    # As the anchor names its files.
    size, signed = max(made.checkpoints().items())
    with made.log() as log:
        short = hashlib.sha256(log.origin.encode()).hexdigest()[:8]
    stamps = made.directory / "timestamps"
    stamps.mkdir()
    kept = stamps / f"{size:016d}-{short}.checkpoint"
    kept.write_text(signed)
    stamp(authority, kept)
    directory = tmp_path / "package"
    directory.mkdir()
    ca = str(authority / "ca.pem")
    with made.log() as log:
        items = evidence.read_timestamps(log, ca)
        assert [item.token for item in items] == [kept.with_suffix(".tsr")]
        evidence.write(log, directory, Wishes(timestamp_ca=ca), items)
    package = package_of(directory, made.first_key())
    said = package.program("--timestamp-ca", ca)
    assert said.returncode == 0, said
    assert re.search(r"Timestamp anchors/.*\.tsr: \w{3} .* GMT", said.stdout)
    for language in LANGUAGES:
        answers = list(package.type(language))
        assert [answer.returncode for answer in answers] == [0] * len(answers), answers
        assert any("Time stamp: " in answer.stdout for answer in answers)
    # Another checkpoint under the stamp.
    (note_path,) = package.path("anchors").glob("*.checkpoint")
    note_path.write_text(made.checkpoints()[14])
    note_path.rename(renamed := note_path.with_name("0000000000000014-0001.checkpoint"))
    note_path.with_suffix(".tsr").rename(renamed.with_suffix(".tsr"))
    package.sum_up()
    said = package.program()
    assert (said.returncode, "is no timestamp of its checkpoint" in said.stdout) == (1, True), said
    assert any(answer.returncode for answer in package.type() if "openssl ts" in answer.args[2])


# ── Playbooks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(control: t.Any) -> None:
    """Two runs in the trail: one that changes something, one that fails."""
    shell = {"name": "Change something", "ansible.builtin.command": {"argv": ["true"]}}
    control.run(control.playbook(shell, name="site.yml"), "-e", "change_id=CHG-7")
    control.run(control.playbook({"name": "Fail", "ansible.builtin.fail": {}}, name="bad.yml"), rc=2)


def test_a_trail_is_verified_exported_and_told_by_playbooks(each_control: t.Any) -> None:
    control = each_control
    record(control)
    worm = control.directory / "worm"
    worm.mkdir()
    log = control.log()
    (worm / "1.checkpoint").write_text(log.add_checkpoint())
    key = str(control.entries()[0]["key"])
    log.close()

    verified = control.run(
        "flowaudit.ops.trail_verify", "-e", f"trail_anchors={worm}", "-e", f"trail_trusted_keys={key}"
    )
    assert "anchored." in verified.stdout
    assert f"{key}, which is trusted." in verified.stdout

    told = control.run("flowaudit.ops.trail_story", "-e", "trail_language=de")
    assert "trail_verify" in told.stdout  # the last run that is over
    runs = [value["run"] for value in control.entries("run.start")]
    told = control.run("flowaudit.ops.trail_story", "-e", f"trail_run={runs[0]}")
    assert "ansible-playbook site.yml" in told.stdout
    assert "CHG-7" in told.stdout
    assert "changed  h1" in told.stdout

    package = control.directory / "evidence.tar.gz"
    exported = control.run(
        "flowaudit.ops.trail_export", "-e", f"trail_package={package}", "-e", f"trail_anchors={worm}"
    )
    assert "Its README.md says how to check it." in exported.stdout
    with tarfile.open(package) as opened:
        opened.extractall(control.directory / "unpacked", filter="data")
    unpacked = package_of(control.directory / "unpacked/flowaudit-evidence", key)
    said = unpacked.program("--key", key)
    assert said.returncode == 0, said
    assert "kept by others: 1." in said.stdout
    control.run("flowaudit.ops.trail_verify", "-e", f"trail_evidence={unpacked.directory}")
    unpacked.path("README.md").write_text("x")
    bad = control.run("flowaudit.ops.trail_verify", "-e", f"trail_evidence={unpacked.directory}", rc=2)
    assert "README.md was altered" in bad.stdout

    part = control.directory / "change"
    control.run("flowaudit.ops.trail_export", "-e", f"trail_package={part}", "-e", "trail_change=CHG-7")
    said = package_of(part, key).program("--key", key)
    assert said.returncode == 0, said
    assert 'Selected by: {"change_id": "CHG-7"}' in said.stdout
    missing = control.run("flowaudit.ops.trail_export", rc=2)
    assert "Say where the package goes" in missing.stdout


def test_a_trail_that_was_altered_ends_the_playbook(control: t.Any) -> None:
    record(control)
    made = Made(control.trail, control.directory, {})
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = replace(line, 'CHG-7', 'CHG-8') WHERE seq = 3")
    bad = control.run("flowaudit.ops.trail_verify", rc=2)
    assert "does not hold. Entry 3 was altered" in bad.stdout
    bad = control.run("flowaudit.ops.trail_export", "-e", f"trail_package={control.directory / 'package'}", rc=2)
    assert "so nothing was exported" in bad.stdout
    assert not (control.directory / "package").exists()


def test_a_run_that_was_killed_is_closed_by_verifying(control: t.Any) -> None:
    process = control.start(control.playbook(control.gate(), name="slow.yml"))
    control.wait_for("at.gate", process)
    process.kill()
    process.communicate()
    control.open()
    (run,) = [value["run"] for value in control.entries("run.start")]
    verified = control.run("flowaudit.ops.trail_verify")
    assert f"{run} was killed" in verified.stdout or control.entries("run.aborted")
    told = control.run("flowaudit.ops.trail_story", "-e", f"trail_run={run}")
    assert "ABORTED: killed" in told.stdout
    assert "Under way when it was aborted:" in told.stdout


READ = """\
import pathlib, sys
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import evidence, home, sqlite
log = sqlite.SqliteLog(home.Home(sys.argv[1]), read_only=True)
print(evidence.prove(log).report.whole, evidence.write(log, pathlib.Path(sys.argv[2]), evidence.Wishes()).size)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="Only root can become somebody else.")
def test_who_may_only_read_a_log_can_prove_and_export_it() -> None:
    # Not below pytest's own directory, which is for its user alone.
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        made = trail_evidence.make(place / "trail")
        (made.directory / "signing.key").unlink()
        (place / "out").mkdir()
        for path in (place, *place.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (place / "out").chmod(0o777)
        command = [sys.executable, "-c", READ, str(made.directory), str(place / "out")]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if subprocess.run([*nobody, sys.executable, "-c", ""], check=False, cwd="/").returncode:
            pytest.skip("This Python is for root alone.")
        done = subprocess.run([*nobody, *command], capture_output=True, text=True, check=False, cwd="/")
        assert done.stdout == "True 32\n", done.stderr


# ── A million entries ────────────────────────────────────────────────────────────────────────────────────────────────


def fill(log: sqlite.SqliteLog, wanted: int) -> None:
    """Runs of 20 tasks on 5 of 40 hosts until there are so many entries."""
    chance, now, number = random.Random(4), 1_740_000_000.0, 0
    hosts = [f"host{place:02}" for place in range(40)]
    while log.size() < wanted:
        drafts: list[dict[str, t.Any]] = []
        openings = []
        for _run in range(20):
            number += 1
            actor = commitment.commit("actor", b'{"user":"anna","login_user":"bert"}' if number % 3 else b"{}")
            openings.append(actor)
            base = {"run": entry.new_id(now), **({"chg": f"CHG-{number % 700}"} if number % 3 == 0 else {})}
            made = trail_evidence.start(f"playbooks/p{number % 9}.yml", "")
            run = [{"type": "run.start", **made, "actor": actor.commitment}]
            chosen = chance.sample(hosts, 5)
            for place in range(20):
                task = f"{number}-{place}"
                run.append({**trail_evidence.task("Do it", "t1"), "task": task})
                run += [{"type": "task.dispatched", "task": task, "hosts": [host]} for host in chosen]
                for host in chosen:
                    status = "failed" if chance.random() < 0.002 else "ok"
                    run.append(trail_evidence.result(task, host, status, changed=chance.random() < 0.15))
            run.append({"type": "run.end", "status": "ok", "stats": {}, "dur_ms": 1})
            for draft in run:
                now += 0.3
                drafts.append({**draft, **base, "ts": entry.timestamp(now)})
        log.append(drafts, openings)
        if number % 400 == 0:
            log.add_checkpoint()
    log.add_checkpoint()


PROVE = """\
import resource, sys
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import evidence, home, sqlite
report = evidence.prove(sqlite.SqliteLog(home.Home(sys.argv[1]), read_only=True)).report
print(report.size, report.whole, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.campaign
def test_a_million_entries_answer_at_once(tmp_path: pathlib.Path) -> None:
    log = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "node")
    fill(log, 1_000_000)

    def seconds(ask: Callable[[], object]) -> float:
        begun = time.perf_counter()
        ask()
        return time.perf_counter() - begun

    runs, entries = query.RunFilter, query.EntryFilter
    last = query.runs(log, runs(), 1).items[0]["run"]
    for wanted in (
        *(runs(**{name: "none"}) for name in ("run", "change_id", "host", "user", "playbook", "command")),
        *(runs(status=status) for status in ("ok", "failed", "aborted", "open")),
        runs(user="anna", host="host07", period=query.Period("2025-03-01", "2025-04-01")),
    ):
        assert seconds(lambda: query.runs(log, wanted, 50)) < 1, wanted  # noqa: B023
    for question in (
        *(entries(**{name: "none"}) for name in ("type", "run", "change_id", "host")),
        entries(),
        entries(run=last),
        entries(change_id="CHG-3"),
        entries(type="task.result", host="host07"),
        entries(host="host07", changed=True),
        entries(host="none", changed=True),
        entries(failed=True, host="none"),
        entries(failed=True, period=query.Period(since="2025-03-01")),
        entries(period=query.Period("2025-02-21T00:00:00", "2025-02-21T01:00:00")),
    ):
        assert seconds(lambda: query.entries(log, question, 1000)) < 1, question  # noqa: B023
    assert seconds(lambda: story.tell(query.run(log, last), query.entries_of(log, last))) < 1
    size = log.size()
    tree = merkle.Tree(size, log.hashes)
    assert seconds(lambda: tree.inclusion_proof(size // 3)) < 0.05
    log.close()
    command = [sys.executable, "-c", PROVE, str(tmp_path / "trail")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    proved, whole, megabytes = done.stdout.split()
    assert (int(proved), whole) == (size, "True")
    assert int(megabytes) < 100
