"""What stands before a registry in a real place: it asks for a login, and can be shut."""

import base64
import http.client
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

USER, PASSWORD = "reader", "gehëim:8"


@dataclass
class Door:
    """Hands on to the registry at `behind` what comes with the login; refuses what does not."""

    behind: str
    port: int = 0
    asked: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{urlsplit(self.behind).path}"

    @property
    def is_shut(self) -> bool:
        return self._server is None

    def open(self) -> None:
        door, place = self, urlsplit(self.behind)
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                door.asked.append(f"{self.command} {self.path}")
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) or None
                status, content = 401, b"no"
                if self.headers.get("Authorization") == f"Basic {login}":
                    registry = http.client.HTTPConnection(place.netloc, timeout=60)
                    kind = {"Content-Type": self.headers.get("Content-Type", "")} if body else {}
                    registry.request(self.command, self.path, body, kind)
                    answer = registry.getresponse()
                    status, content = answer.status, answer.read()
                    registry.close()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def shut(self) -> None:
        """Connections are refused from here on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
