# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The trail: a log of what was done, in which nothing can be altered unnoticed.

Pure: ``canonical`` ``entry`` ``merkle`` ``note`` ``checkpoint`` ``commitment`` ``redact`` ``verify``.
Files, databases, servers: ``keys`` ``sqlite`` ``postgres`` ``anchors`` ``archive`` ``writer`` ``run``.
"""
