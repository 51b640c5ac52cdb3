"""The servers of 127.0.0.1 seen at another address, which their certificates do not name."""

import contextlib
import socket
import threading
from collections.abc import Iterator

OTHER_ADDRESS = "127.0.0.9"


@contextlib.contextmanager
def forwarded(port: int) -> Iterator[str]:
    """Pass connections to OTHER_ADDRESS on to 127.0.0.1, the same port, while this is open."""
    with socket.create_server((OTHER_ADDRESS, port)) as listener:
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()
        yield OTHER_ADDRESS
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65_536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
