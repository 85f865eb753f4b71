# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Break-glass: a credential on paper, in a safe, for the day on which neither gate nor custody can be asked.

It is printed as two sheets for two envelopes: the key and what to do with it, and the passphrase that opens the key.
Neither is kept: what was not printed is gone.
"""

from __future__ import annotations

import dataclasses
import secrets
import typing as t
from collections.abc import Mapping

from .settings import Target

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ed25519

_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # none that is taken for another; 5 bits each
_GROUPS, _OF_GROUP = 6, 5  # 150 bits
PAGE = "\f"


@dataclasses.dataclass(frozen=True)
class Sealed:
    """What is printed: a credential, and for what."""

    inventory: str
    seal: str
    until: str
    account: str
    hosts: Mapping[str, Target]
    key: str
    certificate: str
    passphrase: str


def passphrase() -> str:
    """Words that can be read from paper and typed."""
    groups = ("".join(secrets.choice(_LETTERS) for _letter in range(_OF_GROUP)) for _group in range(_GROUPS))
    return "-".join(groups)


def encrypted(private: ed25519.Ed25519PrivateKey, words: str) -> str:
    """A private key as OpenSSH reads it, opened by a passphrase."""
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(words.encode("ascii")),
    ).decode("ascii")


def sheets(sealed: Sealed, language: str) -> str:
    """The two sheets, a page each."""
    words = _TEXT[language]
    told = {
        "seal": sealed.seal,
        "inventory": sealed.inventory,
        "until": sealed.until,
        "key": sealed.key.strip(),
        "certificate": sealed.certificate.strip(),
        "passphrase": sealed.passphrase,
        "logins": "\n".join(_logins(sealed)),
    }
    return PAGE.join(page.format(**told).strip() + "\n" for page in words) + PAGE


def _logins(sealed: Sealed) -> list[str]:
    command, account = "   ssh -o IdentitiesOnly=yes -i break-glass", sealed.account
    found = [
        f"{command}{f' -p {target.port}' if target.port != 22 else ''} {account}@{target.address}   # {name}"
        for name, target in sealed.hosts.items()
    ]
    return found or [f"{command} {account}@<host>"]


_TEXT: dict[str, tuple[str, str]] = {
    "en": (
        """
BREAK-GLASS {seal}: key                                                         envelope 1 of 2
Inventory {inventory}, valid until {until}.
With the passphrase of envelope 2 it opens every host of the inventory that lists it.

When: a host has to be entered, and the control node cannot let you in, or not in time.

1. Two persons open the envelopes. Write down who, when and why; tell the persons on call.
2. Put the key into the file break-glass, the certificate (one line) into the file
   break-glass-cert.pub; then: chmod 600 break-glass
3. Log in; ssh asks for the passphrase:
{logins}
4. Do what is needed, and nothing else. Every login is recorded, and reported within a minute.
5. Afterwards: remove both files, and have the use reviewed: flowaudit.ops.break_glass_review.
   Until enough persons have signed the review, no normal change runs.
6. Make a new credential (flowaudit-custody seal), put it into host_access_break_glass instead
   of {seal}, destroy these sheets.

{key}

{certificate}
""",
        """
BREAK-GLASS {seal}: passphrase                                                  envelope 2 of 2
Keep it apart from envelope 1, where another person has to open it.

   {passphrase}
""",
    ),
    "de": (
        """
NOTZUGANG {seal}: Schlüssel                                                     Umschlag 1 von 2
Inventar {inventory}, gültig bis {until}.
Mit der Passphrase aus Umschlag 2 öffnet er jeden Host des Inventars, der ihn kennt.

Wann: Ein Host muss betreten werden, und der Steuerrechner lässt niemanden ein, oder zu spät.

1. Zwei Personen öffnen die Umschläge. Aufschreiben: wer, wann, warum.
   Die Rufbereitschaft verständigen.
2. Den Schlüssel in die Datei break-glass schreiben, das Zertifikat (eine Zeile) in die Datei
   break-glass-cert.pub; dann: chmod 600 break-glass
3. Anmelden; ssh fragt nach der Passphrase:
{logins}
4. Das Nötige tun, sonst nichts. Jede Anmeldung wird aufgezeichnet und binnen einer Minute gemeldet.
5. Danach: beide Dateien löschen und die Nutzung prüfen lassen: flowaudit.ops.break_glass_review.
   Bis genügend Personen die Prüfung unterschrieben haben, läuft keine normale Änderung.
6. Einen neuen Notzugang anlegen (flowaudit-custody seal), ihn in host_access_break_glass an die
   Stelle von {seal} setzen, diese Blätter vernichten.

{key}

{certificate}
""",
        """
NOTZUGANG {seal}: Passphrase                                                    Umschlag 2 von 2
Getrennt von Umschlag 1 aufbewahren, dort, wo ihn eine andere Person öffnen muss.

   {passphrase}
""",
    ),
}
