"""Users of a portal, on the portal's own host: what of theirs fails while a release is changed.

clients_on_host.py URL CA RESULT: eight of them ask for a list, one uploads 50 MB at 5 MB/s again and again, until
SIGTERM; then RESULT gets what they counted, in JSON. Standard library only: it runs where nothing is installed.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator

SIZE, BYTES_A_SECOND = 50 * 2**20 - 4096, 5 * 2**20


def large_pdf(text: str) -> tuple[bytes, int, bytes]:
    """A PDF of nearly 50 MiB with one line of text: its begin, the zeros that follow, its end."""
    content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    begin, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(begin))
        begin += b"%d 0 obj%b endobj\n" % (number, each)
    places.append(len(begin))
    begin += b"6 0 obj<</Length %d>>stream\n" % SIZE
    end = b"\nendstream endobj\n"
    table = len(begin) + SIZE + len(end)
    entries = b"".join(b"%010d 00000 n \n" % place for place in places)
    end += b"xref\n0 7\n0000000000 65535 f \n%btrailer<</Size 7/Root 1 0 R>>\n" % entries
    return begin, SIZE, end + b"startxref\n%d\n%%%%EOF\n" % table


def large_upload(text: str) -> tuple[dict[str, str], Iterator[bytes]]:
    """Headers and body of an upload of such a file, at the speed of a slow line."""
    begin, size, end = large_pdf(text)
    form = b'Content-Disposition: form-data; name="file"; filename="large.pdf"\r\nContent-Type: application/pdf'
    head, tail = b"--b\r\n" + form + b"\r\n\r\n" + begin, end + b"\r\n--b--\r\n"

    def body() -> Iterator[bytes]:
        yield head
        begun, sent = time.monotonic(), 0
        while sent < size:
            part = bytes(min(65536, size - sent))
            yield part
            sent += len(part)
            time.sleep(max(0, sent / BYTES_A_SECOND - (time.monotonic() - begun)))
        yield tail

    length = str(len(head) + size + len(tail))
    return {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": length}, body()


class Users:
    def __init__(self, url: str, ca: str) -> None:
        self.url = urllib.parse.urlsplit(url)
        self.context = ssl.create_default_context(cafile=ca) if self.url.scheme == "https" else None
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.requests = self.uploads = self.uploads_failed = 0
        self.failures: list[float] = []

    def connection(self) -> http.client.HTTPConnection:
        name = self.url.hostname or ""
        connection = http.client.HTTPConnection(name, timeout=60)
        connection.sock = socket.create_connection(("127.0.0.1", self.url.port or 443), 60)
        if self.context is not None:
            connection.sock = self.context.wrap_socket(connection.sock, server_hostname=name)
        return connection

    def ask(self) -> None:
        while not self.stop.wait(0.02):
            try:
                connection = self.connection()
                connection.request("GET", "/api/documents?limit=1")
                good = connection.getresponse().status == 200
                connection.close()
            except (OSError, http.client.HTTPException):
                good = False
            with self.lock:
                self.requests += 1
                if not good:
                    self.failures.append(time.monotonic())

    def upload(self) -> None:
        while not self.stop.is_set():
            try:
                connection = self.connection()
                headers, body = large_upload(f"a document of {time.time()}")
                connection.request("POST", "/api/documents/upload", body=body, headers=headers)
                good = connection.getresponse().status == 201
                connection.close()
            except (OSError, http.client.HTTPException):
                good = False
            with self.lock:
                self.uploads += 1
                self.uploads_failed += not good

    def work(self) -> dict[str, float]:
        threads = [threading.Thread(target=self.ask) for _user in range(8)] + [threading.Thread(target=self.upload)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            "requests": self.requests,
            "failed": len(self.failures),
            "window": round(max(self.failures) - min(self.failures), 2) if self.failures else 0,
            "uploads": self.uploads,
            "uploads_failed": self.uploads_failed,
        }


def main() -> None:
    url, ca, result = sys.argv[1:]
    users = Users(url, ca)
    signal.signal(signal.SIGTERM, lambda *_: users.stop.set())
    counted = users.work()
    with open(result, "w", encoding="utf-8") as stream:
        json.dump(counted, stream)


if __name__ == "__main__":
    main()
