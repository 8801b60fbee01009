"""A TCP proxy that can cut the line without a word, and join it again."""

from __future__ import annotations

import select
import socket
import threading
import time


class Proxy:
    """Forwards 127.0.0.1:``port`` to another port until it is cut.

    While cut, bytes are kept, not refused: neither side learns of it, as in a network partition.
    Joined again, what was kept arrives late.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut.set()

    def join(self) -> None:
        self._cut.clear()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with client, server:
            while True:
                ready, _, _ = select.select([client, server], [], [], 0.2)
                if self._cut.is_set():
                    self._wait()
                    continue
                for source in ready:
                    try:
                        content = source.recv(65536)
                        if not content:
                            return
                        (server if source is client else client).sendall(content)
                    except OSError:
                        return

    def _wait(self) -> None:
        while self._cut.is_set():
            time.sleep(0.02)
