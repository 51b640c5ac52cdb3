"""Doors of our own in front of a server: what a cut side does, and that the other side goes on."""

import os
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from iot_pipeline_tests.chaos.doors import MANNERS, Address, Door, Doors, Manner
from iot_pipeline_tests.servers import free_ports

# A node that is this process: whatever it opens comes from it.
NODE, OTHER = "node-1", "node-2"


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while heard := self.request.recv(100):
            self.request.sendall(heard)


@pytest.fixture
def home() -> Iterator[Address]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ("127.0.0.1", server.server_address[1])
        server.shutdown()


@pytest.fixture
def doors(home: Address) -> Iterator[Doors]:
    """For clients of `OTHER`, for nodes that come to it, and for what comes to `NODE`."""
    places = [("127.0.1.1", OTHER, "clients"), ("127.0.2.1", OTHER, "nodes")]
    places.append(("127.0.2.2", NODE, "nodes"))
    (port,) = free_ports(1)
    found = [
        Door(node, "clients" if side == "clients" else "nodes", (host, port), home)
        for host, node, side in places
    ]
    with Doors(found, {NODE: os.getpid(), OTHER: None}.get) as opened:
        yield opened


def visit(doors: Doors, at: int) -> socket.socket:
    return socket.create_connection(doors.addresses[at], timeout=20)


def says(there: socket.socket, word: bytes, seconds: float = 20.0) -> bytes:
    """What comes back; empty where the other end has hung up."""
    there.settimeout(seconds)
    try:
        there.sendall(word)
        return there.recv(100)
    except ConnectionError:
        return b""


def test_a_side_that_is_silent_says_it_all_later_and_the_other_side_goes_on(doors: Doors) -> None:
    client, node = visit(doors, 0), visit(doors, 1)
    assert (says(client, b"a"), says(node, b"b")) == (b"a", b"b")
    with doors.cut(OTHER, "clients", "silent"):
        late = visit(doors, 0)
        for one in (client, late):
            with pytest.raises(TimeoutError):
                says(one, b"c", seconds=0.2)
        assert says(node, b"d") == b"d"
    for one in (client, late):
        one.settimeout(20)
        assert one.recv(100) == b"c"


def test_a_side_that_refuses_hangs_up_and_lets_in_who_comes_again(doors: Doors) -> None:
    client = visit(doors, 0)
    assert says(client, b"a") == b"a"
    with doors.cut(OTHER, "clients", "refusing"):
        assert says(client, b"b") == b""
        assert says(visit(doors, 0), b"c") == b""
    assert says(visit(doors, 0), b"d") == b"d"


@pytest.mark.parametrize("manner", MANNERS)
def test_a_node_that_is_cut_off_reaches_no_other_and_itself(doors: Doors, manner: Manner) -> None:
    to_other, to_itself = visit(doors, 1), visit(doors, 2)
    assert (says(to_other, b"a"), says(to_itself, b"b")) == (b"a", b"b")
    with doors.cut(NODE, "nodes", manner):
        if manner == "refusing":
            assert says(to_other, b"c") == b""
        else:
            with pytest.raises(TimeoutError):
                says(to_other, b"c", seconds=0.2)
        assert says(to_itself, b"d") == b"d"
