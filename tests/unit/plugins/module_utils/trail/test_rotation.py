# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, note, rotation, verify


def report(log, **more):
    return verify.verify(log.origin, log.rows(), log.checkpoints(), **more)


def test_a_new_key_is_signed_by_the_old(log):
    log.add_checkpoint()
    old = rotation.current_key(log)
    new = rotation.rotate(log)
    assert rotation.current_key(log) == new != old
    assert home.FileSigner.load(log.origin, log.home.signing_key).key == new
    assert not log.home.signing_key.with_suffix(".new").exists()
    log.append([{"type": "event", "ts": "x"}])
    signed = log.add_checkpoint()
    assert note.verified(signed, note.by_name_and_id([new]))[1] == [new]
    # Who trusts the old key follows to the new one.
    assert report(log, trusted=[old]).finding is None
    assert report(log).keys == [old, new]


@pytest.mark.parametrize("step", ["generate", "append", "sign", "rename"])
def test_a_renewal_that_was_killed_is_finished_by_the_next(log, monkeypatch, step):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    before = rotation.current_key(log)
    with monkeypatch.context() as patch:
        if step == "generate":
            patch.setattr(rotation.FileSigner, "generate", killed)
        elif step == "append":
            patch.setattr(log, "append", killed)
        elif step == "sign":
            patch.setattr(log, "sign", killed)
        else:
            patch.setattr(rotation.os, "rename", killed)
        with pytest.raises(Killed):
            rotation.rotate(log)
    if step in ("sign", "rename"):
        # The log names the new key, the file still has the old one: nobody signs with it by mistake.
        with pytest.raises(FlowauditError, match="trail_rotate_key"):
            log.add_checkpoint()
    else:
        log.add_checkpoint()
    new = rotation.rotate(log)
    log.add_checkpoint()
    assert report(log, trusted=[before]).finding is None
    assert report(log).keys == [before, new]


def test_a_key_that_is_not_the_logs_cannot_hand_over(log):
    log.home.signing_key.unlink()
    home.FileSigner.generate(log.origin, log.home.signing_key)
    with pytest.raises(FlowauditError, match="not the one the trail names"):
        rotation.rotate(log)
    with pytest.raises(FlowauditError, match="not the one the trail names"):
        log.add_checkpoint()


def test_a_lost_key_is_said(log):
    log.home.signing_key.unlink()
    with pytest.raises(FlowauditError, match="cannot be read"):
        rotation.rotate(log)
