"""The direct way between a socket and a receiver, over real connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from reactivedb.limits import DEFAULT_LIMITS, KIB, MIB
from reactivedb.server.direct_socket import DirectSocket
from reactivedb.server.websocket import SOCKET_EXTENSION, ReactiveWebSocketProtocol

TIMEOUT_S = 10.0


class Echo:
    """A receiver that answers what it is told to: `big N`, `close`, `raise`, or the text itself."""

    def __init__(self, transport: DirectSocket) -> None:
        self.transport = transport
        self.gone = threading.Event()
        self.blocked = threading.Event()
        self.resumed = threading.Event()

    def receive(self, frame: str | bytes) -> None:
        assert isinstance(frame, str)
        match frame.split():
            case ["big", size]:
                self.transport.send([b"[", b"x" * int(size), b"]"])
                if not self.transport.writable:
                    self.blocked.set()
            case ["close"]:
                self.transport.send([b"last words"])
                self.transport.close(1013, "TooManyConcurrentRequests" + "é" * 200)
                self.transport.send([b"never sent"])
            case ["raise"]:
                raise RuntimeError("on purpose")
            case _:
                self.transport.send([frame.encode()])

    def receive_binary(self) -> None:
        self.transport.close(1003, "binary")

    def writable_again(self) -> None:
        self.resumed.set()

    def closed(self) -> None:
        self.gone.set()


class EchoApp:
    def __init__(self, limits: Any = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.receivers: list[Echo] = []
        self.connected = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await receive()
        await send({"type": "websocket.accept"})
        scope["extensions"][SOCKET_EXTENSION]["attach"](self.make, self.limits)

    def make(self, transport: DirectSocket) -> Echo:
        self.receivers.append(Echo(transport))
        self.connected.set()
        return self.receivers[-1]


def upgrade(raw: socket.socket, path: str = "/") -> None:
    """A handshake by hand, on a socket that then reads nothing unless told to."""
    raw.sendall(
        b"GET " + path.encode() + b" HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")


def masked(payload: bytes) -> bytes:
    """A client's text frame."""
    return Frame(Opcode.TEXT, payload).serialize(mask=True)


def open_socket(address: str, **options: Any) -> ClientConnection:
    return connect(f"ws://{address}/", max_size=None, **{"compression": None, **options})


def closing_of(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=TIMEOUT_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_messages_pass_both_ways_after_the_application_returned(serve: Callable[..., str]) -> None:
    app = EchoApp()
    with open_socket(serve(app)) as client:
        for text in ("one", "zwei", "三"):
            client.send(text)
            assert client.recv(timeout=TIMEOUT_S) == text
        client.send(["in ", "three ", "fragments"])
        assert client.recv(timeout=TIMEOUT_S) == "in three fragments"
        assert client.ping().wait(TIMEOUT_S)
    assert app.receivers[0].gone.wait(TIMEOUT_S)


@pytest.mark.parametrize("compression", [False, True])
def test_a_large_message_goes_out_in_continuation_frames(
    serve: Callable[..., str], compression: bool
) -> None:
    limits = replace(DEFAULT_LIMITS, frame_size_bytes_max=64 * KIB)
    address = serve(EchoApp(limits), compression=compression)
    with open_socket(address, compression="deflate" if compression else None) as client:
        client.send("big 200000")
        pieces = list(client.recv_streaming())
        assert len(pieces) == 4
        assert "".join(map(str, pieces)) == "[" + "x" * 200_000 + "]"


def test_a_close_follows_what_was_sent_before_and_cuts_its_reason(serve: Callable[..., str]) -> None:
    with open_socket(serve(EchoApp())) as client:
        client.send("close")
        assert client.recv(timeout=TIMEOUT_S) == "last words"
        code, reason = closing_of(client)
        assert code == 1013
        assert reason.startswith("TooManyConcurrentRequestsé")
        assert len(reason.encode()) <= 123


def test_a_receiver_that_raises_ends_its_own_connection_only(serve: Callable[..., str]) -> None:
    address = serve(EchoApp())
    with open_socket(address) as other, open_socket(address) as client:
        client.send("raise")
        assert closing_of(client) == (1011, "InternalServerError")
        other.send("still here")
        assert other.recv(timeout=TIMEOUT_S) == "still here"


def test_a_binary_message_is_told_to_the_receiver(serve: Callable[..., str]) -> None:
    with open_socket(serve(EchoApp())) as client:
        client.send(b"\x00\x01")
        assert closing_of(client) == (1003, "binary")


@pytest.mark.slow
def test_a_message_above_the_limit_is_refused_with_1009(serve: Callable[..., str]) -> None:
    limits = replace(DEFAULT_LIMITS, message_size_bytes_max=100 * KIB)
    with open_socket(serve(EchoApp(limits), limits=limits)) as client:
        client.send("x" * (2 * MIB))
        assert closing_of(client)[0] == 1009


@pytest.mark.slow
def test_text_that_is_no_utf8_is_refused_with_1007(serve: Callable[..., str]) -> None:
    with open_socket(serve(EchoApp())) as client:
        client.send(b"\xff\xfe", text=True)
        assert closing_of(client)[0] == 1007


def test_a_peer_that_takes_nothing_is_told_of_and_cut_off(serve: Callable[..., str]) -> None:
    limits = replace(DEFAULT_LIMITS, blocked_receiver_s=0.1)
    app = EchoApp(limits)
    with socket.create_connection(serve(app).split(":")) as raw:
        upgrade(raw)
        raw.sendall(masked(b"big 30000000"))
        assert app.connected.wait(TIMEOUT_S)
        assert app.receivers[0].blocked.wait(TIMEOUT_S)
        assert app.receivers[0].gone.wait(TIMEOUT_S)


def test_a_slow_peer_that_does_read_is_not_cut_off_and_becomes_writable_again(
    serve: Callable[..., str],
) -> None:
    limits = replace(DEFAULT_LIMITS, blocked_receiver_s=0.2)
    app = EchoApp(limits)
    with open_socket(serve(app)) as client:
        client.send("big 30000000")
        assert len(client.recv(timeout=TIMEOUT_S)) == 30_000_002
        assert app.receivers[0].resumed.wait(TIMEOUT_S)
        client.send("and on")
        assert client.recv(timeout=TIMEOUT_S) == "and on"


@pytest.mark.slow
def test_a_peer_that_asks_without_taking_answers_is_not_read_any_further(serve: Callable[..., str]) -> None:
    limits = replace(DEFAULT_LIMITS, blocked_receiver_s=1.0)
    app = EchoApp(limits)
    with socket.create_connection(serve(app).split(":")) as raw:
        upgrade(raw)
        raw.sendall(masked(b"big 30000000"))
        raw.settimeout(0.3)
        with pytest.raises(TimeoutError):
            raw.sendall(masked(b"x" * 60_000) * 2000)


@pytest.mark.slow
@pytest.mark.parametrize("fragments", [1, 50])
def test_a_message_that_is_large_only_unpacked_is_refused_with_1009(
    serve: Callable[..., str], fragments: int
) -> None:
    limits = replace(DEFAULT_LIMITS, message_size_bytes_max=MIB)
    app = EchoApp(limits)
    address = serve(app, limits=limits, compression=True)
    before = psutil.Process().memory_info().rss
    with open_socket(address, compression="deflate") as client:
        piece = "x" * (100 * MIB // fragments)
        with contextlib.suppress(ConnectionClosed):
            client.send([piece] * fragments)
        assert closing_of(client)[0] == 1009
    # The client is in this process too: its own hundred, and nothing like it on the other side.
    assert psutil.Process().memory_info().rss - before < 250 * MIB
    assert app.receivers[0].gone.wait(TIMEOUT_S)


def test_a_server_that_ends_says_so_and_clients_are_gone_in_a_moment() -> None:
    app = EchoApp()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws=ReactiveWebSocketProtocol, log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    with open_socket(f"127.0.0.1:{listener.getsockname()[1]}") as client:
        client.send("hi")
        assert client.recv(timeout=TIMEOUT_S) == "hi"
        server.should_exit = True
        assert closing_of(client) == (1012, "ServerRestart")
    thread.join(TIMEOUT_S)
    assert app.receivers[0].gone.is_set()
