"""The two ends of the firewall's test.

    shoot.py serve PORT...               listens on every port; says "listening" once it does
    shoot.py connect SOURCE TO PORT...   a connection to each port, all at once; a line for each: "open", "silent", or how it failed
"""

import errno
import selectors
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

# An answer on a cable of one machine takes less than a millisecond; a SYN is sent again after one second.
PATIENCE_S = 3.5


def serve(ports: list[str]) -> None:
    waiting = selectors.DefaultSelector()
    for port in ports:
        listener = socket.create_server(("0.0.0.0", int(port)), backlog=16)
        waiting.register(listener, selectors.EVENT_READ)
    print("listening", flush=True)
    while True:
        for key, _ in waiting.select():
            connection, _ = key.fileobj.accept()
            connection.close()


def connect(source: str, to: str, port: str) -> str:
    try:
        with socket.create_connection((to, int(port)), timeout=PATIENCE_S, source_address=(source, 0)):
            return "open"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return {errno.EHOSTUNREACH: "no route to host", errno.ECONNREFUSED: "refused"}.get(error.errno, str(error))


if sys.argv[1] == "serve":
    serve(sys.argv[2:])
else:
    source, to, *ports = sys.argv[2:]
    with ThreadPoolExecutor(len(ports)) as pool:
        print("\n".join(pool.map(lambda port: connect(source, to, port), ports)))
