"""Print a JSON object that gives each NAME on the command line a free TCP port of the loopback interface."""

from __future__ import annotations

import json
import socket
import sys


def main() -> None:
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in sys.argv[1:]}
    # All stay bound until every port is known, so no two names get the same one.
    print(json.dumps({name: listener.getsockname()[1] for name, listener in sockets.items()}))
    for listener in sockets.values():
        listener.close()


if __name__ == "__main__":
    main()
