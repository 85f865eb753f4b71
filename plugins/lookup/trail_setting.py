# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: trail_setting
short_description: What the trail's callback is set to
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Returns settings of the callback P(flowaudit.ops.trail#callback), from the environment, C(ansible.cfg) or its
    defaults, so that the playbooks of the trail use what the runs are recorded with.
  - P(ansible.builtin.config#lookup) does the same for callbacks that are not in a collection.
options:
  _terms:
    description: Names of settings.
    type: list
    elements: str
    required: true
seealso:
  - plugin: flowaudit.ops.trail
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Show where the trail is
  ansible.builtin.debug:
    msg: "{{ lookup('flowaudit.ops.trail_setting', 'directory') }}"
"""

RETURN = r"""
_raw:
  description: Their values; none for one that is not set.
  type: list
  elements: raw
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ..module_utils.errors import FlowauditError
from ..plugin_utils import trail_settings


class LookupModule(LookupBase):
    """Reads the settings of a plugin that need not be enabled."""

    def run(self, terms: t.Any, variables: t.Any = None, **kwargs: t.Any) -> list[t.Any]:
        try:
            return [trail_settings.setting(term) for term in terms]
        except FlowauditError as error:
            raise AnsibleError(str(error)) from error
