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
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\n'
TAIL = b"\r\n--b--\r\n"


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

    def body(self) -> Iterator[bytes]:
        yield HEAD
        begun, sent = time.monotonic(), 0
        chunk = f"{time.time()} a line of a document\n".encode() * 2000
        while sent < SIZE:
            part = chunk[: SIZE - sent]
            yield part
            sent += len(part)
            time.sleep(max(0, sent / BYTES_A_SECOND - (time.monotonic() - begun)))
        yield TAIL

    def upload(self) -> None:
        length = str(len(HEAD) + SIZE + len(TAIL))
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": length}
        while not self.stop.is_set():
            try:
                connection = self.connection()
                connection.request("POST", "/api/documents/upload", body=self.body(), headers=headers)
                good = connection.getresponse().status == 201
                connection.close()
            except (OSError, http.client.HTTPException):
                good = False
            with self.lock:
                self.uploads += 1
                self.uploads_failed += not good

    def work(self) -> dict[str, float]:
        threads = [threading.Thread(target=self.ask) for _ in range(8)] + [threading.Thread(target=self.upload)]
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
