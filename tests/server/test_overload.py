"""Bounds on sockets and requests over real connections, and that nothing of them is left behind."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import reactivedb as rdb
from reactivedb.app import Admission
from reactivedb.limits import KIB, MIB
from reactivedb.testing import LocalIdentityProvider

from . import notes
from .test_websocket import masked, upgrade

TIMEOUT_S = 10.0
# Real connections by the dozen.
pytestmark = pytest.mark.slow
Serve = Callable[..., str]


class Live:
    """An application that is served, and its counters."""

    def __init__(self, serve: Serve, *, auth: list[Any] | None = None, **limits: Any) -> None:
        chosen = rdb.Limits(**limits)
        self.asgi = rdb.asgi(rdb.App(notes, root=__package__, limits=chosen, auth=auth or []), ":memory:")
        self.address = serve(self.asgi, limits=chosen)

    @property
    def admission(self) -> Admission:
        return self.asgi.database.runtime.admission

    @contextlib.contextmanager
    def socket(self, whose: str | None = None) -> Iterator[ClientConnection]:
        """A connection that says `Connect`, as if from that address."""
        headers = {} if whose is None else {"X-Forwarded-For": whose}
        url = f"ws://{self.address}/api/1.48.0/sync"
        with connect(url, additional_headers=headers, proxy=None) as client:
            # One that is refused may be closed by now.
            with contextlib.suppress(ConnectionClosed):
                client.send(json.dumps({"type": "Connect", "sessionId": "s", "connectionCount": 0}))
            yield client

    def query(self, whose: str | None = None) -> httpx.Response:
        headers = {} if whose is None else {"X-Forwarded-For": whose}
        body = {"path": "notes:texts", "args": {}}
        return httpx.post(f"http://{self.address}/api/query", json=body, headers=headers)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """The server has a thread of its own; each question gives it time."""
        ends = time.monotonic() + TIMEOUT_S
        while not holds():
            assert time.monotonic() < ends, self.admission.held
            httpx.get(f"http://{self.address}/version")


@pytest.fixture
def live(serve: Serve) -> Iterator[Callable[..., Live]]:
    opened: list[Live] = []

    def start(**limits: Any) -> Live:
        opened.append(Live(serve, **limits))
        return opened[-1]

    yield start
    for one in opened:
        one.wait_until(lambda admission=one.admission: admission.is_empty)


def closing_of(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=TIMEOUT_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_an_address_has_so_many_sockets_and_the_next_is_told_by_name(live: Callable[..., Live]) -> None:
    served = live(sockets_per_address_max=2)
    with served.socket("192.0.2.1"), served.socket("192.0.2.1") as second:
        with served.socket("192.0.2.1") as refused:
            code, reason = closing_of(refused)
        assert (code, reason.split(":")[0]) == (1013, "TooManyConcurrentRequests")
        assert "`sockets_per_address_max` is 2" in reason
        # Others, and this machine, have room.
        with served.socket("192.0.2.9"), served.socket(), served.socket():
            assert served.admission.held["sockets"] == 5
        second.close()
        served.wait_until(lambda: served.admission.held["sockets"] == 1)
        with served.socket("192.0.2.1") as again:
            again.send(
                json.dumps({"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []})
            )
            assert json.loads(again.recv(timeout=TIMEOUT_S))["type"] == "Transition"
    assert served.admission.refusals == {"sockets_per_address_max": 1}


def test_the_whole_server_has_so_many_sockets(live: Callable[..., Live]) -> None:
    served = live(sockets_max=2)
    with served.socket(), served.socket(), served.socket() as refused:
        assert closing_of(refused)[0] == 1013


def test_requests_over_a_bound_are_429_or_503_with_the_time_to_wait(live: Callable[..., Live]) -> None:
    served = live(requests_per_address_max=0)
    answer = served.query("192.0.2.1")
    assert (answer.status_code, answer.json()["code"]) == (429, "TooManyConcurrentRequests")
    assert answer.headers["retry-after"] == "3"
    assert "`requests_per_address_max` is 0" in answer.json()["message"]
    assert served.query().status_code == 200
    full = live(requests_max=0)
    answer = full.query()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    # Operators are let in.
    assert httpx.get(f"http://{full.address}/version").status_code == 200
    # A browser is told too.
    origin = {"Origin": "https://app.example"}
    answer = httpx.post(f"http://{full.address}/api/query", json={}, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_parts_of_messages_are_counted(live: Callable[..., Live]) -> None:
    served = live(held_size_bytes_max=MIB)
    with contextlib.ExitStack() as raws:
        peers: list[socket.socket] = []
        for _ in range(3):
            raw = raws.enter_context(socket.create_connection(served.address.split(":")))
            upgrade(raw, "/api/sync")
            peers.append(raw)
        for raw in peers[:2]:
            raw.sendall(masked(b"x" * (900 * KIB))[: 400 * KIB])
        served.wait_until(lambda: served.admission.held["held_size_bytes"] >= 790 * KIB)
        with contextlib.suppress(ConnectionError):
            peers[2].sendall(masked(b"x" * (900 * KIB))[: 800 * KIB])
        assert b"TooManyConcurrentRequests: `held_size_bytes_max`" in read_all(peers[2])


def test_fragments_of_nothing_are_counted(live: Callable[..., Live]) -> None:
    served = live(held_size_bytes_per_client_max=MIB)
    with socket.create_connection(served.address.split(":")) as raw:
        upgrade(raw, "/api/sync")
        raw.sendall(b"\x01\x80\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.sendall(b"\x00\x80\0\0\0\0" * 1000)
        assert b"TooManyConcurrentRequests: `held_size_bytes_per_client_max`" in read_all(raw)


def read_all(raw: socket.socket) -> bytes:
    raw.settimeout(TIMEOUT_S)
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := raw.recv(65536):
            data += piece
    return data


def test_who_takes_least_is_cut_off_when_too_much_waits(live: Callable[..., Live]) -> None:
    served = live(held_size_bytes_max=20 * MIB, relief_s=0.01)
    for _ in range(13):
        body = {"path": "notes:add", "args": {"text": "x" * (900 * KIB)}}
        assert httpx.post(f"http://{served.address}/api/mutation", json=body).json()["status"] == "success"
    follow = {"type": "Add", "queryId": 0, "udfPath": "notes:texts", "args": [{}]}
    change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [follow]}
    with contextlib.ExitStack() as raws:
        for _ in range(4):
            raw = raws.enter_context(socket.create_connection(served.address.split(":")))
            upgrade(raw, "/api/sync")
            raw.sendall(masked(b'{"type":"Connect","sessionId":"s"}') + masked(json.dumps(change).encode()))
        served.wait_until(lambda: served.admission.refusals["held_size_bytes_max"] >= 1)
        served.wait_until(lambda: served.admission.held["held_size_bytes"] <= 20 * MIB)
        assert served.query().status_code == 200
        # Those that are within the bound are let be.
        assert served.admission.held["sockets"] >= 1


def rude(rng: random.Random, address: str) -> None:
    """A connection that ends in one of many ways."""
    with socket.create_connection(address.split(":")) as raw:
        upgrade(raw, "/api/sync")
        says = [
            {"type": "Connect", "sessionId": str(rng.random())},
            {
                "type": "ModifyQuerySet",
                "baseVersion": 0,
                "newVersion": 1,
                "modifications": [
                    {
                        "type": "Add",
                        "queryId": number,
                        "udfPath": rng.choice(["notes:texts", "?"]),
                        "args": [{}],
                    }
                    for number in range(rng.randrange(4))
                ],
            },
            {"type": "Action", "requestId": 1, "udfPath": "notes:shout", "args": [{"text": "x"}]},
            {"type": "Mutation", "requestId": 2, "udfPath": "notes:add", "args": [{"text": "x"}]},
        ]
        data = b"".join(masked(json.dumps(message).encode()) for message in says)
        raw.sendall(data[: rng.randrange(len(data) + 1)])
        match rng.randrange(4):
            case 0:  # a reset
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                raw.sendall(b"\x88\x80\0\0\0\0")
            case 2:
                raw.sendall(b"\xff" * 20)
            case _:
                pass


@pytest.mark.slow
def test_thousands_of_connections_leave_nothing_behind(live: Callable[..., Live]) -> None:
    served, rng = live(), random.Random(11)
    with served.socket() as witness:
        for count in range(3_000):
            rude(rng, served.address)
            if count % 300 == 0:
                assert served.query().status_code == 200
        witness.send(
            json.dumps({"type": "Action", "requestId": 1, "udfPath": "notes:shout", "args": [{"text": "x"}]})
        )
        assert json.loads(witness.recv(timeout=TIMEOUT_S))["result"] == "X"
        served.wait_until(lambda: served.admission.held["sockets"] == 1)
    served.wait_until(lambda: served.admission.is_empty)


def test_messages_of_one_connection_are_read_in_order_and_others_between_them(
    live: Callable[..., Live],
) -> None:
    served = live()
    with served.socket() as greedy, served.socket() as other:
        call = {"type": "Mutation", "udfPath": "notes:add", "args": [{"text": "x"}]}
        data = b"".join(masked(json.dumps({**call, "requestId": number}).encode()) for number in range(600))
        greedy.socket.sendall(data)
        other.send(json.dumps({**call, "requestId": 0}))
        assert json.loads(other.recv(timeout=TIMEOUT_S))["type"] == "MutationResponse"
        done_before = len(served.query().json()["value"])
        answered = 0
        while answered < 600:
            message = json.loads(greedy.recv(timeout=TIMEOUT_S))
            if message["type"] == "MutationResponse":
                assert message["requestId"] == answered
                answered += 1
        assert done_before < 601


def test_what_was_received_is_done_though_its_sender_has_gone(live: Callable[..., Live]) -> None:
    served = live()
    with socket.create_connection(served.address.split(":")) as raw:
        upgrade(raw, "/api/sync")
        call = {"type": "Mutation", "udfPath": "notes:add", "args": [{"text": "x"}]}
        says = [{"type": "Connect", "sessionId": "s"}, *({**call, "requestId": n} for n in range(200))]
        raw.sendall(b"".join(masked(json.dumps(message).encode()) for message in says))
    served.wait_until(lambda: served.admission.is_empty)
    assert len(served.query().json()["value"]) == 200


def test_bodies_of_requests_are_counted_until_they_are_answered(live: Callable[..., Live]) -> None:
    served = live(held_size_bytes_max=MIB)
    body = {"path": "notes:echo", "args": {"value": "x" * (600 * KIB)}}
    for _ in range(3):
        assert httpx.post(f"http://{served.address}/api/query", json=body).status_code == 200
    with socket.create_connection(served.address.split(":")) as raw:
        raw.sendall(b"POST /api/query HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + b"x" * 600_000)
        served.wait_until(lambda: served.admission.held["held_size_bytes"] == 600_000)
        answer = httpx.post(f"http://{served.address}/api/query", json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert "`held_size_bytes_max`" in answer.json()["message"]


def test_one_user_has_one_share_over_http_from_whatever_address(live: Callable[..., Live]) -> None:
    with LocalIdentityProvider() as provider:
        auth = [provider.oidc()]
        served = live(auth=auth, requests_per_identity_max=0)
        body = {"path": "notes:texts", "args": {}}

        def ask(name: str | None, address: str) -> httpx.Response:
            headers = {"X-Forwarded-For": address}
            if name is not None:
                headers["Authorization"] = f"Bearer {provider.token(name)}"
            return httpx.post(f"http://{served.address}/api/query", json=body, headers=headers)

        for address in ("192.0.2.1", "192.0.2.2", "127.0.0.1"):
            answer = ask("ada", address)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
            assert "`requests_per_identity_max`" in answer.json()["message"]
            assert ask(None, address).status_code == 200
        assert served.admission.refusals == {"requests_per_identity_max": 3}
