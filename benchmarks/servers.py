"""Git servers on this machine: ``git daemon`` and ``git http-backend``, for pushes that leave the process.

Invariant: a server listens on the loopback interface only, serves one folder, and is gone when its block ends. This
module must not measure anything.
"""

from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from benchmarks.engines_git import clean_environment, git

if TYPE_CHECKING:
    from collections.abc import Generator

_LEAST_PUSH_BYTES: Final = 100  # a request of fewer only asks whether one may push


class GitHttpServer(http.server.ThreadingHTTPServer):
    """Serves the repositories of a folder over http; `handler` may be told to misbehave."""

    def __init__(self, folder: Path, handler: type[GitHttpHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.folder = folder
        self.handler = handler
        self.program = Path(git(Path("/"), "--exec-path").decode().strip()) / "git-http-backend"

    def url(self, name: str) -> str:
        """Return the URL of a repository of the folder."""
        return f"http://127.0.0.1:{self.server_port}/{name}"


class GitHttpHandler(http.server.BaseHTTPRequestHandler):
    """Hands requests to ``git http-backend`` as a CGI program.

    Attributes:
        lose_answers: Hang up instead of answering a push that was carried out.
        password: What basic authentication has to hold, None when everybody may push.
    """

    protocol_version = "HTTP/1.1"
    lose_answers = False
    password: str | None = None

    def handle_git(self) -> None:
        """Answer one request."""
        body = self._read_body()
        if self.password and self.headers.get("Authorization") != f"Basic {self.password}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        output = self._backend(body)
        pushes = self.path.endswith("/git-receive-pack") and len(body) > _LEAST_PUSH_BYTES
        if self.lose_answers and pushes:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        head, _, content = output.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _backend(self, body: bytes) -> bytes:
        server = cast("GitHttpServer", self.server)
        path, _, query = self.path.partition("?")
        env = clean_environment() | {
            "GIT_PROJECT_ROOT": str(server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        return subprocess.run([server.program], env=env, input=body, capture_output=True, check=False).stdout

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces: list[bytes] = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    do_GET = handle_git  # noqa: N815  # the base class looks for these names
    do_POST = handle_git  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named by the base class
        """Say nothing."""


@contextlib.contextmanager
def http_server(folder: Path) -> Generator[GitHttpServer, None, None]:
    """Serve the repositories of a folder over http during the block; a handler class of its own for each server."""
    handler = type("Handler", (GitHttpHandler,), {})
    server = GitHttpServer(folder, handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def git_daemon(folder: Path) -> Generator[str, None, None]:
    """Serve the repositories of a folder by ``git daemon`` during the block; yields the URL of the folder.

    Raises:
        RuntimeError: It did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "git",
        "daemon",
        f"--port={port}",
        "--listen=127.0.0.1",
        "--export-all",
        "--enable=receive-pack",
    ]
    command += ["--reuseaddr", "--informative-errors", "--verbose", f"--base-path={folder}", str(folder)]
    with subprocess.Popen(command, env=clean_environment(), stderr=subprocess.PIPE) as process:
        ready = process.stderr.readline() if process.stderr else b""
        try:
            if b"Ready to rumble" not in ready:
                raise RuntimeError(f"git daemon did not start: {ready.decode(errors='replace')}")
            yield f"git://127.0.0.1:{port}"
        finally:
            process.terminate()  # git ends the daemon that it has started
