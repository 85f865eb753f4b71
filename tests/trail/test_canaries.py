# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets planted wherever Ansible lets one put them; none may be found in anything that the trail has written."""

from __future__ import annotations

import base64
import pathlib
import re
import secrets
import socket
import subprocess
import typing as t
from collections.abc import Iterator

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, sqlite

from .conftest import Control, Task

# What is to be found, so that the search is known to find something
MARKER = "marker-3f1c9a"

LEAKY = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(
    argument_spec={"password": {"type": "str", "no_log": True}, "text": {"type": "str"}}, supports_check_mode=True
)
secret = module.params["password"]
module.warn("warned of " + module.params["text"])
module.exit_json(
    changed=True,
    path="/srv/" + secret,
    text=module.params["text"],
    stderr="warning: " + module.params["text"],
    diff={"before": "", "after": secret},
    ansible_facts={"leaked": module.params["text"]},
)
"""


SILENT = """
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = "{name: silent, type: stdout, short_description: Shows nothing, description: [It does not.]}"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "silent"
"""


class Nest:
    """Gives out canaries, each other than all before, and remembers where it was put."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def __call__(self, place: str, shape: str = "{}") -> str:
        canary = f"cnry{secrets.token_hex(8)}"
        self.places[canary] = place
        return shape.format(canary)

    def found_in(self, data: bytes) -> set[str]:
        """The places whose canaries are in the data, as they are or encoded."""
        found = set()
        for canary, place in self.places.items():
            raw = canary.encode()
            # In base64 it looks another way at each of three offsets; its ends depend on what is beside it.
            encoded = [base64.b64encode(b"\0" * offset + raw)[4:-4] for offset in range(3)]
            if any(form in data for form in (raw, raw.hex().encode(), canary.encode("utf-16-le"), *encoded)):
                found.add(place)
        return found


@pytest.fixture
def nest() -> Nest:
    return Nest()


def vaulted(control: Control, secret: str) -> str:
    """A string that is encrypted, as it stands in a playbook."""
    command = control.command("encrypt_string", "--vault-password-file", "vault.pass", secret, tool="ansible-vault")
    output = subprocess.check_output(command, env=control.environment, cwd=control.directory, text=True)
    return re.sub(r"\n\s+", "\n", output.partition("\n")[2]).strip() + "\n"


class Vaulted(str):
    """Written with its tag."""


yaml.SafeDumper.add_representer(Vaulted, lambda dumper, value: dumper.represent_scalar("!vault", value, style="|"))


@pytest.mark.parametrize("offset", range(3))
def test_the_search_finds_what_is_encoded(nest: Nest, offset: int) -> None:
    data = b"." * offset + nest("here").encode() + b"..."
    assert (
        nest.found_in(data) == nest.found_in(data.hex().encode()) == nest.found_in(base64.b64encode(data)) == {"here"}
    )
    assert nest.found_in(b"cnry") == set()


def plant(control: Control, nest: Nest) -> None:
    """A playbook with a canary in everything."""
    control.write("vault.pass", nest("vault's password"))
    control.write("library/leaky.py", LEAKY)
    control.write("callback_plugins/silent.py", SILENT)
    control.write("vars.yml", {"from_vault_file": nest("vault file")})
    subprocess.run(
        control.command("encrypt", "--vault-password-file", "vault.pass", "vars.yml", tool="ansible-vault"),
        check=True, capture_output=True, env=control.environment, cwd=control.directory,
    )  # fmt: skip
    control.write("secret.j2", "first line\n{{ in_template }}\n")
    control.write("kept.j2", "password: {{ in_kept_diff }}\nurl: https://me:{{ in_kept_url }}@host/\nshown: yes\n")
    with (control.directory / "hosts.ini").open("a") as inventory:
        inventory.write(
            f"ansible_password={nest('connection password')}\nansible_become_pass={nest('become password')}\n"
        )
        inventory.write(f"in_inventory={nest('inventory variable')}\n")

    tasks: list[Task] = []

    def add(module: str, arguments: t.Any, **more: t.Any) -> None:
        fqcn = module if "." in module or module == "leaky" else f"ansible.builtin.{module}"
        tasks.append({"name": f"Task {len(tasks)}", fqcn: arguments, **more})

    url = f"http://me:{nest('URL', '{}')}@127.0.0.1:9/x?token={nest('URL query')}"
    hidden: dict[str, t.Any] = {"no_log": True}
    here = {"ansible_connection": "local"}
    wrong = {"ignore_errors": True}
    # no_log
    add("raw", f"echo {nest('no_log arguments')}", **hidden, register="hidden")
    add("raw", "echo {{ item }}", loop=[nest("no_log item")], **hidden)
    add("raw", f"echo {nest('no_log failure')} >&2; false", **hidden, **wrong)
    add("debug", {"msg": "{{ hidden.stdout }}"}, **hidden)
    add("copy", {"content": nest("no_log content") + "\n", "dest": "hidden.txt", "mode": "0600"}, **hidden)
    add("raw", "true", delegate_to=nest("no_log delegate"), vars=here, **hidden)
    add(
        "raw",
        "true",
        delegate_to="{{ item }}",
        loop=[nest("no_log delegate item")],
        vars=here,
        **hidden,
    )
    add("flowaudit.ops.trail_event", {"name": nest("no_log event")}, **hidden, **wrong)
    add("fail", {"msg": nest("no_log message")}, **hidden, **wrong)
    # Parameters that are no_log
    add("leaky", {"password": nest("no_log parameter"), "text": "a"})
    hashed = f"$6$saltsalt${nest('password hash')}"
    add("user", {"name": "flowaudit-canary", "password": hashed}, check_mode=True)
    secret_parts = {"url_password": nest("url_password"), "body": nest("body"), "headers": {"X": nest("header")}}
    add("uri", {"url": url, "timeout": 1, **secret_parts}, **wrong)
    add("get_url", {"url": url, "dest": "got", "mode": "0600", "timeout": 1}, **wrong)
    add("git", {"repo": url, "dest": "cloned", "version": "main"}, **wrong)
    # Vault
    add("debug", {"msg": "{{ from_vault }} {{ from_vault_file }}"})
    add("flowaudit.ops.trail_event", {"name": "Vault", "data": {"password": "{{ from_vault }}"}}, **wrong)
    # Diffs
    add("copy", {"content": nest("diff") + "\n{{ from_vault }}\n", "dest": "diff.txt", "mode": "0600"})
    add("copy", {"content": nest("looped diff") + "\n", "dest": "{{ item }}.txt", "mode": "0600"}, loop=["a"])
    add("template", {"src": "secret.j2", "dest": "template.txt", "mode": "0600"})
    add("template", {"src": "kept.j2", "dest": "kept.txt", "mode": "0600"}, vars={"trail_keep_diff": True})
    add("lineinfile", {"path": "diff.txt", "line": nest("line")})
    add("leaky", {"password": "none", "text": nest("output of a module")})
    # Loops
    add("raw", "true", loop=[nest("item")])
    add("raw", "true", loop=[{"key": nest("item of a mapping")}], loop_control={"label": nest("label")})
    # Output and messages
    add("command", {"cmd": "cat", "stdin": nest("stdin")}, register="output")
    add("raw", f"echo {nest('stdout')}; echo {nest('stderr')} >&2")
    add("raw", f"echo {nest('stderr of a failure')} >&2; false", **wrong)
    add("fail", {"msg": nest("failure")}, **wrong)
    add("assert", {"that": ["1 == 2"], "fail_msg": nest("assertion")}, **wrong)
    add("raw", f"test {nest('retry')} = x", register="retried", until="retried is success", retries=1, delay=0, **wrong)
    add("command", {"argv": ["echo", nest("background")]}, **{"async": 10, "poll": 1})
    add("debug", {"msg": nest("debug")})
    add("debug", {"var": "output.stdout"})
    add("set_fact", {"fact": nest("fact")})
    add("set_stats", {"data": {"stat": nest("statistics")}})
    add("add_host", {"name": "added", "ansible_password": nest("variable of a host")})
    add("group_by", {"key": nest("group")})
    add("include_tasks", {"file": "included.yml"}, vars={"passed": nest("variable of an include")})
    add("raw", "true", when=f"'{nest('condition')}' != ''", changed_when=f"'{nest('changed_when')}' == ''")
    add("raw", "true", environment={"X": nest("environment of a task")}, vars={"x": nest("variable of a task")})
    # Names
    tasks.append({"name": "Name {{ in_name }}", "ansible.builtin.raw": "true", "notify": "Handle {{ in_handler }}"})
    add("raw", "true", delegate_to=nest("delegate", "me:{}@h3"), vars=here)
    # Events
    add(
        "flowaudit.ops.trail_event",
        {
            "name": nest("event's name", f"{MARKER} at https://me:{{}}@example.org"),
            "data": {
                "shown": MARKER,
                "api_token": nest("event: token"),
                "Password": nest("event: password"),
                "url": nest("event: URL", "https://me:{}@example.org/"),
                "nested": {"client_secret": nest("event: nested")},
                "list": [nest("event: list", "password={}")],
                "header": nest("event: header", "Authorization: Bearer {}"),
                "key": nest("event: key", "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----"),
                "github": nest("event: pattern", "ghp_{}"),
                "hash": nest("event: hash", "$6$salt${}"),
                "option": nest("event: option", "run --db-password {}"),
                "several": nest("event: lines", "all is well\npassword:\n  {}"),
            },
        },
        **wrong,
    )
    control.write("included.yml", [{"name": "Included {{ passed }}", "ansible.builtin.debug": {"msg": "{{ passed }}"}}])
    control.write(
        "play.yml",
        yaml.safe_dump(
            [
                {
                    "name": "Play {{ in_play_name }}",
                    "hosts": "h1",
                    "gather_facts": False,
                    "vars_files": ["vars.yml"],
                    "vars_prompt": [{"name": "asked", "prompt": nest("prompt"), "default": nest("default")}],
                    "vars": {
                        "from_vault": Vaulted(vaulted(control, nest("vault"))),
                        "in_play_name": nest("name of a play"),
                        "in_name": nest("name of a task"),
                        "in_handler": nest("name of a handler"),
                        "in_template": nest("template"),
                        "in_kept_diff": nest("kept diff: password"),
                        "in_kept_url": nest("kept diff: URL"),
                    },
                    "environment": {"PLAY": nest("environment of a play")},
                    "tasks": tasks,
                    "handlers": [{"name": "Handle {{ in_handler }}", "ansible.builtin.raw": "true"}],
                }
            ],
            sort_keys=False,
        ),
    )


@pytest.fixture
def worm(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    made = tmp_path / "worm"
    made.mkdir(mode=0o700)
    yield made
    # What root has written there is immutable.
    subprocess.run(["chattr", "-R", "-i", "-a", made], check=False, capture_output=True)


@pytest.fixture
def syslog(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        server.setblocking(False)
        yield server


def received(server: socket.socket) -> bytes:
    messages = []
    while True:
        try:
            messages.append(server.recv(65536))
        except BlockingIOError:
            return b"\n".join(messages)


def words(nest: Nest) -> list[str]:
    return [
        "play.yml", "--diff", "-vv", "--vault-password-file", "vault.pass",
        "-e", f"extra={nest('extra variable')}", "-e", f'{{"more": {{"x": "{nest("extra variable, nested")}"}}}}',
        "-e", f"change_id={nest('change_id', '{}!')}",
    ]  # fmt: skip


def test_no_secret_is_in_anything_that_the_trail_writes(
    control: Control, nest: Nest, syslog: socket.socket, worm: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plant(control, nest)
    settings = {
        "FLOWAUDIT_TRAIL_SYSLOG": f"unix:{tmp_path}/log",
        "FLOWAUDIT_TRAIL_WORM_DIRECTORY": str(worm),
        "FLOWAUDIT_TRAIL_KEEP_FIELDS": "ansible.legacy.leaky:path,leaky:path,ansible.builtin.leaky:path",
        "IN_THE_ENVIRONMENT": nest("environment"),
        "API_TOKEN": nest("environment: token"),
        "ANSIBLE_CALLBACK_PLUGINS": str(control.directory / "callback_plugins"),
        "ANSIBLE_STDOUT_CALLBACK": "silent",
    }
    command = words(nest)
    # Held open, so that the write-ahead log is still there in the end.
    reader = sqlite.SqliteLog.open_or_create(home.Home(control.trail), "0.2.0", "test")
    output = control.run(*command, env=settings, stdin=subprocess.DEVNULL).stdout

    assert control.verified().whole
    assert control.entries()[-2]["status"] == "ok" and control.entries()[-1]["type"] == "anchor"
    assert (control.trail / "trail.sqlite3-wal").stat().st_size > 0
    files = {path: path.read_bytes() for top in (control.trail, worm) for path in top.rglob("*") if path.is_file()}
    # A row may be in several pages of the file, so the values are looked at too.
    values = reader.ask("SELECT CAST(line AS BLOB) FROM entries UNION ALL SELECT value FROM openings")
    reader.close()
    everything = {str(path): data for path, data in files.items()} | {
        "values": b"\n".join(value for (value,) in values),
        "syslog": received(syslog),
    }
    assert everything["syslog"].count(b"/trail/") >= 1 and any("worm" in name for name in everything)
    assert (
        MARKER.encode() in everything["values"]
        and MARKER.encode() in everything[str(control.trail / "trail.sqlite3-wal")]
    )
    assert {name: found for name, data in everything.items() if (found := nest.found_in(data))} == {}

    # Ansible's own output is silenced but for some chatter, so what is on the screen comes from us.
    assert nest.found_in(output.encode()) <= {"name of a handler"}, output

    # What is handed to others
    control.run(
        "localhost", "-m", "flowaudit.ops.trail_export", "-a", f"dest={tmp_path}/package directory={control.trail}",
        tool="ansible", env={"ANSIBLE_CALLBACKS_ENABLED": "other"},
    )  # fmt: skip
    package = b"\n".join(path.read_bytes() for path in (tmp_path / "package").rglob("*") if path.is_file())
    assert MARKER.encode() in package and nest.found_in(package) == set()

    # The kept diff says what is no secret.
    assert b"shown: yes" in everything["values"] and b"[withheld]" in everything["values"]
