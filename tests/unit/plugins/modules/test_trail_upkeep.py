# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules that look after a trail: anchor, retention, erasure, key, backup."""

from __future__ import annotations

import json
import socket

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    checkpoint,
    commitment,
    entry,
    home,
    rotation,
    sqlite,
    verify,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import worm
from ansible_collections.flowaudit.ops.plugins.modules import (
    trail_anchor,
    trail_backup,
    trail_erase,
    trail_retention,
    trail_rotate_key,
)

DAY = 86400.0  # seconds


class Trail:
    """A log in a directory, opened for each look."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.change(lambda log: None)

    def change(self, function):
        log = sqlite.SqliteLog.open_or_create(home.Home(self.directory), "0.2.0", "test")
        try:
            return function(log)
        finally:
            log.close()

    def append(self, *drafts, openings=()):
        return self.change(lambda log: log.append(drafts, openings))

    def entries(self):
        return self.change(lambda log: [json.loads(row.line) for row in log.rows() if row.line])

    def whole(self):
        report = self.change(lambda log: verify.verify(log.origin, log.rows(), log.checkpoints()))
        assert report.finding is None
        return report


@pytest.fixture
def trail(tmp_path):
    return Trail(tmp_path / "trail")


@pytest.mark.parametrize(
    ("module", "more"),
    [
        (trail_anchor, {}),
        (trail_retention, {"archive_directory": "{tmp_path}"}),
        (trail_erase, {"account": "x", "reason": "y"}),
        (trail_rotate_key, {}),
        (trail_backup, {"backup_directory": "{tmp_path}", "passphrase": "correct horse"}),
    ],
)
def test_a_trail_that_is_not_there_is_said(run_module, tmp_path, module, more):
    more = {key: value.format(tmp_path=tmp_path) for key, value in more.items()}
    result = run_module(module.main, directory=str(tmp_path / "none"), **more)
    assert "There is no trail" in result["msg"]


class TestAnchor:
    @pytest.fixture(autouse=True)
    def _files_that_can_be_removed_again(self, monkeypatch):
        monkeypatch.setattr(worm, "_protect", lambda path: False)

    def test_tells_the_anchors_and_records_what_came_of_it(self, run_module, trail, tmp_path):
        worm = tmp_path / "worm"
        worm.mkdir()
        result = run_module(trail_anchor.main, directory=trail.directory, worm_directory=str(worm))
        assert result["changed"]
        assert result["size"] == checkpoint.parse(result["checkpoint"]).size == 1
        (kept,) = worm.iterdir()
        assert kept.read_text() == result["checkpoint"]
        last = trail.entries()[-1]
        assert (last["type"], last["size"], last["results"]) == ("anchor", 1, result["results"])
        assert result["results"][0]["kept"]

    def test_an_anchor_that_fails_is_said_and_the_others_are_told(self, run_module, trail, tmp_path):
        worm = tmp_path / "worm"
        worm.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        result = run_module(trail_anchor.main, directory=trail.directory, worm_directory=str(worm), syslog=nobody)
        assert result["failed"]
        assert "syslog" in result["msg"]
        assert [item["kept"] for item in result["results"]] == [False, True]
        assert list(worm.iterdir())

    def test_closes_what_was_killed(self, run_module, trail):
        trail.append({"type": entry.RUN_START, "ts": "2026-11-21T00:00:00.000Z", "run": "r1"})
        result = run_module(trail_anchor.main, directory=trail.directory)
        assert result["closed_runs"] == ["r1"]
        assert trail.entries()[-1]["type"] == entry.RUN_ABORTED
        assert result["size"] == 3

    def test_signs_nothing_in_check_mode(self, run_module, trail):
        result = run_module(trail_anchor.main, directory=trail.directory, _ansible_check_mode=True)
        assert result["changed"]
        assert trail.whole().checkpoints == 0


class TestRetention:
    @pytest.fixture
    def aged(self, tmp_path, monkeypatch):
        now = 1_800_000_000.0
        moment = {"now": now - 400 * DAY}
        real = entry.timestamp
        monkeypatch.setattr(entry, "timestamp", lambda at=None: real(moment["now"] if at is None else at))
        monkeypatch.setattr("time.time", lambda: moment["now"])
        made = Trail(tmp_path / "trail")
        days = [entry.timestamp(now - (400 - day) * DAY) for day in range(400)]
        made.append(*({"type": "task.result", "ts": day} for day in days for _number in range(10)))
        moment["now"] = now
        (tmp_path / "archive").mkdir()
        return made

    def test_archives_then_deletes_then_has_nothing_to_do(self, run_module, aged, tmp_path):
        arguments = {"directory": aged.directory, "archive_directory": str(tmp_path / "archive")}
        planned = run_module(trail_retention.main, **arguments, _ansible_check_mode=True)
        assert aged.whole().pruned == 0
        result = run_module(trail_retention.main, **arguments)
        assert result["archived"] == planned["archived"]
        assert [(item["first"], item["last"]) for item in result["archived"]] == [(0, 3100)]
        assert result["deleted"] == planned["deleted"] == []
        assert aged.whole().pruned == 3100
        again = run_module(trail_retention.main, **arguments)
        assert not again["changed"]
        later = run_module(trail_retention.main, **arguments, archive_after_days=10, delete_after_days=20)
        assert [(item["first"], item["last"]) for item in later["archived"]] == [(3101, 3900)]
        assert [(item["first"], item["last"]) for item in later["deleted"]] == [(0, 3100)]
        aged.whole()

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"archive_directory": "/nowhere"}, "There is no directory /nowhere"),
            ({"archive_after_days": 0}, "archived first and deleted later"),
            ({"archive_after_days": 10, "delete_after_days": 9}, "archived first and deleted later"),
        ],
    )
    def test_wrong_input_is_refused(self, run_module, trail, tmp_path, more, message):
        result = run_module(
            trail_retention.main, directory=trail.directory, **{"archive_directory": str(tmp_path)} | more
        )
        assert message in result["msg"]


class TestErase:
    @pytest.fixture
    def opening(self, trail):
        made = commitment.commit("actor", b'{"login_user":"jdoe","uid":1000,"user":"root"}')
        trail.append({"type": entry.RUN_START, "ts": "x", "run": "r", "actor": made.commitment}, openings=[made])
        return made

    def test_erases_once(self, run_module, trail, opening):
        arguments = {"directory": trail.directory, "account": "jdoe", "reason": "request 17"}
        planned = run_module(trail_erase.main, **arguments, _ansible_check_mode=True)
        assert planned["erased"] == [opening.commitment]
        assert trail.change(lambda log: log.openings([opening.commitment]))
        result = run_module(trail_erase.main, **arguments)
        assert (result["changed"], result["erased"]) == (True, [opening.commitment])
        assert not trail.change(lambda log: log.openings([opening.commitment]))
        assert not run_module(trail_erase.main, **arguments)["changed"]

    def test_erases_what_is_named(self, run_module, trail, opening):
        arguments = {"directory": trail.directory, "commitments": [opening.commitment], "reason": "x"}
        assert run_module(trail_erase.main, **arguments)["erased"] == [opening.commitment]

    def test_wants_to_know_what(self, run_module, trail):
        result = run_module(trail_erase.main, directory=trail.directory, reason="x")
        assert "one of the following is required: account, commitments" in result["msg"]


class TestRotateKey:
    def test_renews(self, run_module, trail):
        before = trail.change(rotation.current_key)
        planned = run_module(trail_rotate_key.main, directory=trail.directory, _ansible_check_mode=True)
        assert (planned["changed"], planned["key"]) == (True, str(before))
        result = run_module(trail_rotate_key.main, directory=trail.directory)
        assert result["key"] == str(trail.change(rotation.current_key)) != str(before)
        assert result["diff"] == {"before": f"{before}\n", "after": f"{result['key']}\n"}
        trail.whole()


class TestBackup:
    def test_copies(self, run_module, trail, tmp_path):
        target = tmp_path / "nas"
        target.mkdir()
        arguments = {"directory": trail.directory, "backup_directory": str(target), "passphrase": "correct horse"}
        assert run_module(trail_backup.main, **arguments, _ansible_check_mode=True)["changed"]
        assert list(target.iterdir()) == []
        result = run_module(trail_backup.main, **arguments)
        assert [str(path) for path in target.iterdir()] == [result["copy"]]

    def test_keeps_at_least_one(self, run_module, trail, tmp_path):
        result = run_module(
            trail_backup.main, directory=trail.directory, backup_directory=str(tmp_path), passphrase="x" * 12, keep=0
        )
        assert "At least one copy" in result["msg"]
