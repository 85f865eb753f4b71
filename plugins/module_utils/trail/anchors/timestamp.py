# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A timestamp authority (RFC 3161) signs that it has seen the hash of a checkpoint, and when.

Its token lies beside the log, so it proves the time and not that nothing is missing: who can cut off the log can delete
tokens. Copies of them elsewhere prove both. ``openssl ts`` asks and verifies.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import ssl
import subprocess
import tempfile
import time
import typing as t
import urllib.error
import urllib.parse
from collections.abc import Iterator

from ... import https
from ...errors import FlowauditError
from .. import checkpoint, entry
from ..verify import Anchor
from . import files

TOKEN = ".tsr"  # what the authority has answered

_LARGEST = 1 << 20  # bytes; an answer has a few thousand
_REASON = re.compile(r":error:[0-9A-F]+:[^:\n]*:[^:\n]*:([^:\n]+):[^:\n]*:\d+:(.*)")
_TIME = re.compile(r"^Time stamp: (\w{3} +\d+ \d+:\d+:\d+)(?:\.\d+)? (\d{4} GMT)$", re.MULTILINE)


class TimestampAuthority:
    """Has checkpoints stamped, and keeps the tokens in a directory of the log's own."""

    name = "timestamp"

    def __init__(self, url: str, ca: str, directory: str, timeout: float = 10.0) -> None:
        parts = https.split(url, "timestamp_url")
        self.url = url
        # Without the password that may be in it.
        self.shown = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if not ca or not directory:
            raise FlowauditError(
                "A timestamp_url needs a timestamp_ca, the certificates to verify the authority's tokens against, and a"
                " timestamp_directory to keep them in."
            )
        self.ca = ca
        self.directory = pathlib.Path(directory).expanduser().absolute()
        self.timeout = timeout

    def keep(self, signed: str) -> str:
        """Have the note stamped; keeps it and its token as ``<size>-<log>`` with ``.checkpoint`` and ``.tsr``.

        One that has been stamped is not stamped again.

        Raises:
            FlowauditError: the authority gave no token that holds, or another checkpoint of this size was stamped.
        """
        stem = files.stem(checkpoint.parse(signed))
        kept_note, token = self.directory / (stem + files.CHECKPOINT), self.directory / (stem + TOKEN)
        openssl = _OpenSsl(self.ca, self.timeout)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not token.exists():
                answer = self._ask(signed, openssl)
                with contextlib.suppress(FileExistsError):
                    files.write_new(kept_note, signed.encode())
                _demand_same(kept_note, signed)
                with contextlib.suppress(FileExistsError):  # another process was faster
                    files.write_new(token, answer)
            _demand_same(kept_note, signed)
            openssl.verify(token, signed)
            moment = openssl.moment(token)
        except OSError as error:
            raise FlowauditError(f"The timestamp cannot be kept in {self.directory}: {error}.") from error
        return f"{token} ({self.shown}, {entry.timestamp(moment)})"

    def _ask(self, signed: str, openssl: _OpenSsl) -> bytes:
        # `openssl ts` takes the two of them from files.
        with self._scratch(openssl.query(signed)) as query:
            content = self._post(query.read_bytes(), openssl.left)
            with self._scratch(content) as answer:
                # That the answer is to this question: its nonce.
                openssl.verify_answer(answer, query, self.shown)
        return content

    @contextlib.contextmanager
    def _scratch(self, content: bytes) -> Iterator[pathlib.Path]:
        with tempfile.NamedTemporaryFile(prefix=".asking-", dir=self.directory) as stream:
            stream.write(content)
            stream.flush()
            yield pathlib.Path(stream.name)

    def _post(self, query: bytes, left: t.Callable[[], float]) -> bytes:
        # Loaded when it is needed: it takes longer than the rest of this package.
        from ansible.module_utils import urls

        headers = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
        try:
            with urls.open_url(
                self.url, data=query, headers=headers, method="POST", timeout=left(), follow_redirects="none"
            ) as response:
                kind = response.headers.get_content_type()
                body = response.read(_LARGEST + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise FlowauditError(f"The timestamp authority {self.shown} answered with status {error.code}.") from error
        except (OSError, ValueError, http.client.HTTPException, urls.ConnectionError) as error:
            raise FlowauditError(f"The timestamp authority {self.shown} cannot be asked: {_inner(error)}.") from error
        if kind != "application/timestamp-reply" or len(body) > _LARGEST:
            raise FlowauditError(
                f"The timestamp authority {self.shown} answered with no timestamp ({len(body)} bytes of {kind})."
            )
        return t.cast(bytes, body)


def kept(directory: str, ca: str, origin: str, timeout: float) -> Iterator[Anchor]:
    """The checkpoints of the directory whose token holds; ``timeout`` is that of each.

    Raises:
        FlowauditError: a token does not hold, lacks its checkpoint, or cannot be verified.
    """
    place = pathlib.Path(directory).expanduser().absolute()
    try:
        for token in files.find(place, TOKEN, origin):
            if not ca:
                raise FlowauditError(f"The timestamps in {place} cannot be verified without timestamp_ca.")
            signed = files.text(token.with_suffix(files.CHECKPOINT))
            _OpenSsl(ca, timeout).verify(token, signed)
            yield Anchor(str(token), signed)
    except OSError as error:
        raise FlowauditError(f"The timestamps in {place} cannot be read: {error}.") from error


class _OpenSsl:
    """The command ``openssl ts``; ``timeout`` is for all that is done with one of these."""

    def __init__(self, ca: str, timeout: float) -> None:
        self._ca = str(pathlib.Path(ca).expanduser())
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def left(self) -> float:
        """Seconds of it that are left."""
        return max(self._end - time.monotonic(), 0.001)

    def query(self, signed: str) -> bytes:
        """A request for the hash of a note, with a nonce, and for the certificates that verify the answer."""
        result = self._run("-query", "-digest", _digest(signed), "-sha256", "-cert")
        if result.returncode:
            raise FlowauditError(f"No timestamp can be asked for: {_reasons(result.stderr)}.")
        return result.stdout

    def verify_answer(self, answer: pathlib.Path, query: pathlib.Path, who: str) -> None:
        """See that the answer is to the query: its hash, its nonce, and a signature that the CA vouches for.

        Raises:
            FlowauditError: it is not.
        """
        result = self._run("-verify", "-queryfile", str(query), "-in", str(answer), "-CAfile", self._ca)
        if result.returncode:
            raise FlowauditError(
                f"The timestamp authority {who} gave no timestamp that holds: {_reasons(result.stderr)}."
            )

    def verify(self, token: pathlib.Path, signed: str) -> None:
        """See that the token stamps the note; its certificates may have expired since.

        Raises:
            FlowauditError: it does not.
        """
        # The hash is made here: a token that names a weak one does not fit it.
        verify = ("-verify", "-digest", _digest(signed), "-in", str(token), "-CAfile", self._ca)
        result = self._run(*verify)
        if result.returncode and "expired" in _reasons(result.stderr):
            result = self._run(*verify, "-attime", str(int(self.moment(token))))
        if result.returncode:
            raise FlowauditError(
                f"The timestamp {token} does not hold: {_reasons(result.stderr)}; find out who changed it, or its"
                " checkpoint, before you move it away."
            )

    def moment(self, token: pathlib.Path) -> float:
        """When the token says that it was made (seconds since the epoch)."""
        result = self._run("-reply", "-in", str(token), "-text")
        match = _TIME.search(result.stdout.decode("utf-8", "replace"))
        if match is None:
            raise FlowauditError(f"The timestamp {token} names no time.")
        # Whatever the locale is, this takes English names of months, which OpenSSL writes.
        return float(ssl.cert_time_to_seconds(f"{match[1]} {match[2]}"))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["openssl", "ts", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.left(),
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise FlowauditError("Timestamps need the command openssl; install it.") from error
        except subprocess.TimeoutExpired as error:
            raise FlowauditError(f"The timestamp took longer than {self._timeout:g} seconds.") from error


def _demand_same(kept_note: pathlib.Path, signed: str) -> None:
    if files.text(kept_note) != signed:
        raise FlowauditError(
            f"{kept_note} is another checkpoint of this size: either it or the log was rewritten; compare them before"
            " anything else."
        )


def _digest(signed: str) -> str:
    return hashlib.sha256(signed.encode()).hexdigest()


def _reasons(errors: bytes) -> str:
    """What OpenSSL's lines of errors say, without the places in its source."""
    found = [": ".join(part for part in match if part) for match in _REASON.findall(errors.decode("utf-8", "replace"))]
    return ", ".join(dict.fromkeys(found)) or "openssl gives no reason"


def _inner(error: BaseException) -> object:
    """A sentence's worth of what the HTTP client says."""
    return getattr(error, "reason", None) or error
