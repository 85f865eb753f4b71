#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Change the release a host runs, without a failed request
version_added: 0.1.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Brings a release up in the colour that does not serve, proves that it works, sends users to it, watches it, and
    hands the background work over. What served before goes on until then, and comes back by itself when it must.
  - All of it is done under one lock, which the kernel lets go of when the process is gone. Each step is noted before it
    begins; after a kill, the next run goes on from there or takes it back.
  - The role P(flowaudit.ops.app_release#role) fills in the options.
options:
  state:
    description:
      - V(deployed) brings O(release_id) to serve.
      - V(rolled_back) brings an earlier release back, from this host's own records and images. A deployment that was
        interrupted is taken back first, and nothing else is done when no release is named.
      - V(recorded) records the release that provisioning brought.
    type: str
    choices: [deployed, rolled_back, recorded]
    default: deployed
  release_id:
    description:
      - The release. Required unless O(state=rolled_back), where it is the one deployed before the current one.
    type: str
    default: ""
  colour:
    description:
      - Colour O(compose_file) was made for, RV(flowaudit.ops.release_info#module:spare).
    type: str
    choices: [blue, green]
    required: true
  compose_file:
    description:
      - Text of that colour's Compose file. Required unless O(state=recorded).
    type: str
    default: ""
  images:
    description:
      - Image name to reference with digest.
      - With O(state=rolled_back), what the images lock has for the release; refused when this host's record differs.
    type: dict
    default: {}
  migrations:
    description:
      - Every migration in the images with its class (V(none), V(expand), V(breaking), V(contract)), oldest first, such
        as V(0001=none,0002=expand). Only where the images have no label C(ops.flowaudit.migrations).
    type: str
  accept_interruption:
    description:
      - Whether users may meet the maintenance page, where two releases cannot work on one schema.
    type: bool
    default: false
  actor:
    description:
      - Who is at it, for the record.
    type: str
    default: ""
  change_id:
    description:
      - The change that lets it, for the record.
    type: str
    default: ""
  application:
    description:
      - What there is to run.
    type: dict
    required: true
    suboptions:
      public:
        description:
          - Service the edge routes to, to its port in the container.
        type: dict
        required: true
      background:
        description:
          - Services of which one runs at a time.
        type: list
        elements: str
        default: []
      migration:
        description:
          - Service whose image brings the database to a schema.
        type: str
        required: true
      upgrade:
        description:
          - Its command that runs all migrations.
        type: list
        elements: str
        required: true
      downgrade:
        description:
          - Its command that takes migrations back, without the revision, which becomes its last argument.
        type: list
        elements: str
        required: true
      schema:
        description:
          - Its command that prints the database's revision.
        type: list
        elements: str
        required: true
      restore_point:
        description:
          - Program on the host that makes a restore point in PostgreSQL; C({name}) in it is replaced. Empty for none.
        type: list
        elements: str
        default: []
  host:
    description:
      - Where things are on the host.
    type: dict
    required: true
    suboptions:
      state_directory:
        description:
          - Directory of records, journal and lock.
        type: path
        default: /var/lib/flowaudit
      project:
        description:
          - Stem of the Compose projects' names.
        type: str
        required: true
      project_directory:
        description:
          - Directory that holds a directory with a Compose file for each project.
        type: path
        required: true
      switch_file:
        description:
          - Traefik's file that names the colour that serves.
        type: path
        required: true
      access_log:
        description:
          - Traefik's access log, in JSON; empty to watch no errors.
        type: path
        default: ""
      edge_network:
        description:
          - Network on which a colour's services are asked directly.
        type: str
        required: true
      incident_directory:
        description:
          - Directory for the logs of releases that were taken back.
        type: path
        required: true
      engine_directory:
        description:
          - File system that holds the images.
        type: path
        default: /var/lib/docker
  terms:
    description:
      - How careful it is done; times in seconds, sizes in bytes.
    type: dict
    default: {}
    suboptions:
      wait:
        description:
          - Seconds for a colour to become healthy.
        type: float
        default: 300
      settle:
        description:
          - Seconds for which a new colour must stay healthy before users are sent to it. One that is gone back to has
            done so before.
        type: float
        default: 10
      watch:
        description:
          - Seconds for which errors and health are watched after the switch.
        type: float
        default: 30
      error_ratio:
        description:
          - By how much the share of answers with a status of 500 and above may rise.
        type: float
        default: 0.02
      errors_least:
        description:
          - Number of such answers below which their share says nothing.
        type: int
        default: 5
      warm:
        description:
          - Seconds for which the old colour is kept running.
        type: float
        default: 1800
      keep:
        description:
          - Releases whose records and images stay.
        type: int
        default: 5
      lock_wait:
        description:
          - Seconds to wait for another change of release to end.
        type: float
        default: 0
      pull:
        description:
          - Seconds to fetch an image.
        type: float
        default: 900
      migrate:
        description:
          - Seconds for the migrations.
        type: float
        default: 600
      grace:
        description:
          - Seconds for a service to finish what it has in hand.
        type: float
        default: 600
      free_disk:
        description:
          - Bytes that must be free on the disk.
        type: int
        default: 2147483648
      free_memory:
        description:
          - Bytes of memory that must be available.
        type: int
        default: 0
      accept:
        description:
          - States of health that are good enough.
        type: list
        elements: str
        choices: [healthy, degraded, unhealthy, unreachable]
        default: [healthy, degraded]
  tests:
    description:
      - How a release is looked at.
    type: dict
    required: true
    suboptions:
      health_path:
        description:
          - Path of the health document.
        type: str
        default: /api/health
      health_service:
        description:
          - Service that has it.
        type: str
        required: true
      direct:
        description:
          - Requests to the new colour's services before users are sent to it.
        type: list
        elements: dict
        default: []
        suboptions: &check
          service:
            description:
              - Service to ask.
            type: str
          path:
            description:
              - Path and query.
            type: str
            required: true
          method:
            description:
              - Method.
            type: str
            default: GET
          headers:
            description:
              - Headers.
            type: dict
            default: {}
          secret_headers:
            description:
              - Headers whose values nobody may see, such as C(Authorization).
            type: dict
            default: {}
          body:
            description:
              - Body.
            type: str
            default: ""
          status:
            description:
              - Status the answer must have.
            type: int
            default: 200
          text:
            description:
              - Text the answer must contain.
            type: str
            default: ""
          seconds:
            description:
              - Seconds the answer may take.
            type: float
            default: 5
      edge:
        description:
          - Requests as users make them, after the switch; C(service) is not used.
        type: list
        elements: dict
        default: []
        suboptions: *check
      url:
        description:
          - Address of the portal as its users know it; empty to ask nothing through the edge.
        type: str
        default: ""
      address:
        description:
          - Address to connect to instead of the host of O(tests.url).
        type: str
        default: 127.0.0.1
      ca_path:
        description:
          - File with the certificates to trust, in PEM; the system's unless given.
        type: path
      command:
        description:
          - Program that must exit with 0 after the switch; it gets E(RELEASE_ID) and E(RELEASE_COLOUR).
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: partial
    details:
      - Says whether it would be refused and what would serve; what only images or database tell shows when it runs.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(state=rolled_back) and no O(release_id), each run goes one release further back.
seealso:
  - module: flowaudit.ops.release_info
"""

EXAMPLES = r"""
- name: Deploy a release
  ansible.builtin.include_role:
    name: flowaudit.ops.app_release
    tasks_from: deploy
  vars:
    app_release_id: 1.4.0
"""

RETURN = r"""
release_id:
  description: The release that serves.
  type: str
  returned: always
  sample: 1.1.0
colour:
  description: Its colour.
  type: str
  returned: always
  sample: green
previous_id:
  description: The release that served before.
  type: str
  returned: always
  sample: 1.0.0
images:
  description: Image name to reference with digest.
  type: dict
  returned: always
  sample: {"backend": "registry.example.org/flowaudit/backend@sha256:4f1…"}
git_commit:
  description: The application's commit, where its images name it.
  type: str
  returned: always
  sample: 3f0c2a9
schema_before:
  description: The database's revision before the release's migrations.
  type: str
  returned: always
  sample: "0001"
restore_point:
  description: PostgreSQL's restore point before them.
  type: str
  returned: always
  sample: pre-1.1.0-20260131T120000Z
migration_class:
  description: The worst class of the migrations on the way.
  type: str
  returned: always
  sample: expand
warm:
  description: Whether the colour's containers were already running.
  type: bool
  returned: always
  sample: false
confirmed_after:
  description: Seconds from the lock to the release's answer through the edge.
  type: float
  returned: always
  sample: 12.4
timings:
  description: Seconds of each step.
  type: dict
  returned: always
  sample: {"pull": 3.1, "start": 6.2, "flip": 0.01, "confirm": 0.2}
taken_back:
  description: A change of release that was begun and is taken back; empty for none.
  type: str
  returned: always
  sample: ""
resumed_at:
  description: The step of a killed run that this one went on from; empty for none.
  type: str
  returned: always
  sample: migrate
incident:
  description: Directory on the host with the logs of the release that was taken back; empty for none.
  type: str
  returned: always
  sample: /var/lib/flowaudit/incidents/2026-01-31T120000Z-release-1.1.0
rolled_back_commits:
  description: The application's commits after a rollback and before it.
  type: list
  elements: str
  returned: always
  sample: [3f0c2a9, 8d1e5b7]
pruned:
  description: Releases that were forgotten.
  type: list
  elements: str
  returned: always
  sample: ["0.9.0"]
"""

import dataclasses
import os
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.engine import Engine, Result
from ..module_utils.errors import FlowauditError
from ..module_utils.https import split, trust
from ..module_utils.release import manifest
from ..module_utils.release.records import Records
from ..module_utils.release.request import Application, Host, Outcome, Request, Terms, Tests
from ..module_utils.release.sequence import Change, now
from ..module_utils.release.smoke import Check, Place

ACTIONS = {"deployed": "deploy", "rolled_back": "rollback", "recorded": "record"}


def runner(module: AnsibleModule, lock: int) -> Callable[[Sequence[str], float], Result]:
    """Runs programs that are ended in time, and that keep the lock for as long as they run."""

    def run(command: Sequence[str], seconds: float) -> Result:
        limited = ["timeout", "--kill-after=10", str(int(seconds)), *command]
        return Result(*module.run_command(limited, pass_fds=[lock] if lock >= 0 else None))

    return run


def change(module: AnsibleModule, records: Records, lock: int) -> Change:
    parameters = module.params
    host = {name: value for name, value in parameters["host"].items() if name != "state_directory"}
    run = runner(module, lock)

    def test(command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
        result = run(["env", *(f"{name}={value}" for name, value in variables.items()), *command], 600)
        return result.status, result.said

    return Change(
        records=records,
        engine=Engine(run),
        host=Host(**host),
        application=Application(**parameters["application"]),
        terms=Terms(**parameters["terms"]),
        tests=tests(parameters["tests"]),
        run=test,
    )


def tests(values: Mapping[str, t.Any]) -> Tests:
    portal = None
    if values["url"]:
        url = split(values["url"])
        portal = Place(values["url"], values["address"], trust(url, values["ca_path"]))
    return Tests(
        health=values["health_path"],
        health_service=values["health_service"],
        direct=[Check.of(each) for each in values["direct"]],
        edge=[Check.of(each) for each in values["edge"]],
        portal=portal,
        command=values["command"],
    )


def request(parameters: Mapping[str, t.Any]) -> Request:
    migrations = None
    if parameters["migrations"]:
        migrations = manifest.migrations_of(
            {manifest.LABEL_MIGRATIONS: parameters["migrations"]}, parameters["release_id"]
        )
    return Request(
        action=ACTIONS[parameters["state"]],
        release_id=parameters["release_id"],
        colour=parameters["colour"],
        compose_file=parameters["compose_file"],
        images=parameters["images"],
        migrations=migrations,
        accept_interruption=parameters["accept_interruption"],
        actor=parameters["actor"],
        change_id=parameters["change_id"],
    )


def run(module: AnsibleModule) -> None:
    wanted = request(module.params)
    records = Records(module.params["host"]["state_directory"])
    before = records.current()
    if module.check_mode:
        foreseen = change(module, records, -1)
        outcome = foreseen.adopt(wanted, predict=True) if wanted.action == "record" else foreseen.predict(wanted)
    else:
        outcome = made(module, records, wanted)
    result = dataclasses.asdict(outcome)
    served = [
        f"{before.release_id} ({before.colour})\n" if before else "",
        f"{outcome.release_id} ({outcome.colour})\n",
    ]
    module.exit_json(**result, diff={"before": served[0], "after": served[1]})


def made(module: AnsibleModule, records: Records, wanted: Request) -> Outcome:
    os.makedirs(records.directory, mode=0o755, exist_ok=True)
    who = {
        "action": wanted.action,
        "release_id": wanted.release_id or "the previous release",
        "actor": wanted.actor or "somebody",
        "since": now(),
    }
    with records.lock(module.params["terms"]["lock_wait"], who) as lock:
        making = change(module, records, lock)
        try:
            return making.adopt(wanted) if wanted.action == "record" else making.make(wanted)
        except FlowauditError as error:
            module.fail_json(msg=str(error), **{**dataclasses.asdict(making.outcome), "changed": False})
            raise  # fail_json has ended it


def main() -> None:
    check = {
        "service": {"type": "str"},
        "path": {"type": "str", "required": True},
        "method": {"type": "str", "default": "GET"},
        "headers": {"type": "dict", "default": {}},
        "secret_headers": {"type": "dict", "default": {}, "no_log": True},
        "body": {"type": "str", "default": ""},
        "status": {"type": "int", "default": 200},
        "text": {"type": "str", "default": ""},
        "seconds": {"type": "float", "default": 5},
    }
    texts: dict[str, t.Any] = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(ACTIONS), "default": "deployed"},
            "release_id": {"type": "str", "default": ""},
            "colour": {"type": "str", "choices": list(manifest.COLOURS), "required": True},
            "compose_file": {"type": "str", "default": ""},
            "images": {"type": "dict", "default": {}},
            "migrations": {"type": "str"},
            "accept_interruption": {"type": "bool", "default": False},
            "actor": {"type": "str", "default": ""},
            "change_id": {"type": "str", "default": ""},
            "application": {
                "type": "dict",
                "required": True,
                "options": {
                    "public": {"type": "dict", "required": True},
                    "background": {**texts, "default": []},
                    "migration": {"type": "str", "required": True},
                    "upgrade": {**texts, "required": True},
                    "downgrade": {**texts, "required": True},
                    "schema": {**texts, "required": True},
                    "restore_point": {**texts, "default": []},
                },
            },
            "host": {
                "type": "dict",
                "required": True,
                "options": {
                    "state_directory": {"type": "path", "default": "/var/lib/flowaudit"},
                    "project": {"type": "str", "required": True},
                    "project_directory": {"type": "path", "required": True},
                    "switch_file": {"type": "path", "required": True},
                    "access_log": {"type": "path", "default": ""},
                    "edge_network": {"type": "str", "required": True},
                    "incident_directory": {"type": "path", "required": True},
                    "engine_directory": {"type": "path", "default": "/var/lib/docker"},
                },
            },
            "terms": {
                "type": "dict",
                "default": {},
                "apply_defaults": True,
                "options": {
                    "wait": {"type": "float", "default": 300},
                    "settle": {"type": "float", "default": 10},
                    "watch": {"type": "float", "default": 30},
                    "error_ratio": {"type": "float", "default": 0.02},
                    "errors_least": {"type": "int", "default": 5},
                    "warm": {"type": "float", "default": 1800},
                    "keep": {"type": "int", "default": 5},
                    "lock_wait": {"type": "float", "default": 0},
                    "pull": {"type": "float", "default": 900},
                    "migrate": {"type": "float", "default": 600},
                    "grace": {"type": "float", "default": 600},
                    "free_disk": {"type": "int", "default": 2147483648},
                    "free_memory": {"type": "int", "default": 0},
                    "accept": {
                        **texts,
                        "choices": ["healthy", "degraded", "unhealthy", "unreachable"],
                        "default": ["healthy", "degraded"],
                    },
                },
            },
            "tests": {
                "type": "dict",
                "required": True,
                "options": {
                    "health_path": {"type": "str", "default": "/api/health"},
                    "health_service": {"type": "str", "required": True},
                    "direct": {"type": "list", "elements": "dict", "default": [], "options": check},
                    "edge": {"type": "list", "elements": "dict", "default": [], "options": check},
                    "url": {"type": "str", "default": ""},
                    "address": {"type": "str", "default": "127.0.0.1"},
                    "ca_path": {"type": "path"},
                    "command": {**texts, "default": []},
                },
            },
        },
        supports_check_mode=True,
        # Else the host's log gets every option of every run.
        no_log=True,
    )
    try:
        run(module)
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
