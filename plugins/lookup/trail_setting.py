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

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.loader import callback_loader
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Reads the settings of a plugin that need not be enabled."""

    def run(self, terms: t.Any, variables: t.Any = None, **kwargs: t.Any) -> list[t.Any]:
        # Loading it makes its settings known, under a name that only the plugin itself has.
        plugin = callback_loader.get("flowaudit.ops.trail", class_only=True)
        name = plugin._load_name
        known = constants.config.get_configuration_definitions("callback", name)
        unknown = sorted(set(terms) - set(known))
        if unknown:
            raise AnsibleError(f"The trail has no setting {unknown[0]}; it has {', '.join(sorted(known))}.")
        return [constants.config.get_config_value(term, plugin_type="callback", plugin_name=name) for term in terms]
