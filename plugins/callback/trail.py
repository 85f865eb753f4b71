# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck

DOCUMENTATION = r"""
name: trail
type: notification
short_description: Record every run in a log that nobody can alter unnoticed
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Records who ran what, from which commit, on which hosts, for which change, and what came of it, as entries of a
    signed Merkle log. It works with C(ansible-playbook), C(ansible) and C(ansible-console).
  - The run's start is on the disk before the first host is touched. When the trail cannot be written, the run does not
    begin; when it fails later, the run stops before the next task. An inventory that would rather go on says
    C(trail_on_failure=continue) in the variables of its group C(all), and that choice is recorded too.
  - Arguments, output and messages are not recorded. Of a result, a few fields by module are kept, see
    L(docs/trail.md,https://github.com/flowaudit/ops/blob/main/docs/trail.md).
requirements:
  - cryptography
  - psycopg (only with O(database))
options:
  directory:
    description:
      - Where the log and its signing key are. Made with the first run, for its user alone.
    type: path
    default: ~/.local/state/flowaudit/trail
    env:
      - name: FLOWAUDIT_TRAIL_DIRECTORY
    ini:
      - section: flowaudit_trail
        key: directory
  name:
    description:
      - What the log's name begins with; the control node's name when not given. It matters when the log is made only.
    type: str
    default: ""
    env:
      - name: FLOWAUDIT_TRAIL_NAME
    ini:
      - section: flowaudit_trail
        key: name
  accept_ephemeral:
    description:
      - Record also where the log will be gone soon, in a container or a CI job, and is shipped nowhere.
    type: bool
    default: false
    env:
      - name: FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL
    ini:
      - section: flowaudit_trail
        key: accept_ephemeral
  keep_diff:
    description:
      - Modules, by their full names, whose diffs hold no secrets and are kept as text. Of the others the number of
        lines is kept. A single task says so by its variable C(trail_keep_diff=true).
    type: list
    elements: str
    default: []
    env:
      - name: FLOWAUDIT_TRAIL_KEEP_DIFF
    ini:
      - section: flowaudit_trail
        key: keep_diff
  keep_fields:
    description:
      - More fields of results that hold no secrets and are kept, each as V(namespace.collection.module:field).
    type: list
    elements: str
    default: []
    env:
      - name: FLOWAUDIT_TRAIL_KEEP_FIELDS
    ini:
      - section: flowaudit_trail
        key: keep_fields
  database:
    description:
      - Connection string of the shared PostgreSQL database (role P(flowaudit.ops.trail_database#role)), without a
        password; that belongs into C(~/.pgpass) or a service file.
    type: str
    default: ""
    env:
      - name: FLOWAUDIT_TRAIL_DATABASE
    ini:
      - section: flowaudit_trail
        key: database
  syslog:
    description:
      - Syslog server that checkpoints go to, V(tls://host:6514), V(tcp://host:601), V(udp://host:514) or
        V(unix:/dev/log).
    type: str
    default: ""
    env:
      - name: FLOWAUDIT_TRAIL_SYSLOG
    ini:
      - section: flowaudit_trail
        key: syslog
  syslog_ca:
    description:
      - CA bundle that the syslog server's certificate is checked against; the system's when not given.
    type: path
    env:
      - name: FLOWAUDIT_TRAIL_SYSLOG_CA
    ini:
      - section: flowaudit_trail
        key: syslog_ca
  syslog_certificate:
    description:
      - Certificate (PEM) that this node shows to a syslog server that wants to know who sends.
    type: path
    env:
      - name: FLOWAUDIT_TRAIL_SYSLOG_CERTIFICATE
    ini:
      - section: flowaudit_trail
        key: syslog_certificate
  syslog_key:
    description:
      - Private key (PEM) of O(syslog_certificate), when it is not in the same file.
    type: path
    env:
      - name: FLOWAUDIT_TRAIL_SYSLOG_KEY
    ini:
      - section: flowaudit_trail
        key: syslog_key
  worm_directory:
    description:
      - Directory that each checkpoint is put into as a new file, on storage where files cannot be changed.
    type: path
    env:
      - name: FLOWAUDIT_TRAIL_WORM_DIRECTORY
    ini:
      - section: flowaudit_trail
        key: worm_directory
  timestamp_url:
    description:
      - Time-stamping authority (RFC 3161) that signs each checkpoint with the time.
    type: str
    default: ""
    env:
      - name: FLOWAUDIT_TRAIL_TIMESTAMP_URL
    ini:
      - section: flowaudit_trail
        key: timestamp_url
  timestamp_ca:
    description:
      - CA certificate of the time-stamping authority.
    type: path
    env:
      - name: FLOWAUDIT_TRAIL_TIMESTAMP_CA
    ini:
      - section: flowaudit_trail
        key: timestamp_ca
  custody:
    description:
      - Socket of this control node's custody (role P(flowaudit.ops.control_node#role)). Another user keeps the trail,
        signs it and tells the anchors then; O(directory), O(database) and the anchors' options are that user's matter.
    type: path
    version_added: 0.4.0
    env:
      - name: FLOWAUDIT_TRAIL_CUSTODY
    ini:
      - section: flowaudit_trail
        key: custody
  anchor_every:
    description:
      - Seconds between two anchors while a run lasts; there is one at its end in any case.
    type: int
    default: 3600
    env:
      - name: FLOWAUDIT_TRAIL_ANCHOR_EVERY
    ini:
      - section: flowaudit_trail
        key: anchor_every
notes:
  - The database's own time-outs and the anchors' add at most 20 seconds to the end of a run when nobody answers.
seealso:
  - module: flowaudit.ops.trail_verify
  - module: flowaudit.ops.trail_export
  - module: flowaudit.ops.trail_info
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = flowaudit.ops.trail
# bin_ansible_callbacks = true    ; for `ansible` and `ansible-console`
#
# [flowaudit_trail]
# directory = /var/lib/flowaudit/trail
# syslog = tls://siem.example.org:6514
"""

import atexit
import collections.abc
import contextlib
import functools
import os
import pathlib
import re
import signal
import sys
import typing as t

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible.utils.vars import load_extra_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ..module_utils.change import authorization
from ..module_utils.errors import FlowauditError
from ..module_utils.trail import anchors, entry, events, provenance, publish, redact
from ..module_utils.trail.recorder import Recorder, Settings
from ..module_utils.trail.redact import exact

_CONSOLE = "ansible-console"
_STOPS = " Nothing is done that is not recorded, so the run stops here."
_GOES_ON = " The inventory says to go on (trail_on_failure)."
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHANGE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Process:
    """What this process records; ansible-console makes callbacks anew for each command, the run is one."""

    recorder: t.ClassVar[Recorder | None] = None
    pid: t.ClassVar[int] = 0
    command: t.ClassVar[str] = ""
    playbooks_left: t.ClassVar[int] = 0
    failure: t.ClassVar[str] = ""  # why the run's beginning could not be recorded
    hosts: t.ClassVar[t.Any] = None  # the inventory


Hook = t.TypeVar("Hook", bound=t.Callable[..., None])


def _gate(hook: Hook) -> Hook:
    """A hook after which something happens to hosts; what fails in it stops the run, where Ansible would only warn.

    Unless the inventory chose to go on.
    """

    @functools.wraps(hook)
    def gate(self: CallbackModule, *args: t.Any, **kwargs: t.Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            fault = f"The run cannot be recorded: {_fault(hook, error)}"
            recorder = _Process.recorder
            if recorder is None or not recorder.goes_on:
                self._refuse(fault)
            recorder.missed(fault)

    return t.cast(Hook, gate)


def _record(hook: Hook) -> Hook:
    """A hook that tells what has happened; what fails in it stops the run at the next gate.

    Not at once: some are called by another thread of Ansible, where whatever is raised hangs the run.
    """

    @functools.wraps(hook)
    def record(self: CallbackModule, *args: t.Any, **kwargs: t.Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self._recorder().missed(f"Something that has happened was not recorded: {_fault(hook, error)}")

    return t.cast(Hook, record)


def _fault(hook: t.Callable[..., None], error: Exception) -> str:
    # Without its text, which may quote anything.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}" if place else "?"
    return f"{type(error).__name__} in {hook.__name__} ({where}); this is a fault of flowaudit.ops.trail."


class CallbackModule(CallbackBase):
    """Hooks only: what Ansible hands over becomes an event, and the trail keeps it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "flowaudit.ops.trail"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._play = ""
        self._base = ""
        self._check = False

    # ── Start and end ────────────────────────────────────────────────────────────────────────────────────────────────

    def set_options(self, *args: t.Any, **kwargs: t.Any) -> None:
        # Ansible would warn and go on without this plugin.
        try:
            super().set_options(*args, **kwargs)
            if _Process.recorder is None:
                _Process.recorder = Recorder(self._settings())
                _Process.pid = os.getpid()
                atexit.register(_at_exit, self._display)
            # Each command of ansible-console sets Ansible's own handlers again.
            _catch_signals()
        except Exception as error:
            self._refuse(f"The trail's settings cannot be used: {error}")

    @_gate
    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        written = exact(playbook._file_name or "")
        directory = exact(playbook._basedir or ".")
        self._base = str(provenance.top_of(directory) or os.path.realpath(directory))
        if self._recorder().begun:
            self._recorder().playbook_started(self._playbook(written))
            return
        extra_vars = load_extra_vars(playbook._loader)
        self._begin(self._command(written), extra_vars, [("playbook", playbook._basedir or ".")])

    @_gate
    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        manager = play.get_variable_manager()
        if not self._recorder().begun:  # ansible-console
            self._begin({"command": _CONSOLE}, manager.extra_vars, [])
        recorder = self._recorder()
        recorder.goes_on = self._goes_on(manager)
        self._demand_beginning()
        _Process.hosts = manager._inventory
        self._play = exact(play._uuid)
        hosts = [exact(host) for host in manager._inventory.get_hosts(play.hosts, order=play.order)]
        fields: dict[str, t.Any] = {"play": self._play, "name": events.name(_written(play, "name")), "hosts": hosts}
        if recorder.goes_on:
            fields["on_failure"] = "continue"
        recorder.note(entry.PLAY_START, fields)
        self._proceed()

    @_gate
    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        summary = {}
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            summary[exact(host)] = {key: int(value) for key, value in counts.items()}
        _Process.playbooks_left -= 1
        if _Process.playbooks_left > 0:
            self._recorder().playbook_ended(summary)
            return
        try:
            warnings = self._recorder().end(summary)
        except FlowauditError as error:
            if not self._recorder().goes_on:
                self._refuse(str(error))
            warnings = [str(error)]
        self._warn(warnings)

    # ── Tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @_gate
    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._task(task, False)

    @_gate
    def v2_playbook_on_handler_task_start(self, task: t.Any) -> None:
        self._task(task, True)

    @_record
    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        self._recorder().dispatched(exact(task._uuid), exact(host.get_name()))

    @_record
    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._result(result, "ok")
        if result.task.resolved_action == "flowaudit.ops.trail_event" and not _hidden(result):
            self._events(result)

    @_record
    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._result(result, "failed", ignored=bool(ignore_errors))

    @_record
    def v2_runner_on_skipped(self, result: t.Any) -> None:
        self._result(result, "skipped")

    @_record
    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._result(result, "unreachable")

    # These come from another thread of Ansible.

    @_record
    def v2_runner_item_on_ok(self, result: t.Any) -> None:
        self._item(result, "ok")

    @_record
    def v2_runner_item_on_failed(self, result: t.Any) -> None:
        self._item(result, "failed")

    @_record
    def v2_runner_item_on_skipped(self, result: t.Any) -> None:
        self._item(result, "skipped")

    @_record
    def v2_runner_retry(self, result: t.Any) -> None:
        self._mention(entry.TASK_RETRY, result)

    @_record
    def v2_runner_on_async_poll(self, result: t.Any) -> None:
        self._mention(entry.TASK_ASYNC, result, "started")

    @_record
    def v2_runner_on_async_ok(self, result: t.Any) -> None:
        self._mention(entry.TASK_ASYNC, result, "ok")

    @_record
    def v2_runner_on_async_failed(self, result: t.Any) -> None:
        self._mention(entry.TASK_ASYNC, result, "failed")

    # ── What else happens ────────────────────────────────────────────────────────────────────────────────────────────

    @_record
    def v2_playbook_on_include(self, included_file: t.Any) -> None:
        hosts = [exact(host.get_name()) for host in included_file._hosts]
        file = events.source(exact(included_file._filename), self._base)
        self._recorder().note(entry.INCLUDE, {"file": redact.redacted(file), "hosts": hosts})

    @_record
    def v2_playbook_on_notify(self, handler: t.Any, host: t.Any) -> None:
        fields = {"task": exact(handler._uuid), "name": _task_name(handler), "host": exact(host.get_name())}
        self._recorder().note(entry.NOTIFIED, fields)

    @_record
    def v2_playbook_on_vars_prompt(self, varname: str, *args: t.Any, **kwargs: t.Any) -> None:
        self._recorder().note(entry.PROMPT, {"name": redact.plain(varname)})

    @_record
    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._recorder().note(entry.NO_HOSTS, {"play": self._play, "reason": "none matched"})

    @_record
    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._recorder().note(entry.NO_HOSTS, {"play": self._play, "reason": "none remaining"})

    # ── From Ansible's objects to ours ───────────────────────────────────────────────────────────────────────────────

    def _settings(self) -> Settings:
        fields: dict[str, list[str]] = {}
        for item in self.get_option("keep_fields"):
            module, separator, field = item.partition(":")
            if not separator:
                raise FlowauditError(f"keep_fields has {item!r}, which is not namespace.collection.module:field.")
            fields.setdefault(module, []).append(field)
        directory = self.get_option("directory")
        told = anchors.Settings(
            syslog=self.get_option("syslog"),
            syslog_ca=self.get_option("syslog_ca") or "",
            syslog_certificate=self.get_option("syslog_certificate") or "",
            syslog_key=self.get_option("syslog_key") or "",
            worm_directory=self.get_option("worm_directory") or "",
            timestamp_url=self.get_option("timestamp_url"),
            timestamp_ca=self.get_option("timestamp_ca") or "",
            timestamp_directory=os.path.join(directory, "timestamps"),
        )
        custody = self.get_option("custody") or ""
        keepers = anchors.keepers(told)  # refuses what makes no sense before anything is done
        if custody and (keepers or self.get_option("database")):
            raise FlowauditError("custody tells the anchors and the database itself; leave their settings out here.")
        return Settings(
            directory=directory,
            version=provenance.collection_version(),
            name=self.get_option("name"),
            accept_ephemeral=self.get_option("accept_ephemeral"),
            policy=redact.Policy(fields, frozenset(self.get_option("keep_diff"))),
            publishing=publish.Publishing(
                database=self.get_option("database"),
                anchors=told,
                every=self.get_option("anchor_every"),
            ),
            custody=custody,
        )

    def _begin(
        self, fields: dict[str, t.Any], extra_vars: collections.abc.Mapping[str, t.Any], places: list[tuple[str, str]]
    ) -> None:
        _Process.command = fields["command"]
        arguments = context.CLIARGS
        sources = [exact(source) for source in arguments.get("inventory") or ()]
        places += [("inventory", source) for source in sources if os.path.exists(source)]
        repositories = provenance.Repositories([*places, ("collection", os.path.dirname(__file__))])
        self._check = bool(arguments.get("check"))
        fields |= {
            "inventory": [self._inventory(source) for source in sources],
            "limit": redact.redacted(exact(arguments.get("subset") or "")),
            "tags": [exact(tag) for tag in arguments.get("tags") or () if tag != "all"],
            "skip_tags": [exact(tag) for tag in arguments.get("skip_tags") or ()],
            "check": self._check,
            "diff": bool(arguments.get("diff")),
            "extra_vars": sorted(redact.plain(key) for key in extra_vars),
            "ansible": ansible_version,
            "collection": provenance.collection_version(),
            "python": ".".join(str(part) for part in sys.version_info[:3]),
        }
        change_id = extra_vars.get("change_id")
        change_id = exact(change_id) if isinstance(change_id, str) else ""
        if not _CHANGE_ID.fullmatch(change_id):
            change_id = ""
        try:
            fields["repositories"] = repositories.answers()
            closed = self._recorder().begin(fields, change_id, authorization.granted())
        except FlowauditError as error:
            # The inventory may have chosen to go on, which is known when the play starts.
            _Process.failure = str(error)
            return
        self._warn(
            [
                f"The run {run} was killed and is recorded as aborted; what it had begun on the hosts may have gone on."
                for run in closed
            ]
        )

    def _command(self, written: str) -> dict[str, t.Any]:
        arguments = context.CLIARGS
        if written == "__adhoc_playbook__":
            module = redact.plain(exact(arguments.get("module_name") or ""))
            return {
                "command": "ansible",
                "module": module,
                "pattern": redact.redacted(exact(arguments.get("args") or "")),
            }
        playbooks = arguments.get("args") or ()
        _Process.playbooks_left = len(playbooks)
        return {"command": "ansible-playbook", "playbook": [self._playbook(exact(name)) for name in playbooks]}

    def _playbook(self, written: str) -> str:
        return redact.redacted(
            events.source(os.path.abspath(written), self._base) if os.path.exists(written) else written
        )

    @staticmethod
    def _inventory(written: str) -> str:
        if not os.path.exists(written):
            return redact.redacted(written)  # a list of hosts
        top = provenance.top_of(written)
        path = pathlib.Path(written).resolve()
        return redact.redacted(exact(path.relative_to(top.parent)) if top else path.name)

    def _goes_on(self, manager: t.Any) -> bool:
        """Whether the inventory's group ``all`` says so; hosts, plays and the command line have no say in it."""
        everybody = manager._inventory.groups["all"]
        sources = manager._inventory._sources
        variables = get_vars_from_inventory_sources(manager._loader, sources, [everybody], "all")
        choice = {**everybody.get_vars(), **variables}.get("trail_on_failure", "stop")
        if choice not in ("stop", "continue"):
            self._refuse(f"The inventory's trail_on_failure is stop or continue, not {redact.plain(choice)}.")
        return bool(choice == "continue")

    def _task(self, task: t.Any, handler: bool) -> None:
        fields = {
            "play": self._play,
            "name": _task_name(task),
            "src": self._source(task),
            "fqcn": exact(task.resolved_action or task.action),
            "handler": handler,
        }
        self._recorder().task_started(exact(task._uuid), fields)
        self._proceed()

    def _result(self, result: t.Any, status: t.Any, ignored: bool = False) -> None:
        task, host = result.task, exact(result.host.get_name())
        check = task.check_mode
        # Literal only: what is templated into a variable is not known here.
        keep_diff = task.vars.get("trail_keep_diff") is True

        def made(duration: float, items: events.Items) -> events.Result:
            return events.Result(
                task=exact(task._uuid),
                host=host,
                status=status,
                fqcn=exact(task.resolved_action or task.action),
                src=self._source(task),
                result=result.result,
                duration=duration,
                changed=bool(result.is_changed()),
                check=check if isinstance(check, bool) else self._check,
                no_log=_hidden(result),
                ignored=ignored,
                # Of a loop the task's own field is what is written, not what came of it.
                delegates=items.delegates if items.counts else [self._delegate(result)] if task.delegate_to else [],
                items=items.counts,
                keep_diff=keep_diff,
            )

        self._recorder().result(exact(task._uuid), host, made)

    def _events(self, result: t.Any) -> None:
        items = result.result.get("results")
        for item in items if isinstance(items, list) else [result.result]:
            if isinstance(item, collections.abc.Mapping) and "trail_event" in item:
                fields = events.event(item["trail_event"])
                self._recorder().note(entry.EVENT, {"host": exact(result.host.get_name()), **fields})

    def _item(self, result: t.Any, status: events.Status) -> None:
        task, host = exact(result.task._uuid), exact(result.host.get_name())
        delegate = self._delegate(result) if result.task.delegate_to else ""
        self._recorder().item(task, host, status, bool(result.is_changed()), delegate)

    @staticmethod
    def _delegate(result: t.Any) -> str:
        """Who did it instead; where all is hidden, only a name that is known anyway."""
        name = events.host(result.task.delegate_to)
        known = _Process.hosts is not None and _Process.hosts.get_host(name) is not None
        return name if known or not _hidden(result) else redact.WITHHELD

    def _mention(self, kind: str, result: t.Any, status: str = "") -> None:
        fields: dict[str, t.Any] = {}
        attempts = result.result.get("attempts")
        if type(attempts) is int:
            fields["attempts"] = attempts
        if status:
            fields["status"] = status
        self._recorder().mention(kind, exact(result.task._uuid), exact(result.host.get_name()), fields)

    def _source(self, task: t.Any) -> str:
        return _source(exact(task.get_path() or ""), self._base)

    # ── Whether it may go on ─────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _recorder() -> Recorder:
        return t.cast(Recorder, _Process.recorder)

    def _proceed(self) -> None:
        """Stop the run when what happened is not on the disk: an exception would only be a warning."""
        recorder = self._recorder()
        try:
            warnings = recorder.proceed()
        except FlowauditError as error:
            self._refuse(f"{error}{_STOPS}")
        self._warn([f"{warning}{_GOES_ON}" for warning in warnings])

    def _demand_beginning(self) -> None:
        """Stop the run when its beginning could not be recorded, unless the inventory says to go on."""
        failure, _Process.failure = _Process.failure, ""
        if not failure:
            return
        if not self._recorder().goes_on:
            self._refuse(f"{failure}{_STOPS}")
        self._warn([f"{failure}{_GOES_ON}"])
        self._recorder().go_on()

    def _refuse(self, message: str) -> t.NoReturn:
        # Also when nobody can be told, because the other end of the pipe is gone.
        with contextlib.suppress(Exception):
            self._display.error(redact.redacted(message, prose=True), wrap_text=False)
        # No exception, which Ansible would take for a warning.
        raise SystemExit(1)

    def _warn(self, messages: list[str]) -> None:
        _warn(self._display, messages)


class _Handler:
    """Records that a signal ends the run, then does what was done before."""

    def __init__(self, earlier: t.Any) -> None:
        self._earlier = earlier

    def __call__(self, caught: int, frame: t.Any) -> None:
        recorder = _Process.recorder
        # A worker has inherited this. And ansible-console lives on: there the interrupt ends a command.
        lives_on = caught == signal.SIGINT and _Process.command == _CONSOLE
        if recorder is not None and os.getpid() == _Process.pid and not lives_on:
            # Whoever sends a signal wants an end: a trail that cannot be written does not change that.
            with contextlib.suppress(FlowauditError):
                recorder.abort("signal", {"signal": signal.Signals(caught).name}, publish=False)
        if callable(self._earlier):
            self._earlier(caught, frame)
        else:
            signal.signal(caught, signal.SIG_DFL)
            os.kill(os.getpid(), caught)


def _catch_signals() -> None:
    for number in _SIGNALS:
        earlier = signal.getsignal(number)
        # What is ignored (nohup) ends nothing.
        if earlier != signal.SIG_IGN and not isinstance(earlier, _Handler):
            signal.signal(number, _Handler(earlier))


def _at_exit(display: t.Any) -> None:
    """The end of a run that had no other: an error of Ansible, or ansible-console."""
    recorder = _Process.recorder
    if recorder is None or os.getpid() != _Process.pid:
        return
    try:
        warnings = recorder.leave(own_end=_Process.command == _CONSOLE)
    except FlowauditError as error:
        warnings = [str(error)]
    _warn(display, warnings)
    recorder.close()


def _warn(display: t.Any, messages: list[str]) -> None:
    for message in messages:
        with contextlib.suppress(Exception):
            display.warning(redact.redacted(message, prose=True))


def _hidden(result: t.Any) -> bool:
    """Whether anything about the result is to be hidden; a template that was not resolved counts as yes."""
    no_log = result.task.no_log
    hidden = "censored" in result.result or bool(result.result.get("_ansible_no_log"))
    return hidden or (no_log is not False and no_log is not None)


def _written(thing: t.Any, key: str) -> t.Any:
    """A field as it stands in the playbook, before anything was templated into it."""
    source = thing.get_ds()
    return source.get(key) if isinstance(source, dict) else None


@functools.lru_cache(maxsize=256)  # each host's result asks for its task's again
def _source(path: str, base: str) -> str:
    return redact.redacted(events.source(path, base))


def _task_name(task: t.Any) -> str:
    name = events.name(_written(task, "name"))
    role = events.name(exact(task._role.get_name())) if task._role else ""
    return " : ".join(part for part in (role, name or exact(task.action)) if part)
