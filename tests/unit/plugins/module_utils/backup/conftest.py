# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host that the tests of backups share."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.flowaudit.ops.tests.unit.plugins.backup_host import Host, fake_host


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return fake_host(tmp_path, monkeypatch)
