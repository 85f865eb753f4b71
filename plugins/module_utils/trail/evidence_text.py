# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The README of an evidence package: what it is, what it proves, and the commands that show it; German and English.

The commands are for bash (4.4 or newer) with coreutils, ``openssl`` (3.0 or newer) and ``jq``. Each block stands alone,
can be pasted into a terminal, and ends with a status.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the README says of its package."""

    origin: str
    size: int  # entries that the newest checkpoint covers
    entries: int  # entries that are here
    without_bytes: int  # entries of which only the hash is here
    selection: str = ""  # for people; empty when it is the whole log
    anchors: bool = False
    timestamps: bool = False
    openings: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is the whole log."""
        return not self.selection


def readme(facts: Facts) -> str:
    """The whole file."""
    return f"{_german(facts)}\n---\n\n{_english(facts)}"


# ── The commands; @wrong@ and @entry@ are words of the language ──────────────────────────────────────────────────────

FILES = r"""(
  wrong() { echo "@wrong@: $*"; exit 1; }
  sha256sum --check --strict --quiet SHA256SUMS || wrong SHA256SUMS
  export LC_ALL=C
  diff <(find . ! -type d ! -path ./SHA256SUMS | sort) <(cut -c67- SHA256SUMS | sort) || wrong SHA256SUMS
  echo OK
)"""

KEYS = r"""(
  wrong() { echo "@wrong@: $*"; exit 1; }
  number=0
  while read -r key; do
    number=$((number + 1))
    public=$({ printf '\001'; openssl pkey -pubin -in keys/$number.pem -outform DER | tail -c 32; } | base64)
    [ "$key" = "$(cat keys/$number.vkey)" ] && [ "$public" = "$(cut -d+ -f3- <<< "$key")" ] || wrong "keys/$number"
  done < <(jq -r 'select(.type == "log.created" or .type == "key.rotated") | .key' entries.jsonl)
  [ "$number" -ge 1 ] && [ "$(find keys -type f | wc -l)" -eq $((2 * number)) ] || wrong keys
  [ -z "${trusted:-}" ] || [ "$trusted" = "$(cat keys/1.vkey)" ] || wrong keys/1.vkey
  echo "OK $(tr -cd '[:graph:]' < keys/1.vkey)"
)"""

SIGNATURES = r"""(
  wrong() { echo "@wrong@: $*"; exit 1; }
  work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
  signed() { # checkpoint, key
    local value
    sed '/^$/,$d' "$1" > "$work/text"
    for value in $(sed '1,/^$/d' "$1" | cut -d' ' -f3); do
      base64 -d <<< "$value" | tail -c +5 > "$work/signature"
      openssl pkeyutl -verify -pubin -inkey "$2" -rawin -in "$work/text" -sigfile "$work/signature" \
        > "$work/said" 2>&1 && return 0
    done
    return 1
  }
  origin=$(jq -r 'select(.type == "log.created") | .origin' entries.jsonl)
  starts=$(jq -r 'select(.type == "log.created" or .type == "key.rotated") | .seq' entries.jsonl)
  handed=' 1 '
  for note in checkpoints/*.checkpoint anchors/*.checkpoint; do
    [ -e "$note" ] || continue
    size=$(sed -n 2p "$note") number=0
    for start in $starts; do [ "$start" -ge "$size" ] || number=$((number + 1)); done
    [ "$(sed -n 1p "$note")" = "$origin" ] && signed "$note" keys/$number.pem || wrong "$note"
    [ "$number" -lt 2 ] || ! signed "$note" keys/$((number - 1)).pem || handed+="$number "
  done
  for number in $(seq "$(wc -w <<< "$starts")"); do
    [[ "$handed" = *" $number "* ]] || wrong keys/$number.pem
  done
  echo OK
)"""

# How the hashes are made, for those that follow; the result of ``leaf`` and ``node`` is in $hash. What is no number
# must not come into bash's arithmetic, which would run what is written in it.
_HASHES = r"""number() { [[ "$1" =~ ^(0|[1-9][0-9]{0,15})$ ]] || wrong "${1@Q}"; }
  work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
  bytes() { local hex=$1 out=; while [ "$hex" ]; do out+=\\x${hex:0:2} hex=${hex:2}; done; printf %b "$out"; }
  sum() { read -r hash _ < <(sha256sum "$work/data"); }
  leaf() { printf '\000%s' "$1" > "$work/data"; sum; }
  node() { bytes "01$1$2" > "$work/data"; sum; }"""

WHOLE = rf"""(
  wrong() {{ echo "@wrong@: $*"; exit 1; }}
  {_HASHES}
  root() {{
    local place
    hash=${{roots[-1]}}
    for ((place = ${{#roots[@]}} - 2; place >= 0; place--)); do node "${{roots[place]}}" "$hash"; done
    root=$(bytes "$hash" | base64)
  }}
  entries() {{ # seq, prev, line; or seq, -, hash
    paste <(jq -r '"\(.seq)\t\(.prev)"' entries.jsonl) entries.jsonl |
      sort -n -m - <([ ! -e leaves.txt ] || sed 's/ /\t-\t/' leaves.txt)
  }}
  declare -A due=()
  newest=0 size=0 roots=() last=$(printf '0%.0s' {{1..64}})
  for note in checkpoints/*.checkpoint anchors/*.checkpoint; do
    [ -e "$note" ] || continue
    covers=$(sed -n 2p "$note")
    number "$covers"
    due[$covers]+=" $note"
    [ "$covers" -le "$newest" ] || newest=$covers
  done
  while IFS=$'\t' read -r seq prev line; do
    if [ "$prev" = - ]; then hash=$line; else leaf "$line"; fi
    [ "$seq" = "$size" ] && {{ [ "$prev" = "$last" ] || [ "$prev" = - ]; }} || wrong "@entry@ $size"
    last=$hash
    for ((index = size; index & 1; index >>= 1)); do
      node "${{roots[-1]}}" "$hash"
      unset 'roots[-1]'
    done
    roots+=("$hash") size=$((size + 1))
    for note in ${{due[$size]:-}}; do
      root
      [ "$(sed -n 3p "$note")" = "$root" ] || wrong "$note"
    done
  done < <(entries)
  [ "$size" -gt 0 ] && [ "$size" -eq "$newest" ] || wrong "@entry@ $size"
  echo OK
)"""

PART = rf"""(
  wrong() {{ echo "@wrong@: $*"; exit 1; }}
  {_HASHES}
  included() {{ # seq, size, proof…
    local place=$1 last=$(($2 - 1)) sibling
    shift 2
    for sibling; do
      if ((place & 1 || place == last)); then
        node "$sibling" "$hash"
        while ((place && !(place & 1))); do place=$((place >> 1)) last=$((last >> 1)); done
      else
        node "$hash" "$sibling"
      fi
      place=$((place >> 1)) last=$((last >> 1))
    done
    ((last == 0))
  }}
  newest=$(printf '%s\n' checkpoints/*.checkpoint | tail -n 1)
  size=$(sed -n 2p "$newest") root=$(sed -n 3p "$newest") before=-1
  number "$size"
  while IFS=$'\t' read -r proof seq line; do
    read -r place among hashes <<< "$proof"
    number "$seq"
    leaf "$line"
    [ "$place" = "$seq" ] && [ "$among" = "$size" ] && ((before < seq && seq < size)) &&
      included "$seq" "$size" $hashes && [ "$(bytes "$hash" | base64)" = "$root" ] || wrong "@entry@ $seq"
    before=$seq
  done < <(paste <(jq -r '"\(.seq) \(.size) \(.hashes | join(" "))"' proofs/inclusion.jsonl) \
    <(jq .seq entries.jsonl) entries.jsonl)
  [ "$before" -ge 0 ] || wrong entries.jsonl
  echo OK
)"""

CONSISTENCY = rf"""(
  wrong() {{ echo "@wrong@: $*"; exit 1; }}
  {_HASHES}
  consistent() {{ # earlier size, size, proof…
    local place=$(($1 - 1)) last=$(($2 - 1)) sibling
    first=$3 second=$3
    shift 3
    while ((place & 1)); do place=$((place >> 1)) last=$((last >> 1)); done
    for sibling; do
      if ((place & 1 || place == last)); then
        node "$sibling" "$first" && first=$hash
        node "$sibling" "$second" && second=$hash
        while ((place && !(place & 1))); do place=$((place >> 1)) last=$((last >> 1)); done
      else
        node "$second" "$sibling" && second=$hash
      fi
      place=$((place >> 1)) last=$((last >> 1))
    done
    ((last == 0))
  }}
  newest=$(printf '%s\n' checkpoints/*.checkpoint | tail -n 1)
  size=$(sed -n 2p "$newest") root=$(sed -n 3p "$newest")
  number "$size"
  for note in checkpoints/*.checkpoint anchors/*.checkpoint; do
    [ -e "$note" ] || continue
    earlier=$(sed -n 2p "$note") before=$(sed -n 3p "$note")
    number "$earlier"
    [ "$earlier" -gt 0 ] && [ "$earlier" -le "$size" ] || wrong "$note"
    if [ "$earlier" -eq "$size" ]; then
      [ "$before" = "$root" ] || wrong "$note"
      continue
    fi
    proof=$(jq -r "select(.earlier == $earlier and .size == $size) | .hashes[]" proofs/consistency.jsonl)
    ((earlier & (earlier - 1))) || proof="$(base64 -d <<< "$before" | od -An -v -tx1 | tr -d ' \n') $proof"
    consistent "$earlier" "$size" $proof && [ "$(bytes "$first" | base64)" = "$before" ] &&
      [ "$(bytes "$second" | base64)" = "$root" ] || wrong "$note"
  done
  echo OK
)"""

TIMESTAMPS = r"""(
  wrong() { echo "@wrong@: $*"; exit 1; }
  for token in anchors/*.tsr; do
    note=${token%.tsr}.checkpoint
    openssl ts -verify -data "$note" -in "$token" -CAfile anchors/timestamp-ca.pem > /dev/null 2>&1 || wrong "$token"
    echo "$token $(openssl ts -reply -in "$token" -text 2> /dev/null | grep '^Time stamp:')"
  done
  echo OK
)"""

OPENINGS = r"""(
  wrong() { echo "@wrong@: $*"; exit 1; }
  while read -r commitment salt value; do
    made=$({ base64 -d <<< "$salt"; base64 -d <<< "$value"; } | openssl dgst -sha256 -binary | base64)
    [ "$commitment" = "c:$made" ] && grep --quiet --fixed-strings -e "$commitment" entries.jsonl || wrong "$commitment"
  done < <(jq -r '"\(.commitment) \(.salt) \(.value)"' openings.jsonl)
  echo OK
)"""

PROGRAM = r"""python3 -I check_evidence.py ${trusted:+--key "$trusted"}"""


# ── The text ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lines(*pairs: tuple[bool, str]) -> str:
    """Those whose condition holds, a line each."""
    return "\n".join(text for condition, text in pairs if condition)


def _steps(wrong: str, entry: str, *steps: tuple[bool, str, str]) -> str:
    """The steps whose condition holds, numbered: what is looked at, and the commands."""
    wanted = [(text, block) for condition, text, block in steps if condition]
    return "\n\n".join(
        f"{number}. {text}\n\n```bash\n{block.replace('@wrong@', wrong).replace('@entry@', entry)}\n```"
        for number, (text, block) in enumerate(wanted, 1)
    )


def _quoted(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _german(facts: Facts) -> str:
    origin, here = _quoted(facts.origin), facts.entries
    whole = f"Das Protokoll {origin}, vollständig, wie es bei {facts.size} Einträgen unterschrieben war."
    part = f"""\
{here} Einträge des Protokolls {origin}, wie es bei {facts.size} Einträgen unterschrieben war. Auswahl:
{_quoted(facts.selection)}; die Einträge, die einen Schlüssel nennen, sind immer dabei."""
    without = f"""\
Von {facts.without_bytes} Einträgen ist nur der Hash da: Sie sind archiviert oder nach Ablauf der Frist gelöscht."""
    contents = _lines(
        (True, "| `entries.jsonl` | die Einträge, Byte für Byte wie gespeichert, einer je Zeile |"),
        (facts.without_bytes > 0, "| `leaves.txt` | Nummer und Hash der Einträge, deren Inhalt fehlt |"),
        (True, "| `checkpoints/` | unterschriebene Prüfpunkte: Name, Zahl der Einträge, Merkle-Wurzel |"),
        (facts.anchors, "| `anchors/` | Prüfpunkte, wie andere sie aufbewahrt haben; wer, sagt `manifest.json` |"),
        (facts.timestamps, "| `anchors/*.tsr` | Zeitstempel (RFC 3161) dazu, und das Zertifikat der Stelle |"),
        (not facts.whole, "| `proofs/` | Pfade von Hashes, vom Eintrag oder früheren Prüfpunkt zum neuesten |"),
        (True, "| `keys/` | die öffentlichen Schlüssel des Protokolls (Ed25519), der erste zuerst |"),
        (facts.openings, "| `openings.jsonl` | personenbezogene Daten, auf die sich Einträge nur festlegen |"),
        (True, "| `manifest.json`, `SHA256SUMS` | was exportiert wurde; Prüfsummen |"),
        (True, "| `check_evidence.py` | das Prüfprogramm |"),
    )
    proves = _lines(
        (True, "- Jeder Prüfpunkt ist mit dem Schlüssel des Protokolls unterschrieben."),
        (
            facts.whole,
            "- Kein Eintrag wurde geändert, entfernt, eingefügt oder umgestellt, seit ein Prüfpunkt ihn deckt.",
        ),
        (not facts.whole, "- Jeder Eintrag steht unverändert an seiner Stelle im unterschriebenen Protokoll."),
        (
            True,
            "- Wo ein anderer einen Prüfpunkt aufbewahrt hat (`anchors/`, oder einer, den Sie selbst haben), gilt das",
        ),
        (True, "  auch gegenüber dem Inhaber des Schlüssels: So war es, als der andere den Prüfpunkt erhielt."),
    )
    proves_not = _lines(
        (
            True,
            "- Dass der Schlüssel der richtige ist. Vergleichen Sie ihn mit dem, den Sie auf anderem Weg haben:",
        ),
        (True, "  Wer ein ganzes Paket fälscht, nimmt einen eigenen Schlüssel, und ändert auch dieses README."),
        (True, "- Dass ein Eintrag wahr ist. Wer auf dem Rechner, der ihn schrieb, Administrator war, konnte Falsches"),
        (True, "  schreiben lassen."),
        (
            True,
            "- Dass nach dem neuesten Prüfpunkt nichts geschah; dass der Inhaber des Schlüssels das Protokoll nicht",
        ),
        (True, "  neu geschrieben hat, wo kein anderer einen Prüfpunkt hat."),
        (
            not facts.whole,
            "- Dass es keine weiteren Einträge gibt, die zur Auswahl gehören. Das zeigt nur das ganze Protokoll.",
        ),
    )
    slow = "einige Minuten für zehntausend Einträge; für große Protokolle gibt es das Prüfprogramm"
    expired = "ist das Zertifikat der Stelle seither abgelaufen, `-attime` mit der Zeit des Stempels angeben"
    steps = _steps(
        "FALSCH",
        "Eintrag",
        (True, "Die Dateien sind die aufgeführten, und seit dem Export unverändert:", FILES),
        (True, "Die Schlüssel sind die, die die Einträge nennen; der erste ist der, dem Sie vertrauen:", KEYS),
        (True, "Jeder Prüfpunkt ist vom Schlüssel seiner Zeit unterschrieben, jeder Wechsel vom alten:", SIGNATURES),
        (facts.whole, f"Jeder Eintrag nennt den Hash des vorigen, alle ergeben die Wurzeln ({slow}):", WHOLE),
        (not facts.whole, "Von jedem Eintrag führt ein Pfad zur Wurzel des neuesten Prüfpunkts:", PART),
        (not facts.whole, "Jeder frühere Prüfpunkt ist von demselben Protokoll:", CONSISTENCY),
        (facts.timestamps, f"Die Zeitstempel stimmen ({expired}):", TIMESTAMPS),
        (facts.openings, "Die offengelegten Werte sind die, auf die sich die Einträge festlegen:", OPENINGS),
    )
    return f"""\
# Nachweis aus dem Protokoll (English below)

{_lines((facts.whole, whole), (not facts.whole, part), (facts.without_bytes > 0, without))}

| Datei | Inhalt |
|---|---|
{contents}

## Was es beweist

{proves}

## Was es nicht beweist

{proves_not}

## Prüfen mit Bordmitteln

Nötig sind bash ab 4.4, coreutils, `openssl` ab 3.0 und `jq`. Jeder Block wird im entpackten Verzeichnis ausgeführt und
endet mit `OK`, oder mit `FALSCH` und dem, was nicht stimmt. Geben Sie zuvor den Schlüssel an, den Sie auf anderem Weg
erhalten haben:

    trusted='Name+Kennung+Schlüssel'

{steps}

## Prüfen mit dem Programm

`check_evidence.py` prüft all das und mehr. Es braucht Python ab 3.8 und `openssl`, sonst nichts. Nehmen Sie es aus
einer Veröffentlichung von flowaudit.ops, wenn Sie dem Paket nicht trauen.

```bash
{PROGRAM}
```
"""


def _english(facts: Facts) -> str:
    origin, here = _quoted(facts.origin), facts.entries
    whole = f"The log {origin}, whole, as it was signed at {facts.size} entries."
    part = f"""\
{here} entries of the log {origin} as it was signed at {facts.size} entries. Selection:
{_quoted(facts.selection)}; the entries that name a key are always there."""
    without = (
        f"Of {facts.without_bytes} entries only the hash is here: they were archived, or deleted when their time came."
    )
    contents = _lines(
        (True, "| `entries.jsonl` | the entries, byte for byte as stored, one a line |"),
        (facts.without_bytes > 0, "| `leaves.txt` | number and hash of the entries whose content is gone |"),
        (True, "| `checkpoints/` | signed checkpoints: name, number of entries, Merkle root |"),
        (facts.anchors, "| `anchors/` | checkpoints as others have kept them; `manifest.json` says who |"),
        (facts.timestamps, "| `anchors/*.tsr` | timestamps (RFC 3161) of these, and the authority's certificate |"),
        (not facts.whole, "| `proofs/` | paths of hashes, from an entry or an earlier checkpoint to the newest |"),
        (True, "| `keys/` | the public keys of the log (Ed25519), the first one first |"),
        (facts.openings, "| `openings.jsonl` | personal data that entries only commit to |"),
        (True, "| `manifest.json`, `SHA256SUMS` | what was exported; checksums |"),
        (True, "| `check_evidence.py` | the program that checks |"),
    )
    proves = _lines(
        (True, "- Each checkpoint is signed by the key of the log."),
        (facts.whole, "- No entry was altered, removed, inserted or moved since a checkpoint covers it."),
        (not facts.whole, "- Each entry stands unaltered at its place in the log that was signed."),
        (
            True,
            "- Where somebody else has kept a checkpoint (`anchors/`, or one of your own), this holds against",
        ),
        (True, "  the holder of the key too: so it was when the other received the checkpoint."),
    )
    proves_not = _lines(
        (
            True,
            "- That the key is the right one. Compare it with the one that you got by another way: who forges a whole",
        ),
        (True, "  package takes a key of their own, and changes this README too."),
        (
            True,
            "- That an entry is true. Who was administrator of the machine that wrote it could have it write what is",
        ),
        (True, "  false."),
        (
            True,
            "- That nothing happened after the newest checkpoint; and that the holder of the key did not write the log",
        ),
        (True, "  anew, where nobody else has a checkpoint."),
        (not facts.whole, "- That no other entries belong to the selection. Only the whole log shows that."),
    )
    slow = "some minutes for ten thousand entries; for large logs there is the program"
    expired = "if the authority's certificate has expired since, give `-attime` with the time of the stamp"
    steps = _steps(
        "WRONG",
        "entry",
        (True, "The files are those that are listed, unaltered since the export:", FILES),
        (True, "The keys are those that the entries name; the first is the one you trust:", KEYS),
        (True, "Each checkpoint is signed by the key of its time, each change of keys by the old one:", SIGNATURES),
        (facts.whole, f"Each entry names the hash of the one before, all of them make the roots ({slow}):", WHOLE),
        (not facts.whole, "A path leads from each entry to the root of the newest checkpoint:", PART),
        (not facts.whole, "Each earlier checkpoint is of the same log:", CONSISTENCY),
        (facts.timestamps, f"The timestamps hold ({expired}):", TIMESTAMPS),
        (facts.openings, "The disclosed values are those that the entries commit to:", OPENINGS),
    )
    return f"""\
# Evidence from the log

{_lines((facts.whole, whole), (not facts.whole, part), (facts.without_bytes > 0, without))}

| file | contents |
|---|---|
{contents}

## What it proves

{proves}

## What it does not prove

{proves_not}

## Check it with what is at hand

You need bash 4.4 or newer, coreutils, `openssl` 3.0 or newer and `jq`. Run each block in the directory of the unpacked
package; it ends with `OK`, or with `WRONG` and what is. Name the key before that you got by another way:

    trusted='name+id+key'

{steps}

## Check it with the program

`check_evidence.py` checks all this and more. It needs Python 3.8 or newer and `openssl`, nothing else. Take it from a
release of flowaudit.ops when you do not trust the package.

```bash
{PROGRAM}
```
"""
