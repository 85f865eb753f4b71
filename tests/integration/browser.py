"""A real browser for the tests: Debian's Chromium driven by Playwright, and axe-core to look at a page with."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright

CHECKOUT = Path(__file__).resolve().parents[2]


@functools.cache
def _executable() -> str:
    """Chromium's path; installed where it, or the tool that gives it a CA, is missing."""
    if not (shutil.which("chromium") and shutil.which("certutil")):
        install = ["ansible-playbook", "molecule/shared/browser.yml"]
        subprocess.run(install, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    path = shutil.which("chromium")
    assert path, "no chromium in PATH"
    return path


def _trust(home: Path, authorities: Sequence[Path]) -> None:
    """Make the NSS database in which Chromium looks for authorities of its user's own."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    for authority in authorities:
        subprocess.run([*certutil, "-A", "-n", authority.name, "-t", "C,,", "-i", str(authority)], check=True)


@contextlib.contextmanager
def chromium(
    playwright: Playwright, home: Path, authorities: Sequence[Path] = (), addresses: Mapping[str, str] | None = None
) -> Iterator[Browser]:
    """A Chromium with a home of its own, an empty directory.

    It trusts ``authorities`` (files with a CA's certificate) beside the public ones; no certificate error is ignored.
    It finds each key of ``addresses`` (host or host:port) at its value, and asks no proxy.
    """
    executable = _executable()
    _trust(home, authorities)
    rules = ", ".join(f"MAP {name} {address}" for name, address in (addresses or {}).items())
    browser = playwright.chromium.launch(
        executable_path=executable,
        args=["--no-proxy-server", f"--host-resolver-rules={rules}"],
        env={**os.environ, "HOME": str(home)},
        # Chromium refuses its sandbox to root.
        chromium_sandbox=os.geteuid() != 0,
    )
    try:
        yield browser
    finally:
        browser.close()


def axe(page: Page) -> list[str]:
    """What axe-core finds wrong with the page, of any impact: one line each; empty for a page in order."""
    # The size of targets (WCAG 2.2) is a rule that is off unless asked for.
    options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    violations: list[dict[str, t.Any]] = Axe().run(page, options=options).response["violations"]
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {[node['target'] for node in found['nodes']]}"
        for found in violations
    ]
