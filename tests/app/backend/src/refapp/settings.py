"""The environment contract: everything the processes are told from outside.

A wrong value is a `ConfigurationError` whose text is one sentence; the process prints it and exits.
Secrets come as files and are read again for every new connection, so a rotated password needs no restart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import urlsplit

Mode = Literal["demo", "seminar", "production"]
Colour = Literal["blue", "green"]
Choice = TypeVar("Choice", bound=str)


class ConfigurationError(Exception):
    """An environment variable is missing or wrong."""


class Environment:
    """Typed reads of environment variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str | None = None) -> str:
        value = self._variables.get(name, "") or default
        if value is None:
            raise ConfigurationError(f"{name} is not set.")
        return value

    def integer(self, name: str, default: int, minimum: int = 1, maximum: int = 2**40) -> int:
        text = self.text(name, str(default))
        if not text.isascii() or not text.isdigit() or not minimum <= int(text) <= maximum:
            raise ConfigurationError(f"{name} is '{text}', it must be a whole number from {minimum} to {maximum}.")
        return int(text)

    def port(self, name: str, default: int) -> int:
        return self.integer(name, default, maximum=65535)

    def choice(self, name: str, allowed: tuple[Choice, ...], default: Choice | None = None) -> Choice:
        text = self.text(name, default)
        for value in allowed:
            if text == value:
                return value
        raise ConfigurationError(f"{name} is '{text}', it must be one of {', '.join(allowed)}.")

    def url(self, name: str) -> str:
        text = self.text(name).rstrip("/")
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{name} is '{text}', it must be an http or https URL.")
        return text

    def secret_file(self, name: str) -> Path:
        path = Path(self.text(name))
        try:
            empty = not read_secret(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name} names {path}, which cannot be read as text.") from error
        if empty:
            raise ConfigurationError(f"{name} names {path}, which is empty.")
        return path

    def directory(self, name: str, default: str) -> Path:
        path = Path(self.text(name, default))
        if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{name} is {path}, which is not a writable directory.")
        return path


def read_secret(path: Path) -> str:
    """The file's text; the newline an editor leaves at the end is not part of the secret."""
    return path.read_text(encoding="utf-8").rstrip("\r\n")


@dataclass(frozen=True)
class DatabaseSettings:
    host: str
    port: int
    name: str
    user: str
    password_file: Path = field(repr=False)

    @classmethod
    def read(cls, environment: Environment) -> DatabaseSettings:
        return cls(
            host=environment.text("DATABASE_HOST"),
            port=environment.port("DATABASE_PORT", 5432),
            name=environment.text("DATABASE_NAME"),
            user=environment.text("DATABASE_USER"),
            password_file=environment.secret_file("DATABASE_PASSWORD_FILE"),
        )


@dataclass(frozen=True)
class RedisSettings:
    host: str
    port: int
    username: str
    password_file: Path = field(repr=False)

    @classmethod
    def read(cls, environment: Environment) -> RedisSettings:
        return cls(
            host=environment.text("REDIS_HOST"),
            port=environment.port("REDIS_PORT", 6379),
            username=environment.text("REDIS_USERNAME", "default"),
            password_file=environment.secret_file("REDIS_PASSWORD_FILE"),
        )


@dataclass(frozen=True)
class Limits:
    """What one installation takes: bytes, pages, characters, and counts per minute or hour."""

    max_upload_bytes: int
    max_pages: int
    max_text_characters: int
    max_users: int
    max_documents_per_hour: int
    max_uploads_per_minute: int

    @classmethod
    def read(cls, environment: Environment, mode: Mode) -> Limits:
        users, documents, uploads = (5, 20, 5) if mode == "demo" else (20, 100, 10)
        return cls(
            max_upload_bytes=environment.integer("MAX_UPLOAD_BYTES", 50 * 2**20),
            max_pages=environment.integer("MAX_PAGES", 100),
            max_text_characters=environment.integer("MAX_TEXT_CHARACTERS", 500_000),
            max_users=environment.integer("MAX_USERS", users),
            max_documents_per_hour=environment.integer("MAX_DOCUMENTS_PER_HOUR", documents),
            max_uploads_per_minute=environment.integer("MAX_UPLOADS_PER_MINUTE", uploads),
        )


@dataclass(frozen=True)
class Batch:
    """How much happens at once; `external` is for hosted models, which this app does not call."""

    max_concurrent_uploads: int
    max_concurrent_parses: int
    max_concurrent_llm_calls: int
    max_concurrent_llm_calls_external: int
    batch_chunk_size: int
    progress_update_interval_seconds: int

    @classmethod
    def read(cls, environment: Environment) -> Batch:
        def count(name: str, default: int) -> int:
            return environment.integer(name, default, maximum=1000)

        return cls(
            max_concurrent_uploads=count("MAX_CONCURRENT_UPLOADS", 10),
            max_concurrent_parses=count("MAX_CONCURRENT_PARSES", 4),
            max_concurrent_llm_calls=count("MAX_CONCURRENT_LLM_CALLS", 2),
            max_concurrent_llm_calls_external=count("MAX_CONCURRENT_LLM_CALLS_EXTERNAL", 5),
            batch_chunk_size=count("BATCH_CHUNK_SIZE", 10),
            progress_update_interval_seconds=count("PROGRESS_UPDATE_INTERVAL_SECONDS", 2),
        )


@dataclass(frozen=True)
class CacheTtl:
    """Lifetimes in seconds. Rulesets and static assets are not this app's, their values are only reported."""

    ruleset: int
    project: int
    settings: int
    static: int
    default: int

    @classmethod
    def read(cls, environment: Environment) -> CacheTtl:
        return cls(
            ruleset=environment.integer("CACHE_TTL_RULESET_SECONDS", 3600),
            project=environment.integer("CACHE_TTL_PROJECT_SECONDS", 300),
            settings=environment.integer("CACHE_TTL_SETTINGS_SECONDS", 600),
            static=environment.integer("CACHE_TTL_STATIC_SECONDS", 86_400),
            default=environment.integer("CACHE_TTL_DEFAULT_SECONDS", 900),
        )


@dataclass(frozen=True)
class Settings:
    mode: Mode
    colour: Colour | None
    database: DatabaseSettings
    redis: RedisSettings
    chroma_url: str
    ollama_url: str
    ollama_model: str
    upload_dir: Path
    export_dir: Path
    limits: Limits
    batch: Batch
    cache_ttl: CacheTtl

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Settings:
        environment = Environment(variables)
        mode = environment.choice("APP_MODE", get_args(Mode))
        return cls(
            mode=mode,
            colour=environment.choice("APP_COLOUR", get_args(Colour)) if variables.get("APP_COLOUR") else None,
            database=DatabaseSettings.read(environment),
            redis=RedisSettings.read(environment),
            chroma_url=environment.url("CHROMA_URL"),
            ollama_url=environment.url("OLLAMA_URL"),
            ollama_model=environment.text("OLLAMA_MODEL"),
            upload_dir=environment.directory("UPLOAD_DIR", "/data/uploads"),
            export_dir=environment.directory("EXPORT_DIR", "/data/exports"),
            limits=Limits.read(environment, mode),
            batch=Batch.read(environment),
            cache_ttl=CacheTtl.read(environment),
        )
