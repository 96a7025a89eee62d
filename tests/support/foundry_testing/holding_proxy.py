"""A proxy before a server of this machine that lets requests of some kind wait."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PATIENCE_S = 120.0  # a test that waits longer has failed


@contextmanager
def holding(url: str, kind: bytes, release: threading.Event) -> Iterator[str]:
    """The URL of a proxy before `url` that keeps back GETs with `kind` in their line until `release`."""
    server = socket.create_server(("127.0.0.1", 0))
    behind = urlsplit(url)
    threads: list[threading.Thread] = []

    def forward(source: socket.socket, sink: socket.socket, may_wait: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                line = data.partition(b"\r\n")[0]
                if may_wait and line.startswith(b"GET") and kind in line:
                    release.wait(PATIENCE_S)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                to = socket.create_connection((behind.hostname, behind.port))
                for ends in ((client, to, True), (to, client, False)):
                    threads.append(threading.Thread(target=forward, args=ends, daemon=True))
                    threads[-1].start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        release.set()
        server.close()
