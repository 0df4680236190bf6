"""How are the attacks carried out?

In a process of its own, over real sockets. What is sent lies ready as bytes, each connection sends its next
message when the server has dealt with the one before, and the process only gets what the machine has left
over: it is the server that may make the victim wait, not the attackers.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from .peer import SyncPeer, frame_head

# All of them are at one address (TEST-NET-3), as the server's proxy would say it.
FROM = "X-Forwarded-For: 203.0.113.7\r\n"
# Of fixed width, so that the size of a message is known before.
FIRST_NUMBER = 1_000_000_000
# A server that refuses is not asked again at once: that would be another attack.
RECONNECT_S = 0.1
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Message:
    """Prepared bytes. `%(n)d` in `head` becomes another number each time."""

    head: bytes
    tail: bytes = b""
    opcode: int = 0x1
    # Whether the server says something to it (`bursts` only).
    is_answered: bool = True

    def parts(self, number: int) -> tuple[bytes, bytes]:
        return self.head % {b"n": number}, self.tail


class Front:
    """What all connections of one attack have in common."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.numbers = count(FIRST_NUMBER)
        # What the server has dealt with, one item per message: appending is safe in threads.
        self.done: list[int] = []
        self.cut_off: list[int] = []
        self.is_over = False
        self._open: set[socket.socket] = set()

    @contextmanager
    def peer(self, *, headers: str = "", kind: type[SyncPeer] = SyncPeer) -> Generator[SyncPeer]:
        peer = kind(self.url, headers=FROM + headers)
        with self._kept(peer.socket):
            yield peer

    @contextmanager
    def http(self) -> Generator[socket.socket]:
        target = urlsplit(self.url)
        assert target.hostname is not None
        raw = socket.create_connection((target.hostname, target.port or 80))
        with self._kept(raw):
            yield raw

    @contextmanager
    def _kept(self, raw: socket.socket) -> Generator[None]:
        self._open.add(raw)
        try:
            yield
        finally:
            self._open.discard(raw)
            raw.close()

    def end(self) -> None:
        """Have every thread come to its end, whatever it waits for."""
        self.is_over = True
        for raw in list(self._open):
            try:
                raw.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # The server was faster.


Stream = Callable[[Front], None]


def connected_again(stream: Stream) -> Stream:
    """The stream, begun anew when the server closes its connection."""

    def run(front: Front) -> None:
        while not front.is_over:
            try:
                stream(front)
            except (AssertionError, OSError):
                if not front.is_over:
                    front.cut_off.append(1)
                    time.sleep(RECONNECT_S)

    return run


def sockets(messages: Sequence[Message], *, headers: str = "") -> Stream:
    """One socket: each message when the one before it is answered, in turns."""
    # A new connection goes on where the last one was closed.
    turns = cycle(messages)

    def stream(front: Front) -> None:
        with front.peer(headers=headers) as peer:
            while not front.is_over:
                message = next(turns)
                head, tail = message.parts(next(front.numbers))
                peer.socket.sendall(frame_head(len(head) + len(tail), opcode=message.opcode) + head)
                peer.socket.sendall(tail)
                until_answered(peer)
                front.done.append(1)

    return connected_again(stream)


def until_answered(peer: SyncPeer) -> None:
    """Raises: AssertionError: it is a `FatalError` or an `AuthError`, behind which the server closes."""
    while b'Response"' not in (text := peer.receive()[:64]):
        assert b'Error"' not in text, text


def bursts(message: Message, size: int) -> Stream:
    """One socket: that many messages at once, then as many answers."""

    def stream(front: Front) -> None:
        with front.peer() as peer:
            while not front.is_over:
                heads = [message.parts(next(front.numbers))[0] for _ in range(size)]
                peer.socket.sendall(b"".join(frame_head(len(head)) + head for head in heads))
                answers = 0
                while message.is_answered and answers < size:
                    answers += b'Response"' in peer.receive()[:64]
                front.done.extend([1] * size)

    return connected_again(stream)


def requests(messages: Sequence[Message]) -> Stream:
    """One HTTP request after the other, in turns, each over a connection of its own."""
    turns = cycle(messages)

    def stream(front: Front) -> None:
        head, tail = next(turns).parts(next(front.numbers))
        with front.http() as raw:
            raw.sendall(head)
            raw.sendall(tail)
            while raw.recv(65536):
                pass
        front.done.append(1)

    return connected_again(stream)


def post(path: str, body: bytes, *, headers: str = "", announced: int | None = None) -> Message:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body) if announced is None else announced}\r\n{FROM}{headers}\r\n"
    )
    return Message(head.encode().replace(b"%", b"%%"), body)


def call(path: str, name: str, argument: bytes) -> Message:
    """A mutation with one argument, as JSON."""
    head = b'{"type":"Mutation","requestId":%(n)d,"udfPath":"'
    return Message(head, b'%b","args":[{"%b":%b}]}' % (path.encode(), name.encode(), argument))


def send_for(prepare: Callable[[str], Sequence[Stream]], url: str, control: Connection) -> None:
    """Say when all lies ready, attack for the time that is said then, and say how much was sent."""
    take_what_is_left()
    front = Front(url)
    streams = prepare(url)
    control.send("ready")
    duration_s: float = control.recv()
    threads = [threading.Thread(target=stream, args=(front,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    time.sleep(duration_s)
    front.end()
    for thread in threads:
        thread.join(_JOIN_S)
    control.send((len(front.done), len(front.cut_off)))


def take_what_is_left() -> None:
    """Give way to the server and the victim whenever they have something to do."""
    # Linux alone has a class for it; elsewhere the lowest priority has to do.
    idle: Any = getattr(os, "SCHED_IDLE", None)
    if idle is None:
        os.nice(19)
    else:
        os.sched_setscheduler(0, idle, os.sched_param(0))
