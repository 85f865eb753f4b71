#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_service_wait
short_description: Wait until all of a Swarm service runs an image
version_added: 0.4.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Waits on a manager until every task of a service runs the image and is healthy, and the update has come to its end,
    its monitoring included.
  - Fails as soon as the Swarm gives the update up, has taken it back, or the service has another image, with what the
    tasks had to say.
options:
  name:
    description:
      - The service.
    type: str
    required: true
  image:
    description:
      - The image it has to run, as a reference with digest.
    type: str
    required: true
  updated:
    description:
      - Whether the service was updated just now. If the Swarm has taken that back, it is a failure then, even where the
        image is the same.
    type: bool
    default: true
  wait:
    description:
      - Seconds until it must.
    type: float
    default: 900
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
seealso:
  - module: community.docker.docker_swarm_service
"""

EXAMPLES = r"""
- name: Update the service
  community.docker.docker_swarm_service:
    name: api
    image: "{{ image }}"
    update_config: {order: start-first, failure_action: rollback}

- name: Wait until all of it runs the image
  flowaudit.ops.swarm_service_wait:
    name: api
    image: "{{ image }}"
"""

RETURN = r"""
nodes:
  description: The nodes on which it runs, each once.
  returned: success
  type: list
  elements: str
  sample: [swarm1, swarm2]
seconds:
  description: How long that took.
  returned: success
  type: float
  sample: 12.3
"""

import json
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.errors import FlowauditError
from ..module_utils.release import swarm

_PAUSE = 0.5  # seconds


def run(
    ask: t.Callable[[list[str]], tuple[int, str, str]], name: str, image: str, wait: float, updated: bool = True
) -> dict[str, t.Any]:
    """Wait; ``ask`` runs a command of docker's.

    Raises:
        FlowauditError: the service does not come to run the image.
    """
    begun = time.monotonic()
    while True:
        said, tasks = "", []
        try:
            service = json.loads(_asked(ask, ["service", "inspect", name]))[0]
            lines = _asked(ask, ["service", "ps", "--no-trunc", "--format", "{{json .}}", name]).splitlines()
            tasks = [json.loads(line) for line in lines]
            found = swarm.verdict(service, tasks, image, updated)
        except FlowauditError as error:
            # Managers may be electing a leader; that takes seconds.
            found, said = swarm.Verdict(False), str(error)
        seconds = time.monotonic() - begun
        if found.done:
            return {
                "nodes": sorted({task["Node"] for task in tasks if task["DesiredState"] == "Running"}),
                "seconds": seconds,
            }
        if found.failure or seconds > wait:
            why = found.failure or said or f"It does not after {wait:g} seconds."
            raise FlowauditError(" ".join([f"{name} does not run {image}.", why, *swarm.troubles(tasks, image)[:3]]))
        time.sleep(_PAUSE)


def _asked(ask: t.Callable[[list[str]], tuple[int, str, str]], words: list[str]) -> str:
    status, output, errors = ask(["docker", *words])
    if status != 0:
        raise FlowauditError(f"docker {' '.join(words[:2])}: {errors.strip() or output.strip()}")
    return output


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "updated": {"type": "bool", "default": True},
            "wait": {"type": "float", "default": 900},
        },
        supports_check_mode=True,
    )
    name, image, wait, updated = (module.params[key] for key in ("name", "image", "wait", "updated"))
    try:
        module.exit_json(changed=False, **run(module.run_command, name, image, wait, updated))
    except FlowauditError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
