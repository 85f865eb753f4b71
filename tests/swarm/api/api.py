# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Answers /api/health with its release; one called …-ill is not healthy, one called …-wrong says another name."""

from __future__ import annotations

import http.server
import os
import signal
import sys
import threading
import urllib.request

RELEASE = os.environ["RELEASE"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        well = not RELEASE.endswith("-ill")
        body = ("rc-0000-00-00" if RELEASE.endswith("-wrong") else RELEASE).encode()
        self.send_response(200 if well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve() -> None:
    server = http.server.ThreadingHTTPServer(("", 8000), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"{RELEASE} serves")
    server.serve_forever()
    server.server_close()  # what is in hand is finished


if __name__ == "__main__":
    if sys.argv[1:] == ["health"]:
        urllib.request.urlopen("http://127.0.0.1:8000/api/health", timeout=2)
    else:
        serve()
