# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups: what is taken, where it goes, what proves it, and how it is brought back.

The same code runs on the host by timers (:mod:`program`) and by Ansible's modules. Pure: `wal`, `choice`, `settings`,
`metrics`. To the outside: `restic`, `server`, `vectors`, `records`. The jobs are in `jobs`.
"""
