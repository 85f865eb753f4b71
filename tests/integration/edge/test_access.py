"""What the outside world meets: redirect, headers, limits, who may call what, the change from one mode to another."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import re
import socket
import ssl
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from ..conftest import DOMAIN, STATE, Answer, Load, Portal, Refuse, wait_until
from . import probe

pytestmark = pytest.mark.edge

MEGABYTE = 1024 * 1024
PASSWORDS = {"usha": "correct horse battery 1", "tilo": "correct horse battery 2", "adam": "correct horse battery 3"}
ROLES = {"usha": "user", "tilo": "trainer", "adam": "admin"}
FORGED = {
    "X-Role": "admin",
    "X-Auth-User": "mallory",
    "X-Auth-Roles": "admin",
    "X-Auth-Anything": "1",
    "X_Role": "admin",
    "X_Auth_User": "mallory",
    "X-Forwarded-User": "mallory",
    "X-Forwarded-Email": "mallory@example.org",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Uri": "/probe/anyone",
    "X-Forwarded-Method": "GET",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-Ip": "203.0.113.9",
    "X-Original-Url": "/probe/admin",
    "X-Rewrite-Url": "/probe/admin",
    "X-HTTP-Method-Override": "DELETE",
    "X-Method-Override": "DELETE",
    "Forwarded": "for=203.0.113.9;host=evil.example",
    "Remote-User": "mallory",
}


def basic(name: str, password: str | None = None) -> dict[str, str]:
    secret = base64.b64encode(f"{name}:{password or PASSWORDS[name]}".encode()).decode()
    return {"Authorization": f"Basic {secret}"}


def call(portal: Portal, path: str, method: str = "GET", data: bytes | None = None, **headers: str) -> Answer:
    """One request with the path as it is, whatever a client would make of it."""
    return portal.request(path, data, method=method, **headers)


def form_with(size: int) -> bytes:
    """The body of a form with a file of so many bytes."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n'
    return head + b"x" * size + b"\r\n--b--\r\n"


def secured(answer: Answer) -> None:
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-XSS-Protection"] == "1; mode=block"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert answer.headers["Server"] is None


@pytest.fixture(scope="module")
def demo(edge: Callable[..., t.Any]) -> None:
    """The demo mode, with which the tests begin."""


@pytest.fixture(scope="module")
def slow_upload(demo: None, portal: Portal) -> Iterator[concurrent.futures.Future[Answer]]:
    """An upload that takes longer than Traefik's own limit for reading a request (60 s)."""

    def drip() -> Answer:
        context = ssl.create_default_context(cafile=str(portal.ca))
        raw = socket.create_connection(("127.0.0.1", portal.ports["nuc_443"]), timeout=120)
        with contextlib.closing(context.wrap_socket(raw, server_hostname=DOMAIN)) as connection:
            connection.sendall(f"POST /probe/upload HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 66\r\n\r\n".encode())
            for _attempt in range(66):
                connection.sendall(b"x")
                time.sleep(1)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(drip)


# ── Demo mode ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_http_leads_to_https(portal: Portal) -> None:
    answer = portal.request("/some/page?x=1", scheme="http")
    assert answer.status in (301, 308)
    assert answer.headers["Location"] == f"https://{DOMAIN}:{portal.ports['nuc_443']}/some/page?x=1"


def test_every_answer_is_secured(slow_upload: t.Any, portal: Portal) -> None:
    answers = {
        200: call(portal, "/"),
        403: call(portal, "/api/settings"),
        404: call(portal, "/nothing"),
        413: call(portal, "/probe/upload", "POST", b"x" * (50 * MEGABYTE + 128 * 1024)),
        503: call(portal, "/probe/status/503"),
        400: call(portal, "/probe/a%2fb"),
    }
    assert {status: answer.status for status, answer in answers.items()} == {status: status for status in answers}
    for status, answer in answers.items():
        if status != 400:  # refused before there is a route
            secured(answer)


def test_errors_have_a_page_for_people_and_a_sentence_for_programs(demo: None, portal: Portal) -> None:
    page = call(portal, "/nothing/here", Accept="text/html,*/*")
    assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert 'lang="de"' in page.body.decode() and 'lang="en"' in page.body.decode()
    assert call(portal, "/nothing/here").json.keys() == {"error"}
    denied = call(portal, "/admin", Accept="text/html")
    assert (denied.status, denied.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    stylesheet = call(portal, "/edge-pages/edge.css")
    assert (stylesheet.status, stylesheet.headers["Content-Type"].split(";")[0]) == (200, "text/css")
    # The application's own errors stay its own.
    assert call(portal, "/probe/status/404", Accept="text/html").json["path"] == "/probe/status/404"


def test_what_is_compressed_and_cached(demo: None, portal: Portal) -> None:
    page = call(portal, "/").body.decode()
    asset = page.split('href="/assets/')[1].split('"')[0]
    for encoding in ("br", "gzip"):
        answer = call(portal, "/probe/x", **{"Accept-Encoding": encoding})
        assert answer.headers["Content-Encoding"] == encoding
        # A page reflects what its reader sends and holds what he must not: not compressed (BREACH).
        assert call(portal, "/", **{"Accept-Encoding": encoding}).headers["Content-Encoding"] is None
    assert "max-age=86400" in call(portal, f"/assets/{asset}").headers["Cache-Control"]
    assert "86400" not in str(call(portal, "/assets/nothing").headers["Cache-Control"])


def test_a_file_of_50_mb_passes_and_a_larger_one_does_not(demo: None, portal: Portal, nuc: t.Any) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    passed = call(portal, "/probe/upload", "POST", form_with(50 * MEGABYTE), **form)
    assert (passed.status, passed.json["size"]) == (200, len(form_with(50 * MEGABYTE)))
    refused = call(portal, "/probe/upload", "POST", form_with(50 * MEGABYTE + 70000), **form)
    assert refused.status == 413
    # It waited on disk, and nothing of it stays there.
    assert nuc.check_output("find /data/edge -type f") == ""


def test_uploads_are_counted(demo: None, portal: Portal) -> None:
    answers = [call(portal, "/probe/upload", "POST", b"x") for _attempt in range(8)]
    assert [answer.status for answer in answers][-1] == 429
    assert [answer.status for answer in answers].count(200) <= 5
    assert int(answers[-1].headers["Retry-After"]) > 0
    secured(answers[-1])


@pytest.mark.parametrize("path", ["/probe/x", "/probe/anyone"])
def test_nothing_forged_reaches_the_application(demo: None, portal: Portal, path: str) -> None:
    answer = call(portal, path, **FORGED)
    assert answer.status == 200
    seen = probe.headers(answer)
    for value in ("mallory", "evil", "203.0.113.9", "admin", "DELETE"):
        assert value not in json.dumps(seen), (value, seen)
    assert seen.get("x-role") == (None if path.endswith("anyone") else "user")
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == ("https", DOMAIN)
    assert not [name for name in seen if "_" in name]


def test_no_trick_passes_the_policy(demo: None, portal: Portal) -> None:
    """Whatever the path looks like: what a generous server would take for /probe/admin does not get there as a user."""
    heads = [
        "/probe",
        "//probe",
        "/./probe",
        "/x/../probe",
        "/PROBE",
        "/%70robe",
        "/probe/.",
        "/probe;a=b",
        "/probe/x/..",
    ]
    tails = [
        "/admin",
        "//admin",
        "/./admin",
        "/ADMIN",
        "/%61dmin",
        "/admin/",
        "/admin.",
        "/admin;x",
        "/admin%2f",
        "/admin%00",
    ]
    tails += [
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%2e/admin",
        "\\admin",
        "/admin/./",
        "/admin?x",
        "/admin%3bx",
        "/admin%20",
        "/%2561dmin",
    ]
    methods = ["GET", "POST", "TRACE"]
    tried = 0
    for head, tail, method in itertools.product(heads, tails, methods):
        path = head + tail
        data = b"x" if method == "POST" else None
        answer = call(portal, path, method, data, **{"X-HTTP-Method-Override": "GET"})
        tried += 1
        if probe.reached(answer):
            inside = probe.meaning(answer.json["path"])
            assert not (inside == "/probe/admin" or inside.startswith("/probe/admin/")), (
                path,
                method,
                answer.json["path"],
            )
        else:
            assert answer.status in (400, 403, 404, 405, 429), (path, method, answer.status)
    assert tried >= 100


def test_what_is_denied_is_logged(demo: None, portal: Portal, nuc: t.Any) -> None:
    call(portal, "/api/settings?token=supersecret")
    line = wait_until(
        lambda: [
            entry
            for entry in map(json.loads, nuc.check_output("tail -n 20 /var/log/flowaudit/edge/access.log").splitlines())
            if entry["DownstreamStatus"] == 403 and entry["RouterName"].startswith("api-settings-")
        ],
        5,
        "the denied call in the access log",
    )[-1]
    assert line["RequestPath"].split("?")[0] == "/api/settings"
    assert "supersecret" not in json.dumps(line)


def test_metrics_stay_inside(portal: Portal) -> None:
    assert call(portal, "/api/metrics").status == 403


# ── Maintenance ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.campaign
def test_maintenance_is_said_to_everybody(edge: Callable[..., t.Any], demo: None, portal: Portal) -> None:
    on = edge(edge_maintenance=True, edge_maintenance_until="Sunday, 04:00", edge_operator_name="Amt <b>Nord</b>")
    assert on.returncode == 0, on.stdout
    try:
        for path in ("/", "/api/health", "/nothing"):
            answer = call(portal, path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "900")
            assert answer.json.keys() == {"error"}
            secured(answer)
        page = call(portal, "/", Accept="text/html").body.decode()
        assert "Sunday, 04:00" in page
        assert "<b>" not in page
        assert call(portal, "/edge-pages/edge.css").status == 200
    finally:
        off = edge()
    assert off.returncode == 0, off.stdout
    assert call(portal, "/api/health").status == 200


def test_a_slow_upload_survives(slow_upload: concurrent.futures.Future[Answer]) -> None:
    # Also a maintenance that began after it.
    answer = slow_upload.result()
    assert (answer.status, answer.json["size"]) == (200, 66)


# ── Seminar ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def tokens(playbook: Callable[..., t.Any], edge: Callable[..., t.Any], portal: Portal, demo: None) -> dict[str, str]:
    """The seminar mode with a user of each role; a token for the trainer. Health is asked all the time meanwhile."""
    credentials = STATE / "seminar_token"
    for name, password in PASSWORDS.items():
        more = {"user_token": True, "user_credentials_file": str(credentials)} if name == "tilo" else {}
        added = playbook(
            "flowaudit.ops.manage_users",
            user_action="add",
            user_name=name,
            user_role=ROLES[name],
            user_password=password,
            **more,
        )
        assert added.returncode == 0, added.stdout
        assert password not in added.stdout
    with Load(portal, "/api/health") as load:
        result = edge(edge_access_mode="seminar")
    assert result.returncode == 0, result.stdout
    assert load.failures == []
    assert load.answers > 50
    token = re.search("^token of .*: (.+)$", credentials.read_text(), re.MULTILINE)
    credentials.unlink()
    assert token is not None
    return {"tilo": token[1]}


@pytest.mark.parametrize(("name", "path", "method", "status"), [
    ("usha", "/probe/x", "GET", 200),
    ("usha", "/probe/admin", "GET", 403),
    ("tilo", "/probe/admin", "GET", 403),
    ("adam", "/probe/admin", "GET", 200),
    ("usha", "/api/settings", "GET", 403),
    ("usha", "/api/generator/run", "POST", 403),
    ("usha", "/api/metrics", "GET", 403),
    ("adam", "/api/metrics", "GET", 403),
])  # fmt: skip
def test_a_role_decides(tokens: dict[str, str], portal: Portal, name: str, path: str, method: str, status: int) -> None:
    data = b"{}" if method == "POST" else None
    assert call(portal, path, method, data, **basic(name)).status == status


def test_a_trainer_may_run_the_generator(tokens: dict[str, str], portal: Portal) -> None:
    # The reference application has none: it is the application that says so.
    assert call(portal, "/api/generator/run", "POST", b"{}", **basic("tilo")).status == 404


def test_the_application_is_told_the_name_and_not_the_password(tokens: dict[str, str], portal: Portal) -> None:
    seen = probe.headers(call(portal, "/probe/x", **{**FORGED, **basic("tilo")}))
    assert (seen["x-auth-user"], seen["x-role"]) == ("tilo", "trainer")
    assert "authorization" not in seen
    assert "mallory" not in json.dumps(seen)


def test_without_a_password_nobody_passes(tokens: dict[str, str], portal: Portal) -> None:
    for headers in (
        {},
        basic("usha", "wrong password 12"),
        basic("nobody", "wrong password 12"),
        {"Authorization": "Bearer " + "x" * 43},
    ):
        for path in ("/", "/probe/x", "/api/documents"):
            answer = call(portal, path, **headers)
            assert answer.status == 401, (path, headers)
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
            secured(answer)
    assert call(portal, "/", Accept="text/html").headers["Content-Type"] == "text/html; charset=utf-8"
    assert call(portal, "/api/health").status == 200


def test_a_token_will_do(tokens: dict[str, str], portal: Portal) -> None:
    token = tokens["tilo"]
    seen = probe.headers(call(portal, "/probe/x", Authorization=f"Bearer {token}"))
    assert (seen["x-auth-user"], seen["x-role"]) == ("tilo", "trainer")
    assert call(portal, "/probe/admin", Authorization=f"Bearer {token}").status == 403


def test_uploads_are_counted_by_person(tokens: dict[str, str], portal: Portal) -> None:
    mine = [call(portal, "/probe/upload", "POST", b"x", **basic("usha")).status for _attempt in range(14)]
    assert mine[-1] == 429
    assert 5 < mine.count(200) <= 12
    assert call(portal, "/probe/upload", "POST", b"x", **basic("adam")).status == 200


def test_a_user_is_changed_and_removed(
    tokens: dict[str, str], playbook: Callable[..., t.Any], portal: Portal, nuc: t.Any
) -> None:
    changed = playbook(
        "flowaudit.ops.manage_users",
        user_action="change",
        user_name="usha",
        user_role="trainer",
        user_password="another horse 4711",
    )
    assert changed.returncode == 0, changed.stdout
    assert call(portal, "/probe/x", **basic("usha")).status == 401
    assert probe.headers(call(portal, "/probe/x", **basic("usha", "another horse 4711")))["x-role"] == "trainer"
    removed = playbook("flowaudit.ops.manage_users", user_action="remove", user_name="usha")
    assert removed.returncode == 0, removed.stdout
    assert call(portal, "/probe/x", **basic("usha", "another horse 4711")).status == 401
    stored = nuc.check_output("cat /etc/flowaudit/edge/auth/users/*")
    assert "usha" not in stored
    assert not any(password in stored for password in PASSWORDS.values())
    assert stored.count("$2y$") == 2


WRONG: list[tuple[dict[str, t.Any], str]] = [
    ({"edge_policy": [{"path": "/x", "roles": ["auditor"]}]}, "unknown role 'auditor'"),
    (
        {"edge_policy": [{"path": "/x", "roles": ["user"]}, {"path": "/x", "methods": ["GET"], "roles": ["admin"]}]},
        "both decide about GET /x",
    ),
    ({"edge_demo_role": "root"}, "is no role"),
    ({"edge_access_mode": "production"}, "edge_oidc_issuer is empty"),
    (
        {
            "edge_access_mode": "production",
            "edge_oidc_issuer": "https://127.0.0.1:9/none",
            "edge_oidc_client_id": "x",
            "edge_secrets": {"oidc_client_secret": "x", "oidc_session_key": "x" * 40},
        },
        "https://127.0.0.1:9/none",
    ),
    ({"edge_oidc_issuer": "https://127.0.0.1:9/none", "edge_oidc_client_id": "x"}, "edge_secrets lacks"),
    ({"edge_upload_limit": "50MB"}, "write a limit such as 50M"),
]


def test_wrong_input_is_refused(refuse: Refuse) -> None:
    said = refuse([("edge", settings) for settings, _sentence in WRONG])
    for answer, (_settings, sentence) in zip(said, WRONG, strict=True):
        assert sentence in answer
