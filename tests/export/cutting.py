"""A connection that breaks: a TCP proxy that hangs up once a client has sent so many bytes."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK_BYTES = 4096


class CuttingProxy:
    """Forwards connections to a port of this machine, and cuts each after ``limit_bytes`` from the client.

    Attributes:
        port: Where to connect to.
        limit_bytes: None forwards everything.
        cuts: How many connections were cut.
    """

    def __init__(self, target_port, limit_bytes):
        self.limit_bytes = limit_bytes
        self.cuts = 0
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self._target_port)) as server:
            answers = threading.Thread(target=self._forward, args=(server, client, None))
            answers.start()
            self._forward(client, server, self.limit_bytes)
            answers.join()

    def _forward(self, source, target, left_bytes):
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if left_bytes is not None and len(data) > left_bytes:
                    self.cuts += 1
                    break
                left_bytes = None if left_bytes is None else left_bytes - len(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
