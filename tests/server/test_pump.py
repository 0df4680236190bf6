"""The plain-ASGI transport, against a server whose `send` is ours to hold back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from reactivedb.limits import DEFAULT_LIMITS, MIB
from reactivedb.server.sockets import Pump

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Receiver:
    """Answers each text with what the test says, and writes down what happens."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        self.events: list[str] = []

    def receive(self, frame: str | bytes) -> None:
        self.events.append(str(frame))
        if frame == "raise":
            raise RuntimeError("on purpose")
        if frame == "close":
            self.pump.close(1013, "TooManyConcurrentRequests")
        else:
            self.pump.send([b"re: ", str(frame).encode()])

    def receive_binary(self) -> None:
        self.events.append("binary")

    def writable_again(self) -> None:
        self.events.append("writable")

    def closed(self) -> None:
        self.events.append("closed")


class Peer:
    """The server's side of one ASGI connection."""

    def __init__(self) -> None:
        self._to_app, self._inbox = anyio.create_memory_object_stream[dict[str, Any]](100)
        self._sent, self.sent = anyio.create_memory_object_stream[dict[str, Any]](0)
        self.receiver: Receiver | None = None

    def make(self, pump: Pump) -> Receiver:
        self.receiver = Receiver(pump)
        return self.receiver

    def tell(self, **message: Any) -> None:
        self._to_app.send_nowait({"type": "websocket.receive", **message})

    def leave(self) -> None:
        self._to_app.send_nowait({"type": "websocket.disconnect"})

    async def run(self, **limits: Any) -> None:
        with self._to_app, self._inbox, self._sent:
            pump = Pump(replace(DEFAULT_LIMITS, **limits))
            await pump.run(self.make, self._inbox.receive, self._sent.send)


async def test_messages_pass_in_order_and_the_end_is_told_once() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.run)
        for text in ("one", "two"):
            peer.tell(text=text)
            assert (await peer.sent.receive())["text"] == f"re: {text}"
        peer.tell(bytes=b"\x00")
        peer.leave()
    assert peer.receiver is not None
    assert [event for event in peer.receiver.events if event != "writable"] == [
        "one",
        "two",
        "binary",
        "closed",
    ]


async def test_it_is_not_writable_while_a_message_is_under_way() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.run)
        await anyio.wait_all_tasks_blocked()
        assert peer.receiver is not None
        pump = peer.receiver.pump
        assert pump.writable
        pump.send([b"one"])
        await anyio.wait_all_tasks_blocked()
        assert not pump.writable
        await peer.sent.receive()
        await anyio.wait_all_tasks_blocked()
        assert pump.writable
        assert peer.receiver.events[-1] == "writable"
        peer.leave()


async def test_a_close_goes_out_behind_what_was_sent() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.run)
        peer.tell(text="one")
        peer.tell(text="close")
        assert (await peer.sent.receive())["text"] == "re: one"
        closing = await peer.sent.receive()
        assert (closing["code"], closing["reason"]) == (1013, "TooManyConcurrentRequests")
    assert peer.receiver is not None
    assert peer.receiver.events[-1] == "closed"


async def test_a_peer_that_takes_nothing_is_left() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: peer.run(blocked_receiver_s=0.02))
        peer.tell(text="one")
    assert peer.receiver is not None
    assert peer.receiver.events[-2:] == ["one", "closed"]


async def test_a_peer_that_asks_without_taking_answers_is_not_read_any_further() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.run)
        for _ in range(10):
            peer.tell(text="x" * MIB)
        await anyio.wait_all_tasks_blocked()
        assert peer.receiver is not None
        assert len(peer.receiver.events) < 5
        for _ in range(10):
            await peer.sent.receive()
        peer.leave()


async def test_a_message_above_the_limit_is_refused() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: peer.run(message_size_bytes_max=10))
        peer.tell(text="x" * 11)
        assert (await peer.sent.receive())["code"] == 1009


async def test_a_receiver_that_raises_ends_its_own_connection() -> None:
    peer = Peer()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.run)
        peer.tell(text="raise")
        closing = await peer.sent.receive()
    assert (closing["code"], closing["reason"]) == (1011, "InternalServerError")
    assert peer.receiver is not None
    assert peer.receiver.events[-1] == "closed"
