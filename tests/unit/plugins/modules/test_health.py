# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module asks a real HTTP server on the loopback interface, with real certificates where it speaks TLS."""

from __future__ import annotations

import json
import pathlib
import re
import socket
import ssl
import threading
import time
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.modules import health
from ansible_collections.flowaudit.ops.tests.unit.plugins.servers import (
    NAME,
    Answer,
    Authority,
    Server,
    make_authority,
    server_context,
)

HEALTHY = {
    "status": "healthy",
    "version": "1.4.0",
    "services": {"db": {"status": "healthy", "latency_ms": 5}},
    "resources": {"cpu_percent": 45.2, "memory_percent": 62.8, "disk_percent": 34.5},
}
DEGRADED = {**HEALTHY, "status": "degraded", "services": {"ollama": {"status": "unhealthy", "latency_ms": 10}}}
UNHEALTHY = {**HEALTHY, "status": "unhealthy", "services": {"db": {"status": "unhealthy", "latency_ms": 10}}}


# ── an application ──────────────────────────────────────────────────────────────────────────────────────────────────


class Application(Server):
    """One that is healthy until told otherwise."""

    def __init__(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        super().__init__(Answer(HEALTHY), host, context)

    def url(self, host: str | None = None, scheme: str = "http", path: str = "/api/health") -> str:
        return super().url(host, scheme, path)


@pytest.fixture
def application() -> t.Iterator[Application]:
    application = Application()
    yield application
    application.stop()


@pytest.fixture
def closed_port() -> t.Iterator[int]:
    """A port that is taken, so nothing else gets it, but not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_application(authority: Authority, tmp_path: pathlib.Path) -> t.Iterator[Application]:
    application = Application(context=server_context(tmp_path, authority))
    yield application
    application.stop()


# ── what an application says ────────────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_application_is_reported_in_full(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url())
    assert result.pop("waited") < 5
    result.pop("invocation", None)  # ansible-core 2.19 adds it here, later ones elsewhere
    assert result == {**HEALTHY, "changed": False, "attempts": 1, "reason": ""}


@pytest.mark.parametrize("status", [200, 503])
def test_degraded_and_unhealthy_are_told_apart_whatever_the_status_code(
    application: Application, run_module: t.Any, status: int
) -> None:
    application.answers = [Answer(DEGRADED, status=status), Answer(UNHEALTHY, status=status)]
    degraded = run_module(health.main, url=application.url(), accept=["degraded"])
    unhealthy = run_module(health.main, url=application.url(), accept=["unhealthy"])
    assert (degraded["status"], degraded["reason"]) == ("degraded", "ollama is unhealthy")
    assert (unhealthy["status"], unhealthy["reason"]) == ("unhealthy", "db is unhealthy")
    assert degraded["services"] == DEGRADED["services"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(body=b"Service Unavailable", status=503), "HTTP 503 without a health document"),
        (Answer(body=b"", status=502), "HTTP 502 without a health document"),
        (Answer(body=b"", status=301, headers={"Location": "/"}), "HTTP 301 without a health document"),
        (Answer(body=b"\xff\x00garbage"), "HTTP 200 without a health document"),
        (Answer({**HEALTHY, "padding": "x" * 1024 * 1024}), "HTTP 200 without a health document"),
        (
            Answer({"detail": "Not Found"}, status=404),
            "HTTP 404 with a document that has no status of healthy, degraded, unhealthy",
        ),
        (
            Answer(body=b"10\r\nhalf", headers={"Transfer-Encoding": "chunked"}),
            "IncompleteRead: IncompleteRead(0 bytes read)",
        ),
    ],
)
def test_an_answer_that_is_no_health_document_is_unreachable(
    application: Application, run_module: t.Any, answer: Answer, reason: str
) -> None:
    application.answers = [answer]
    result = run_module(health.main, url=application.url(), accept=["unreachable"])
    assert (result["status"], result["reason"]) == ("unreachable", reason)
    assert (result["version"], result["services"], result["resources"]) == ("", {}, {})


def test_a_server_that_speaks_no_http_is_unreachable(run_module: t.Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        result = run_module(health.main, url=url, accept=["unreachable"])
        thread.join()
    assert result["reason"].startswith("BadStatusLine: SSH-2.0")


def test_a_port_nobody_listens_on_is_unreachable(closed_port: int, run_module: t.Any) -> None:
    result = run_module(health.main, url=f"http://127.0.0.1:{closed_port}/", accept=["unreachable"])
    assert re.fullmatch(r"ConnectionRefusedError: .*refused", result["reason"])


def test_an_application_that_says_nothing_in_time_is_unreachable(application: Application, run_module: t.Any) -> None:
    application.answers = [Answer(HEALTHY, before=lambda: application.stopping.wait(30))]
    start = time.monotonic()
    result = run_module(health.main, url=application.url(), timeout=0.2, accept=["unreachable"])
    assert 0.2 <= time.monotonic() - start < 5
    assert (result["status"], result["reason"]) == ("unreachable", "TimeoutError: timed out")


def test_a_path_that_cannot_be_asked_for_is_unreachable(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url(path="/a b"), accept=["unreachable"])
    assert result["reason"].startswith("InvalidURL: ")
    assert application.requests == []


# ── the request ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/api/health?deep=1", "/api/health?deep=1"), ("", "/"), ("?deep=1", "/?deep=1"), ("/#top", "/")],
)
def test_the_path_of_the_url_is_asked_for(application: Application, run_module: t.Any, path: str, asked: str) -> None:
    run_module(health.main, url=application.url(path=path))
    [(requested, headers)] = application.requests
    assert requested == asked
    assert headers["Accept"] == "application/json"


def test_the_address_replaces_where_a_url_leads_and_nothing_else(application: Application, run_module: t.Any) -> None:
    run_module(health.main, url=application.url(NAME), address="127.0.0.1")
    [(_path, headers)] = application.requests
    assert headers["Host"] == f"{NAME}:{application.port}"


@pytest.mark.parametrize(
    ("url", "host", "port", "header"),
    [
        (f"http://{NAME}/", NAME, 80, NAME),
        (f"https://{NAME}/", NAME, 443, NAME),
        (f"https://{NAME}:8443/", NAME, 8443, f"{NAME}:8443"),
        ("https://[2001:db8::1]/", "2001:db8::1", 443, "[2001:db8::1]"),
        ("http://[2001:db8::1]:8080/", "2001:db8::1", 8080, "[2001:db8::1]:8080"),
    ],
)
def test_a_url_without_a_port_means_the_port_of_its_scheme(url: str, host: str, port: int, header: str) -> None:
    connection = health.Connection(health.split(url), "127.0.0.1", None, 1)
    assert (connection.host, connection.port, connection.address) == (host, port, "127.0.0.1")
    sent = b""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection.sock = ours
        connection.request("GET", "/")
        sent = theirs.recv(4096)
    assert f"\r\nHost: {header}\r\n".encode() in sent


def test_an_ipv6_address_is_asked_like_any_other(run_module: t.Any) -> None:
    try:
        application = Application("::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    try:
        result = run_module(health.main, url=application.url("[::1]"))
    finally:
        application.stop()
    assert result["status"] == "healthy"
    assert application.requests[0][1]["Host"] == f"[::1]:{application.port}"


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_name_of_the_url_is_what_sni_host_and_certificate_are_about(
    tls_application: Application, authority: Authority, run_module: t.Any
) -> None:
    url = tls_application.url(NAME, "https")
    result = run_module(health.main, url=url, address="127.0.0.1", ca_path=str(authority.path))
    assert result["status"] == "healthy"
    assert tls_application.names == [NAME]
    assert tls_application.requests[0][1]["Host"] == f"{NAME}:{tls_application.port}"


def test_a_url_with_an_ip_address_is_checked_against_it(
    tls_application: Application, authority: Authority, run_module: t.Any
) -> None:
    result = run_module(health.main, url=tls_application.url(scheme="https"), ca_path=str(authority.path))
    assert result["status"] == "healthy"


def test_a_certificate_for_another_name_is_refused_before_anything_is_asked(
    tls_application: Application, authority: Authority, run_module: t.Any
) -> None:
    url = tls_application.url("other.example.org", "https")
    result = run_module(health.main, url=url, address="127.0.0.1", ca_path=str(authority.path), accept=["unreachable"])
    assert re.match(r"SSLCertVerificationError: .*Hostname mismatch.*'other\.example\.org'", result["reason"])
    assert tls_application.requests == []


def test_a_certificate_of_another_authority_is_refused(
    tls_application: Application, tmp_path: pathlib.Path, run_module: t.Any
) -> None:
    url = tls_application.url(scheme="https")
    other = make_authority(tmp_path)
    result = run_module(health.main, url=url, ca_path=str(other.path), accept=["unreachable"])
    assert re.match(r"SSLCertVerificationError: .*CERTIFICATE_VERIFY_FAILED", result["reason"])
    assert tls_application.requests == []


def test_without_ca_path_an_authority_the_system_does_not_know_is_refused(
    tls_application: Application, run_module: t.Any
) -> None:
    result = run_module(health.main, url=tls_application.url(scheme="https"), accept=["unreachable"])
    assert re.match(r"SSLCertVerificationError: .*CERTIFICATE_VERIFY_FAILED", result["reason"])


def test_tls_with_a_server_that_does_not_speak_it_is_unreachable(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url(scheme="https"), timeout=5, accept=["unreachable"])
    assert re.match(r"SSLError|SSLEOFError|ConnectionResetError", result["reason"])


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_path_without_certificates_fails_at_once(
    content: str | None, tmp_path: pathlib.Path, closed_port: int, run_module: t.Any
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    start = time.monotonic()
    result = run_module(health.main, url=f"https://127.0.0.1:{closed_port}/", ca_path=str(path), wait=60)
    assert time.monotonic() - start < 5
    assert result["msg"].startswith(f"ca_path is '{path}', which holds no certificates to trust: ")
    assert result["msg"].endswith(".")


def test_without_tls_no_ca_is_needed(application: Application, tmp_path: pathlib.Path, run_module: t.Any) -> None:
    assert run_module(health.main, url=application.url(), ca_path=str(tmp_path / "none"))["status"] == "healthy"


# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_wait_an_application_is_asked_once(application: Application, run_module: t.Any) -> None:
    application.answers = [Answer(UNHEALTHY), Answer(HEALTHY)]
    result = run_module(health.main, url=application.url())
    assert result["failed"]
    assert result["attempts"] == len(application.requests) == 1


def test_an_application_that_becomes_healthy_ends_the_wait(application: Application, run_module: t.Any) -> None:
    application.answers = [Answer(body=b"", status=502), Answer(UNHEALTHY), Answer(DEGRADED), Answer(HEALTHY)]
    start = time.monotonic()
    result = run_module(health.main, url=application.url(), wait=60, interval=0.05)
    assert time.monotonic() - start < 10
    assert (result["status"], result["attempts"]) == ("healthy", 4)
    assert result["waited"] >= 0.1


def test_an_application_that_is_started_meanwhile_is_waited_for(run_module: t.Any) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))

        def start() -> None:
            server.listen()
            connection, _address = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(HEALTHY).encode())

        timer = threading.Timer(0.3, start)
        timer.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/api/health"
        result = run_module(health.main, url=url, wait=60, interval=0.05)
        timer.join()
    assert result["status"] == "healthy"
    assert result["attempts"] > 1


def test_an_application_that_never_becomes_healthy_fails_when_the_deadline_passes(
    application: Application, run_module: t.Any
) -> None:
    application.answers = [Answer(UNHEALTHY)]
    start = time.monotonic()
    result = run_module(health.main, url=application.url(), wait=1, interval=0.3)
    assert 1 <= time.monotonic() - start < 3
    assert result["msg"] == (
        f"{application.url()} is unhealthy with release 1.4.0 (db is unhealthy) after 1 s, not healthy."
    )
    assert result["failed"] is True
    # At 0, 0.3, 0.6, 0.9 and, for the last time, at the deadline.
    assert result["attempts"] == len(application.requests) == 5
    assert (result["status"], result["services"]) == ("unhealthy", UNHEALTHY["services"])


def test_an_interval_longer_than_the_wait_still_asks_at_the_deadline(
    application: Application, run_module: t.Any
) -> None:
    application.answers = [Answer(UNHEALTHY), Answer(HEALTHY)]
    result = run_module(health.main, url=application.url(), wait=1, interval=30)
    assert (result["status"], result["attempts"]) == ("healthy", 2)


def test_a_failure_to_reach_says_why(closed_port: int, run_module: t.Any) -> None:
    url = f"http://127.0.0.1:{closed_port}/api/health"
    result = run_module(health.main, url=url, accept=["healthy", "degraded"])
    assert re.fullmatch(
        rf"{re.escape(url)} is unreachable \(ConnectionRefusedError: .*\) after 0 s, not healthy or degraded\.",
        result["msg"],
    )


def test_a_state_that_is_better_than_accepted_is_not_accepted(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url(), accept=["degraded", "unreachable"])
    assert result["msg"] == f"{application.url()} is healthy with release 1.4.0 after 0 s, not degraded or unreachable."


# ── the release ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_release_asked_for_is_waited_for(application: Application, run_module: t.Any) -> None:
    application.answers = [Answer({**HEALTHY, "version": "1.3.0"}), Answer(HEALTHY)]
    result = run_module(health.main, url=application.url(), version="1.4.0", wait=60, interval=0.05)
    assert (result["version"], result["attempts"]) == ("1.4.0", 2)


def test_another_release_fails_however_healthy_it_is(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url(), version="1.5.0")
    assert result["msg"] == (
        f"{application.url()} is healthy with release 1.4.0 after 0 s, not healthy with release 1.5.0."
    )


def test_an_empty_version_means_any_release(application: Application, run_module: t.Any) -> None:
    assert run_module(health.main, url=application.url(), version="")["version"] == "1.4.0"


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_mode_asks_too(application: Application, run_module: t.Any) -> None:
    result = run_module(health.main, url=application.url(), _ansible_check_mode=True)
    assert (result["status"], result["changed"]) == ("healthy", False)
    assert len(application.requests) == 1


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("portal.example.org/api/health", "; it must start with https:// or http://."),
        ("ftp://portal.example.org/", "; it must start with https:// or http://."),
        ("", "; it must start with https:// or http://."),
        ("https:///api/health", "; it names no host."),
        ("https://:8443/", "; it names no host."),
        ("https://portal:80a/", ": Port could not be cast to integer value as '80a'."),
        ("https://portal:99999/", ": Port out of range 0-65535."),
        ("https://portal:0/", ": Port out of range 1-65535."),
        ("https://[::1/", ": Invalid IPv6 URL."),
    ],
)
def test_a_url_nobody_can_ask_fails_at_once(url: str, rest: str, run_module: t.Any) -> None:
    assert run_module(health.main, url=url, wait=60)["msg"] == f"url is '{url}'{rest}"


@pytest.mark.parametrize("name", ["interval", "timeout"])
@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (-1, "-1"), (-0.5, "-0.5"), ("nan", "nan"), ("inf", "inf")])
def test_a_time_that_is_none_fails(name: str, value: t.Any, shown: str, run_module: t.Any) -> None:
    result = run_module(health.main, url="http://127.0.0.1:1/", **{name: value})
    assert result["msg"] == f"{name} is {shown}; give seconds above 0."


def test_accepting_nothing_fails(run_module: t.Any) -> None:
    result = run_module(health.main, url="http://127.0.0.1:1/", accept=[])
    assert result["msg"] == "accept is empty; name a state that is good enough, such as healthy."


def test_an_unknown_state_to_accept_fails(run_module: t.Any) -> None:
    result = run_module(health.main, url="http://127.0.0.1:1/", accept=["fine"])
    assert "value of accept must be one or more of: healthy, degraded, unhealthy, unreachable" in result["msg"]
