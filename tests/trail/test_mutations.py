# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every attack on a log is noticed: the campaign of which the unit tests have a selection (test_verify.py)."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
import random
import shutil
import sqlite3

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, merkle, verify
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_logs
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_logs import MUTATIONS, SIZES, Trail, is_noticed, small

ATTACKS = 20_000
DAMAGED_FILES = 1000
PLACES = range(len(small().rows))


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(4))
def test_random_attacks_are_noticed(part: int) -> None:
    """One to three mutations each, verified by somebody who trusts the key and by one who has the anchors only."""
    used: collections.Counter[str] = collections.Counter()
    attacks = 0
    for seed in range(part * ATTACKS // 4, (part + 1) * ATTACKS // 4):
        trail, names = trail_logs.attacked(seed)
        if trail == small():
            continue
        attacks += 1
        used.update(names)
        for trusted in (True, False):
            report = trail.verify(trusted=trusted)
            assert is_noticed(trail, names, report), (seed, names, trusted, trail.first_altered(), report.finding)
    assert attacks > ATTACKS // 4 * 0.9
    assert set(used) == {change.__name__ for change in MUTATIONS}
    assert min(used.values()) > 50


@pytest.mark.campaign
@pytest.mark.parametrize("place", PLACES)
def test_every_bit_of_every_entry_counts(place: int) -> None:
    row = small().rows[place]
    line = row.line or b""
    for byte, bit in itertools.product(range(len(line)), range(8)):
        altered = line[:byte] + bytes([line[byte] ^ 1 << bit]) + line[byte + 1 :]
        for trail in (
            small().with_row(place, line=altered),
            small().with_row(place, line=altered, leaf=merkle.leaf_hash(altered)),
        ):
            finding = trail.verify().finding
            assert finding is not None
            assert finding.first <= place <= finding.last
    for byte, bit in itertools.product(range(32), range(8)):
        leaf = row.leaf[:byte] + bytes([row.leaf[byte] ^ 1 << bit]) + row.leaf[byte + 1 :]
        finding = small().with_row(place, leaf=leaf).verify().finding
        assert finding is not None
        assert (finding.first, finding.last) == (place, place)


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(len(SIZES)))
def test_every_bit_of_every_checkpoint_counts(number: int) -> None:
    raw = small().checkpoints[number].encode()
    for byte, bit in itertools.product(range(len(raw)), range(8)):
        altered = (raw[:byte] + bytes([raw[byte] ^ 1 << bit]) + raw[byte + 1 :]).decode(errors="replace")
        notes = list(small().checkpoints)
        notes[number] = altered
        anchors = (*small().anchors, verify.Anchor("/worm/x", altered))
        for trail in (
            dataclasses.replace(small(), checkpoints=tuple(notes)),
            dataclasses.replace(small(), anchors=anchors),
        ):
            assert is_noticed(trail, [], trail.verify(trusted=bit % 2 == 0)), (byte, bit)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A log of 700 entries with a checkpoint at each hundred, in one file."""
    home = Home(tmp_path_factory.mktemp("honest") / "trail")
    log = SqliteLog.open_or_create(home, "0.2.0")
    for hundred in range(7):
        event = {"type": entry.EVENT, "ts": entry.timestamp(), "host": "web01", "text": "x" * 60}
        log.append([{**event, "number": hundred * 100 + number} for number in range(100)])
        log.add_checkpoint()
    log.forget()
    log.close()
    return home


def _seen(home: Home) -> tuple[list[object], str]:
    """All that questions can be answered from, and what is found wrong with it."""
    try:
        log = SqliteLog(home)
    except FlowauditError as error:
        return [], str(error)
    try:
        nodes = {(level, index): hashed for level, index, hashed in log.ask("SELECT level, idx, hash FROM nodes")}
        report = verify.verify(log.origin, log.rows(), log.checkpoints(), nodes=nodes)
        found = report.finding.message if report.finding else log.damage()
        seen: list[object] = [list(log.rows()), list(log.checkpoints()), log.ask("SELECT * FROM openings")]
        seen += [log.ask("SELECT seq FROM entries INDEXED BY entries_host WHERE host IS NOT NULL ORDER BY host, ts")]
        return seen, found
    except (FlowauditError, sqlite3.Error) as error:
        return [], str(error)
    finally:
        log.close()


@pytest.mark.campaign
def test_bytes_altered_anywhere_in_the_file_are_noticed_or_change_nothing(honest: Home, tmp_path: pathlib.Path) -> None:
    """Behind SQLite's back: in pages of entries, of indexes, of the schema, in what is free."""
    before, nothing = _seen(honest)
    assert nothing == ""
    content = honest.database.read_bytes()
    noticed = 0
    for seed in range(DAMAGED_FILES):
        chance = random.Random(seed)
        damaged = bytearray(content)
        for place in chance.sample(range(len(content)), chance.choice([1, 1, 1, 3])):
            damaged[place] ^= chance.randrange(1, 256)
        home = Home(tmp_path / str(seed))
        home.make()
        home.database.write_bytes(damaged)
        shutil.copy(honest.signing_key, home.signing_key)
        seen, found = _seen(home)
        assert found or seen == before, seed
        noticed += bool(found)
        shutil.rmtree(home.path)
    assert noticed > DAMAGED_FILES // 2


def test_an_attack_is_the_same_each_time() -> None:
    """Or a seed that failed could not be looked at again."""

    def attacked(seed: int) -> tuple[Trail, list[str]]:
        return trail_logs.attacked(seed)

    assert all(attacked(seed) == attacked(seed) for seed in range(50))
