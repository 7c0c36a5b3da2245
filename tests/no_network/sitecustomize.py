"""Put on PYTHONPATH, this makes every connection of a Python process fail, loopback included.

Jupyter's own channels do not pass through Python's socket module, so a notebook still runs.
"""

import sys


def refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if event == "socket.connect" and getattr(arguments[0], "family", None) == 1:  # AF_UNIX
            return
        raise PermissionError(f"the network is out of bounds here: {event} {arguments[1:]}")


sys.addaudithook(refuse)
