# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups: what is taken, where it goes, what proves it, and how it is brought back.

The same code runs on the host by timers (:mod:`program`) and by Ansible's modules; :mod:`target` runs on the machine
that keeps the backups. Pure: `wal`, `choice`. To the outside: `restic`, `server`, `vectors`, `stream`; on the disk:
`settings`, `records`, `metrics`. What is taken: `jobs`. What is brought back: `recovery` (a database, beside the one
that serves), `restore` (it takes its place), `bring_back` (files, vectors), `drill` (everything, to prove it).
"""
