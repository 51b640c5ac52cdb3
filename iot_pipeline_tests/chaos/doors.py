"""Doors in front of each node, so that it can be cut off: from clients, or from the other nodes.

A node listens at 127.0.0.N as always. Clients are told to come to 127.0.1.N and the other nodes to
127.0.2.N, where a proxy of ours listens and hands through what comes. A cut side says nothing any
more (packets that are lost), or hangs up and refuses (a port that is closed). No rights are needed.

A connection between nodes has two ends: whether it is a cut node's own is asked of the system, by
the port that it comes from. What a node says to itself goes on.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import psutil

Address = tuple[str, int]
Side = Literal["clients", "nodes"]
# How a cut side behaves: nothing arrives, or everything is refused.
Manner = Literal["silent", "refusing"]
MANNERS: tuple[Manner, ...] = ("silent", "refusing")
_Ports = tuple[int, int]
_T = TypeVar("_T")
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Door:
    """`node` stands behind it; who comes is a client or another node."""

    node: str
    side: Side
    at: Address
    leads_to: Address


@dataclass(eq=False, slots=True)
class _Passage:
    """One connection through a door."""

    door: Door
    comes_from: Address
    flows: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Doors:
    """Proxies in a thread of their own; open until `cut` says otherwise.

    Args:
        doors: all of them.
        pid_of: the process of a node, None while it does not run.
    """

    def __init__(self, doors: list[Door], pid_of: Callable[[str], int | None]) -> None:
        self._doors, self._pid_of = doors, pid_of
        self._cuts: dict[tuple[str, Side], Manner] = {}
        # Of each node that is cut off from the others, the ports of its connections, both ends.
        self._opened: dict[str, set[_Ports]] = {}
        self._passages: set[_Passage] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="doors", daemon=True)

    def __enter__(self) -> "Doors":
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    @contextlib.contextmanager
    def cut(self, node: str, side: Side, manner: Manner) -> Iterator[None]:
        """The node cannot be reached from this side meanwhile, nor reach it."""
        self._call(self._set({(node, side): manner}))
        try:
            yield
        finally:
            self._call(self._set({(node, side): None}))

    @property
    def addresses(self) -> list[Address]:
        """Where they are."""
        return [door.at for door in self._doors]

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self) -> None:
        self._servers = [
            await asyncio.start_server(self._serving(door), *door.at) for door in self._doors
        ]

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for passage in self._passages:
            passage.flows.set()
            passage.hang_up()
        while self._passages:
            await asyncio.sleep(0.01)

    async def _set(self, cuts: Mapping[tuple[str, Side], Manner | None]) -> None:
        for place, manner in cuts.items():
            if manner is None:
                self._cuts.pop(place, None)
            else:
                self._cuts[place] = manner
        await self._look_whose()
        for passage in self._passages:
            self._regulate(passage)

    def _regulate(self, passage: _Passage) -> None:
        manner = self._manner(passage)
        if manner == "silent":
            passage.flows.clear()
            return
        if manner == "refusing":
            passage.hang_up()
        passage.flows.set()

    def _manner(self, passage: _Passage) -> Manner | None:
        door = passage.door
        if door.side == "clients":
            return self._cuts.get((door.node, "clients"))
        ports = passage.comes_from[1], door.at[1]
        for node, manner in self._cut_nodes().items():
            # To the node or from it, and not both.
            if (node == door.node) != (ports in self._opened.get(node, ())):
                return manner
        return None

    def _cut_nodes(self) -> dict[str, Manner]:
        """Those that are cut off from other nodes."""
        return {node: manner for (node, side), manner in self._cuts.items() if side == "nodes"}

    async def _look_whose(self) -> None:
        # Not in this thread: it takes tenths of a second, and all doors would stand still.
        for node in self._cut_nodes():
            self._opened[node] = await asyncio.to_thread(_ports_of, self._pid_of(node))

    def _serving(
        self, door: Door
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            passage = _Passage(door, writer.get_extra_info("peername"), writers=[writer])
            self._passages.add(passage)
            try:
                if door.side == "nodes" and self._cut_nodes():
                    await self._look_whose()
                self._regulate(passage)
                await passage.flows.wait()
                if writer.transport.is_closing():
                    return
                inner = await asyncio.open_connection(*door.leads_to)
                passage.writers.append(inner[1])
                self._regulate(passage)  # it may have been cut meanwhile
                await asyncio.gather(
                    _pump(passage, reader, inner[1]), _pump(passage, inner[0], writer)
                )
            except OSError:
                pass  # the node does not run, or one of the two has hung up
            finally:
                passage.hang_up()
                self._passages.discard(passage)

        return serve


def _ports_of(pid: int | None) -> set[_Ports]:
    """Of each connection of a process, its own port and the other one."""
    # Not by address: a process that speaks IPv6, too, has it in its words.
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid).net_connections("tcp") if pid else ()
        return {(one.laddr.port, one.raddr.port) for one in found if one.raddr}
    return set()


async def _pump(
    passage: _Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data := await reader.read(_CHUNK):
        await passage.flows.wait()
        writer.write(data)
        await writer.drain()
    await passage.flows.wait()
    # The other direction has nothing to say to who is gone.
    passage.hang_up()
