"""A token endpoint (OIDC, client credentials) on loopback, over plain HTTP.

Its tokens are not signed: Kafka's own validator for development takes such.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CLIENT_ID, CLIENT_SECRET = "iot", "the-secret-of-the-client"


@contextmanager
def token_endpoint() -> Iterator[str]:
    """Its address, while it runs; every token is the user `iot`'s for an hour."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        given = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if self.headers["Authorization"] != f"Basic {given}":
            self._answer(401, {"error": "invalid_client"})
            return
        token = unsigned_token()
        self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def unsigned_token() -> str:
    """That this is the user `iot`, for an hour."""
    now = int(time.time())
    claims = {"sub": "iot", "iat": now - 1, "exp": now + 3600}
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
