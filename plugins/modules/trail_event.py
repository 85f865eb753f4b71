#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_event
short_description: Record a step in the trail
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Records what a playbook did or found, beside the results of its tasks that P(flowaudit.ops.trail#callback) records
    anyway. It runs on the control node; the host is what the event is about.
  - Fails when nothing is recorded, so that a runbook does not rely on a record that is not there.
extends_documentation_fragment:
  - flowaudit.ops.attributes
options:
  name:
    description: What happened, in the terms of the runbook.
    type: str
    required: true
  data:
    description:
      - Facts about it, as a flat mapping; the values are recorded as text, without what looks like a secret.
    type: dict
    default: {}
attributes:
  action:
    support: full
    description: Has a corresponding action plugin.
  check_mode:
    support: full
    details: The event is recorded in check mode too; the run's entry says that it was one.
  diff_mode:
    support: none
    details: Changes nothing.
  idempotent:
    support: none
    details: Each call records an event.
seealso:
  - plugin: flowaudit.ops.trail
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Record what the restore drill found
  flowaudit.ops.trail_event:
    name: restore drill passed
    data:
      rpo_seconds: "{{ drill.rpo_seconds }}"
      rows: "{{ drill.rows }}"
"""

RETURN = r"""
trail_event:
  description: What was recorded.
  type: dict
  returned: success
  contains:
    name:
      description: What happened.
      type: str
    data:
      description: Facts about it.
      type: dict
"""
