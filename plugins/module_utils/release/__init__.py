# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Changes: what is to be done, by whom it was approved, and whether it may run now.

``model`` the document and its states, ``window`` when, ``policy`` whether. All of it is pure.
"""
