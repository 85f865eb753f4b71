# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils import health_document
from ansible_collections.flowaudit.ops.plugins.module_utils.health_document import Health

SERVICES = {"db": {"status": "healthy", "latency_ms": 5}, "ollama": {"status": "unhealthy", "latency_ms": 30000}}


def parse(document: t.Any, status_code: int = 200) -> Health:
    return health_document.parse(status_code, json.dumps(document).encode())


def test_a_whole_document_is_read() -> None:
    resources = {"cpu_percent": 45.2, "memory_percent": 62.8, "disk_percent": 34.5}
    document = {"status": "degraded", "version": "1.4.0", "services": SERVICES, "resources": resources}
    assert parse(document) == Health("degraded", "1.4.0", SERVICES, resources, "ollama is unhealthy")


@pytest.mark.parametrize("status", ["healthy", "degraded", "unhealthy"])
@pytest.mark.parametrize("status_code", [200, 503, 500])
def test_the_document_decides_not_the_status_code(status: str, status_code: int) -> None:
    assert parse({"status": status}, status_code).status == status


@pytest.mark.parametrize("nothing", [{}, {"version": None, "services": None, "resources": None, "reason": None}])
def test_what_a_document_does_not_say_stays_empty(nothing: dict[str, t.Any]) -> None:
    assert parse({"status": "healthy", **nothing}) == Health("healthy")
    assert parse({"status": "degraded", **nothing}) == Health("degraded", reason="no reason given")


def test_the_reason_names_every_service_that_is_not_healthy() -> None:
    services = {"a": {"status": "healthy"}, "b": {"status": "degraded"}, "c": {"status": "unhealthy"}, "d": {}}
    assert parse({"status": "degraded", "services": services}).reason == (
        "b is degraded, c is unhealthy, d is of no status"
    )


def test_an_application_may_give_its_own_reason() -> None:
    assert parse({"status": "unhealthy", "reason": "migrations are missing"}).reason == "migrations are missing"


def test_a_healthy_application_needs_no_reason() -> None:
    assert parse({"status": "healthy", "services": SERVICES, "reason": "x"}).reason == ""


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe\xff", b'{"status": ', b"[" * 100_000])
def test_a_body_that_is_no_json_is_no_health_document(body: bytes) -> None:
    assert health_document.parse(502, body) == Health("unreachable", reason="HTTP 502 without a health document")


@pytest.mark.parametrize(
    "document", [[], "healthy", None, 5, {}, {"status": "ok"}, {"status": ["healthy"]}, {"status": None}]
)
def test_a_document_without_a_known_status_is_no_health_document(document: t.Any) -> None:
    assert parse(document) == Health(
        "unreachable", reason="HTTP 200 with a document that has no status of healthy, degraded, unhealthy"
    )


@pytest.mark.parametrize("services", ["db", [{"status": "healthy"}], {"db": "healthy"}, {"db": None}])
def test_services_of_another_form_are_no_health_document(services: t.Any) -> None:
    assert parse({"status": "healthy", "services": services}) == Health(
        "unreachable", reason="HTTP 200 with a health document whose services are not a mapping"
    )


@pytest.mark.parametrize("resources", ["high", [1], 5])
def test_resources_of_another_form_are_left_out(resources: t.Any) -> None:
    assert parse({"status": "healthy", "resources": resources}).resources == {}


@given(st.binary())
def test_whatever_answers_has_a_state(body: bytes) -> None:
    assert health_document.parse(200, body).status in (*health_document.STATES, "unreachable")


@pytest.mark.parametrize(
    ("status", "accept", "version", "good"),
    [
        ("healthy", ["healthy"], None, True),
        ("degraded", ["healthy"], None, False),
        ("degraded", ["healthy", "degraded"], None, True),
        ("healthy", ["healthy"], "1.4.0", True),
        ("healthy", ["healthy"], "1.5.0", False),
        ("unhealthy", ["healthy"], "1.4.0", False),
    ],
)
def test_an_accepted_state_is_one_waited_for_of_the_release_waited_for(
    status: str, accept: list[str], version: str | None, good: bool
) -> None:
    assert health_document.accepted(Health(status, "1.4.0"), accept, version) is good
