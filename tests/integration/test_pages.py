"""The edge's own pages, as a browser shows them under a strict Content-Security-Policy. No host is needed."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, Playwright

from .browser import axe, chromium
from .conftest import CHECKOUT

ROLE = CHECKOUT / "roles" / "edge"
TEMPLATES = ROLE / "templates" / "pages"
PAGES = sorted(
    path.name.removesuffix(".html.j2") for path in TEMPLATES.glob("*.html.j2") if path.name != "base.html.j2"
)
ANSWERS = sorted(path.name.removesuffix(".json.j2") for path in TEMPLATES.glob("*.json.j2"))
POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

# What an operator may write; none of it may become markup.
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)> & Söhne"
VALUES: dict[str, dict[str, t.Any]] = {
    "plain": {"edge_operator_name": "", "edge_operator_contact": "", "edge_maintenance_until": ""},
    "told": {
        "edge_operator_name": "Prüfungsamt Musterstadt",
        "edge_operator_contact": "portal@musterstadt.example",
        "edge_maintenance_until": "18:00",
        "edge_access_mode": "production",
    },
    "hostile": {
        "edge_operator_name": HOSTILE,
        "edge_operator_contact": HOSTILE,
        "edge_maintenance_until": HOSTILE,
        "edge_access_mode": "production",
        "edge_login_path": '/auth/login?"><script>',
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every page with each set of values, rendered by Ansible with the role's templates: a directory for each case."""
    directory = tmp_path_factory.mktemp("pages")
    (directory / "templates").symlink_to(ROLE / "templates")
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    # One task renders all pages of a case; a task for each would take a minute.
    task = {
        "ansible.builtin.copy": {
            "dest": f"{directory}/{{{{ case }}}}.json",
            "mode": "0644",
            "content": "{% set pages = {} %}{% for file in files %}"
            "{% set _ = pages.update({file: lookup('ansible.builtin.template', 'pages/' ~ file ~ '.j2')}) %}"
            "{% endfor %}{{ pages | to_json }}",
        }
    }
    files = [f"{page}.html" for page in PAGES] + [f"{answer}.json" for answer in ANSWERS]
    plays = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {**defaults, "edge_upload_limit": "500M", **values, "files": files, "case": case},
            "tasks": [task],
        }
        for case, values in VALUES.items()
    ]
    # JSON is YAML, and without the anchors that PyYAML would write.
    (directory / "playbook.yml").write_text(json.dumps(plays))
    run = subprocess.run(
        ["ansible-playbook", "playbook.yml"],
        cwd=directory,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    for case in VALUES:
        served = directory / case / "edge-pages"
        served.mkdir(parents=True)
        (served / "edge.css").write_bytes((TEMPLATES / "edge.css").read_bytes())
        for file, content in json.loads((directory / f"{case}.json").read_text()).items():
            (served / file).write_text(content)
    return directory


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *arguments: t.Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(rendered: Path) -> Iterator[t.Callable[[str], str]]:
    """Serve the pages of each case; gives a case's address."""
    with contextlib.ExitStack() as stack:
        addresses = {}
        for case in VALUES:
            handler = functools.partial(_Handler, directory=str(rendered / case))
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            addresses[case] = f"http://127.0.0.1:{server.server_port}"
        yield addresses.__getitem__


@pytest.fixture(scope="module")
def pages_browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(playwright, tmp_path_factory.mktemp("home")) as browser:
        yield browser


@pytest.fixture
def page(pages_browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose every console message, blocked request and script error fails the test."""
    complaints: list[str] = []
    with contextlib.closing(pages_browser.new_context()) as context:
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda failed: complaints.append(f"{failed.url}: {failed.failure}"))
        yield page
    assert complaints == []


def test_no_page_is_missing() -> None:
    assert PAGES == ["401", "403", "404", "413", "429", "500", "maintenance", "signed_out"]
    assert ANSWERS == ["401", "403", "404", "413", "429", "500", "maintenance"]


# The layout is one, so one page shows what no text and what long, hostile text does to it.
@pytest.mark.parametrize(("name", "case"), [*((name, "told") for name in PAGES), ("403", "plain"), ("403", "hostile")])
def test_a_page_is_readable_by_everyone(page: Page, site: t.Callable[[str], str], name: str, case: str) -> None:
    page.goto(f"{site(case)}/edge-pages/{name}.html")
    backgrounds = set()
    # 320 pixels are also what a window 1280 pixels wide has at 400 % zoom.
    looks: tuple[tuple[t.Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 320))
    for scheme, width in looks:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 640})
        assert axe(page) == [], f"{scheme}, {width} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    # Two colours: the style sheet was let in, and it has a dark scheme.
    assert len(backgrounds) == 2


@pytest.mark.parametrize("name", PAGES)
def test_a_page_speaks_german_and_english(page: Page, site: t.Callable[[str], str], name: str) -> None:
    page.goto(f"{site('told')}/edge-pages/{name}.html")
    german, english = page.locator("h1"), page.locator("section[lang=en] h2")
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.title() == f"{german.inner_text()} / {english.inner_text()} | Prüfungsamt Musterstadt"
    assert page.locator("section:not([lang]) p").count() == page.locator("section[lang=en] p").count() > 0
    assert page.locator("footer a").get_attribute("href") == "mailto:portal@musterstadt.example"


@pytest.mark.parametrize("name", PAGES)
def test_what_an_operator_writes_is_text(page: Page, site: t.Callable[[str], str], name: str) -> None:
    page.goto(f"{site('hostile')}/edge-pages/{name}.html")
    assert page.locator("script, img, [onerror]").count() == 0
    assert page.locator(".operator").inner_text() == HOSTILE
    assert page.locator("footer").inner_text().startswith(f"Hilfe / Help: {HOSTILE}")


def test_links_lead_where_they_should(page: Page, site: t.Callable[[str], str]) -> None:
    targets: dict[tuple[str, str], set[str | None]] = {}
    for case in ("plain", "told"):
        for name in PAGES:
            page.goto(f"{site(case)}/edge-pages/{name}.html")
            targets[case, name] = {link.get_attribute("href") for link in page.locator("main a").all()}
    home = {(case, name): {"/"} for case, name in targets}
    nowhere = {(case, "maintenance"): set() for case in ("plain", "told")}
    assert targets == home | nowhere | {("told", "401"): {"/auth/login"}}


def test_the_limit_and_the_end_of_maintenance_are_told(page: Page, site: t.Callable[[str], str]) -> None:
    page.goto(f"{site('told')}/edge-pages/413.html")
    assert page.get_by_text("500 MB").count() == 2
    page.goto(f"{site('told')}/edge-pages/maintenance.html")
    assert page.get_by_text("18:00").count() == 2
    page.goto(f"{site('plain')}/edge-pages/maintenance.html")
    assert page.locator("section p").count() == 2


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_program_gets_one_sentence(rendered: Path, name: str, case: str) -> None:
    answer = json.loads((rendered / case / "edge-pages" / f"{name}.json").read_text())
    assert set(answer) == {"error"}
    assert answer["error"].endswith(".")
    if name == "413":
        assert "500 MB" in answer["error"]
    if name == "maintenance" and case == "hostile":
        assert HOSTILE in answer["error"]
