"""The environment contract."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refapp.settings import ConfigurationError, Settings


def test_defaults_are_those_of_the_contract(settings: Settings) -> None:
    assert settings.colour is None
    assert (settings.database.port, settings.redis.port, settings.redis.username) == (5432, 6379, "default")
    assert settings.limits.max_upload_bytes == 52_428_800
    assert (settings.limits.max_pages, settings.limits.max_text_characters) == (100, 500_000)
    assert settings.batch.max_concurrent_llm_calls == 2
    assert (settings.cache_ttl.ruleset, settings.cache_ttl.project, settings.cache_ttl.default) == (3600, 300, 900)


@pytest.mark.parametrize(
    ("mode", "users", "per_hour"), [("demo", 5, 20), ("seminar", 20, 100), ("production", 20, 100)]
)
def test_the_mode_sets_the_limits(environment: dict[str, str], mode: str, users: int, per_hour: int) -> None:
    limits = Settings.read(environment | {"APP_MODE": mode}).limits
    assert (limits.max_users, limits.max_documents_per_hour) == (users, per_hour)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("APP_MODE", "live", "APP_MODE is 'live', it must be one of demo, seminar, production."),
        ("APP_COLOUR", "red", "APP_COLOUR is 'red', it must be one of blue, green."),
        ("DATABASE_HOST", "", "DATABASE_HOST is not set."),
        ("DATABASE_PORT", "70000", "DATABASE_PORT is '70000', it must be a whole number from 1 to 65535."),
        ("MAX_PAGES", "-1", "MAX_PAGES is '-1', it must be a whole number from 1 to 1099511627776."),
        ("CHROMA_URL", "chroma:8000", "CHROMA_URL is 'chroma:8000', it must be an http or https URL."),
        ("REDIS_PASSWORD_FILE", "/nowhere", "REDIS_PASSWORD_FILE names /nowhere, which cannot be read as text."),
        ("UPLOAD_DIR", "/nowhere", "UPLOAD_DIR is /nowhere, which is not a writable directory."),
    ],
)
def test_a_wrong_value_is_one_sentence(environment: dict[str, str], name: str, value: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(environment | {name: value})
    assert str(caught.value) == sentence


def test_an_empty_secret_is_refused(environment: dict[str, str]) -> None:
    Path(environment["DATABASE_PASSWORD_FILE"]).write_text("\n")
    with pytest.raises(ConfigurationError, match="which is empty"):
        Settings.read(environment)


def test_secrets_are_not_in_the_settings(settings: Settings) -> None:
    assert "fixture-" not in repr(settings)
    assert "_password" not in repr(settings)


@pytest.mark.parametrize("command", ["backend", "worker"])
def test_a_process_exits_with_the_sentence(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from refapp import commands

    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in (environment | {"MAX_USERS": "many"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="MAX_USERS is 'many'"):
        getattr(commands, command)()
