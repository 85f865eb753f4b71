# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real runs of Ansible on this machine, recorded in a trail of their own."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, sqlite, verify

CHECKOUT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
Entry = dict[str, t.Any]
Task = dict[str, t.Any]


@dataclasses.dataclass
class Control:
    """A control node: a project directory, an inventory of hosts that are this machine, and a trail."""

    directory: pathlib.Path
    bin: pathlib.Path = BIN  # where Ansible is

    @property
    def trail(self) -> pathlib.Path:
        return self.directory / "trail"

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "FLOWAUDIT_"))}
        # A CI job's files end with it, which the trail refuses; that has a test of its own.
        kept.pop("CI", None)
        return kept | {
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "HOME": str(self.directory / "home"),
            "FLOWAUDIT_TRAIL_DIRECTORY": str(self.trail),
            "FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL": "true",
        }

    def write(self, name: str, content: t.Any) -> pathlib.Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            textwrap.dedent(content) if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        )
        return path

    def playbook(self, *tasks: t.Any, name: str = "play.yml", **play: t.Any) -> pathlib.Path:
        return self.write(name, [{"name": "Test", "hosts": "all", "gather_facts": False, **play, "tasks": list(tasks)}])

    def command(self, *words: str | os.PathLike[str], tool: str = "ansible-playbook") -> list[str]:
        return [str(self.bin / tool), *map(str, words)]

    def start(
        self, *words: str | os.PathLike[str], tool: str = "ansible-playbook", **more: t.Any
    ) -> subprocess.Popen[str]:
        environment = self.environment | more.pop("env", {})
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": self.directory} | more
        # Whoever runs the tests (nohup) may have SIGHUP ignored, which would be inherited.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        return subprocess.Popen(self.command(*words, tool=tool), env=environment, **options)

    def run(
        self, *words: str | os.PathLike[str], tool: str = "ansible-playbook", rc: int | None = 0, **more: t.Any
    ) -> subprocess.CompletedProcess[str]:
        typed = more.pop("input", None)
        if typed is not None:
            more["stdin"] = subprocess.PIPE
        process = self.start(*words, tool=tool, **more)
        output, _nothing = process.communicate(typed, timeout=240)
        assert rc is None or process.returncode == rc, output
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def gate(self, name: str = "gate") -> Task:
        """A task that waits until the test opens the gate."""
        wait = f"touch at.{name} at.{name}.{{{{ inventory_hostname }}}}; until [ -e open.{name} ]; do sleep 0.02; done"
        return {"name": f"Wait at {name}", "ansible.builtin.raw": wait}

    def wait_for(self, name: str, process: subprocess.Popen[str]) -> None:
        """Wait until a file is there."""
        deadline = time.monotonic() + 60
        while not (self.directory / name).exists():
            if process.poll() is not None:
                pytest.fail(f"It has ended: {process.communicate()[0]}")
            assert time.monotonic() < deadline, f"No {name} within a minute."
            time.sleep(0.02)

    def open(self, name: str = "gate") -> None:
        self.write(f"open.{name}", "")

    def log(self) -> sqlite.SqliteLog:
        return sqlite.SqliteLog(home.Home(self.trail))

    def entries(self, kind: str = "") -> list[Entry]:
        log = self.log()
        try:
            values = [json.loads(row.line) for row in log.rows() if row.line is not None]
        finally:
            log.close()
        return [value for value in values if not kind or value["type"] == kind]

    def verified(self) -> verify.Report:
        log = self.log()
        try:
            nodes = {(level, index): node for level, index, node in log.ask("SELECT level, idx, hash FROM nodes")}
            return verify.verify(log.origin, log.rows(), log.checkpoints(), nodes=nodes)
        finally:
            log.close()


def make_control(directory: pathlib.Path, binaries: pathlib.Path = BIN) -> Control:
    made = Control(directory, binaries)
    (directory / "home").mkdir(parents=True)
    python = binaries / "python"
    made.write(
        "hosts.ini",
        f"""\
        [all]
        h[1:4]

        [all:vars]
        ansible_connection=local
        ansible_python_interpreter={python}
        ansible_remote_tmp={directory}/remote
        ansible_async_dir={directory}/async
        """,
    )
    made.write(
        "ansible.cfg",
        f"""\
        [defaults]
        collections_path = {binaries.parent / "collections"}
        inventory = hosts.ini
        callbacks_enabled = flowaudit.ops.trail
        bin_ansible_callbacks = true
        local_tmp = {directory / "local"}
        retry_files_enabled = false
        pipelining = true
        interpreter_python = {python}
        """,
    )
    return made


@pytest.fixture
def control(tmp_path: pathlib.Path) -> Control:
    """A control node of four hosts, with the trail on."""
    return make_control(tmp_path)


@pytest.fixture
def controls(tmp_path: pathlib.Path) -> t.Callable[[str], Control]:
    """Makes control nodes that know nothing of each other."""
    return lambda name: make_control(tmp_path / name)


@pytest.fixture(params=["this", "other"])
def each_control(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Control:
    """A control node with the ansible-core of these tests, and one with the other that is supported.

    That is a virtual environment beside this one (.venv-…). To run all tests with it: <environment>/bin/pytest.
    """
    if request.param == "this":
        return make_control(tmp_path)
    others = [place for place in sorted(CHECKOUT.glob(".venv*/bin")) if not place.samefile(BIN)]
    usable = [place for place in others if (place.parent / "collections").exists()]
    if not usable:
        pytest.skip("There is no virtual environment .venv-… with another ansible-core.")
    return make_control(tmp_path, usable[0])
