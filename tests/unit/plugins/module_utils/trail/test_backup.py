# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pathlib

import pytest
from cryptography.hazmat.primitives import serialization

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import backup, home, sqlite, verify

PASSPHRASE = "correct horse battery"


@pytest.fixture
def target(tmp_path):
    made = tmp_path / "nas"
    made.mkdir()
    return made


def test_a_copy_can_be_used_in_the_place_of_the_log(log, target, tmp_path):
    log.append([{"type": "event", "ts": "x"}])
    log.add_checkpoint()
    log.home.timestamps.mkdir()
    (log.home.timestamps / "2.tsr").write_bytes(b"token")
    copy = pathlib.Path(backup.back_up(log, str(target), PASSPHRASE, 3))
    assert [path.name for path in target.iterdir()] == [copy.name]
    assert sorted(path.name for path in copy.iterdir()) == ["signing.key", "timestamps", "trail.sqlite3"]
    assert (copy / "timestamps" / "2.tsr").read_bytes() == b"token"
    assert copy.stat().st_mode & 0o777 == 0o700
    pem = (copy / "signing.key").read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in pem
    with pytest.raises(ValueError, match=r"(?i)password"):
        serialization.load_pem_private_key(pem, b"wrong")
    private = serialization.load_pem_private_key(pem, PASSPHRASE.encode())
    restored = home.Home(tmp_path / "restored")
    restored.make()
    restored.database.write_bytes((copy / "trail.sqlite3").read_bytes())
    restored.signing_key.touch(0o600)
    restored.signing_key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    again = sqlite.SqliteLog(restored)
    again.append([{"type": "event", "ts": "y"}])
    again.add_checkpoint()
    assert verify.verify(log.origin, again.rows(), again.checkpoints()).finding is None
    again.close()


def test_the_newest_stay(log, target):
    made = []
    for number in range(5):
        log.append([{"type": "event", "ts": str(number)}])
        made.append(backup.back_up(log, str(target), PASSPHRASE, 3))
    assert [str(path) for path in backup.copies(log, str(target))] == made[-3:]
    # The same log again is the same copy.
    assert backup.back_up(log, str(target), PASSPHRASE, 3) == made[-1]


def test_a_log_that_does_not_verify_replaces_no_copy(log, target):
    log.append([{"type": "event", "ts": "x"}])
    good = backup.back_up(log, str(target), PASSPHRASE, 1)
    ((trigger,),) = log.ask("SELECT sql FROM sqlite_master WHERE name = 'entries_are_append_only'")
    with log.changing() as connection:
        connection.execute("DROP TRIGGER entries_are_append_only")
        connection.execute("UPDATE entries SET line = replace(line, '\"x\"', '\"z\"') WHERE seq = 1")
        connection.execute(trigger)
    with pytest.raises(FlowauditError, match="does not verify: Entry 1 was altered"):
        backup.back_up(log, str(target), PASSPHRASE, 1)
    assert [str(path) for path in target.iterdir()] == [good]


def test_what_is_missing_is_said(log, target, tmp_path):
    with pytest.raises(FlowauditError, match="mount it"):
        backup.back_up(log, str(tmp_path / "none"), PASSPHRASE, 1)
    with pytest.raises(FlowauditError, match="fewer than 12"):
        backup.back_up(log, str(target), "short", 1)
    log.home.signing_key.unlink()
    with pytest.raises(FlowauditError, match="No such file"):
        backup.back_up(log, str(target), PASSPHRASE, 1)
    assert list(target.iterdir()) == []
