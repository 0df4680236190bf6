"""Hundreds of real sockets that send wrong frames, or right frames with mistakes in them, to one server.

`REACTIVEDB_FUZZ_SOCKETS` makes it more of them, or fewer, and `REACTIVEDB_FUZZ_SEED` others; a failure names
the seed and the number of its socket.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import psutil
import pytest
from clients.probe import Probe, add
from clients.server import DevServer
from server.test_websocket import upgrade
from websockets.frames import Frame, Opcode

from reactivedb.limits import MIB

from .grammar import Paths, garble, talk, unfold
from .oracle import Oracle

pytestmark = pytest.mark.slow

SOCKETS = int(os.environ.get("REACTIVEDB_FUZZ_SOCKETS", "300"))
SEED = os.environ.get("REACTIVEDB_FUZZ_SEED", "20261123")
WITNESSED_EVERY = 10
DEADLINE_S = 10.0
GROWTH_BYTES_MAX = 48 * MIB
# What a close frame may hold (RFC 6455, section 7.4).
CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013}

PATHS = Paths(
    queries=[
        ("counter:value", [{"name": name} for name in "ab"]),
        ("echo:fromQuery", [{"value": value} for value in (1, "x" * 3000, [None])]),
        ("failing:missing", [{}]),
    ],
    mutations=[
        ("counter:increment", [{"name": name} for name in "ab"]),
        ("echo:fromMutation", [{"value": 1}]),
    ],
    actions=[("echo:fromAction", [{"value": "hi"}])],
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DevServer]:
    running = DevServer(tmp_path / "data")
    running.start()
    try:
        yield running
    finally:
        running.kill()
        print(running.log[-5000:])


def encoded(text: str) -> bytes:
    # A lone surrogate cannot be sent as UTF-8; sent like this, it is no UTF-8.
    return text.encode("utf-8", "surrogatepass")


def whole(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin=final).serialize(mask=True)


def frames_of(rng: Random, text: str) -> list[bytes]:
    """A message as one frame, or in fragments."""
    data = encoded(text)
    if rng.random() < 0.8 or len(data) < 4:
        return [whole(Opcode.TEXT, data)]
    first, second = sorted(rng.sample(range(len(data) + 1), 2))
    return [
        whole(Opcode.TEXT, data[:first], final=False),
        whole(Opcode.CONT, data[first:second], final=False),
        whole(Opcode.CONT, data[second:]),
    ]


def wrong_frame(rng: Random) -> bytes:
    """A frame that no client sends."""
    payload = rng.randbytes(rng.choice([0, 1, 5, 125, 300]))
    key = b"\0\0\0\0"
    match rng.randrange(12):
        case 0:  # an opcode that is none
            return (
                bytes((0x80 | rng.choice([3, 4, 7, 0xB, 0xF]), 0x80 | len(payload[:100])))
                + key
                + payload[:100]
            )
        case 1:  # a reserved bit
            return bytes((0x81 | rng.choice([0x40, 0x20, 0x10]), 0x82)) + key + b"{}"
        case 2:  # unmasked
            return b"\x81\x02{}"
        case 3:  # a control frame in fragments, or above its size
            return rng.choice([b"\x09\x80" + key, b"\x89\xfe\x00\xff" + key + bytes(255)])
        case 4:  # a continuation of nothing
            return whole(Opcode.CONT, payload)
        case 5:  # another message within one
            return whole(Opcode.TEXT, b"{", final=False) + whole(Opcode.TEXT, b"}")
        case 6:
            return whole(Opcode.TEXT, b'{"type":"Event","event":"\xff\xfe\xc0"}')
        case 7:  # a close without reason in the world
            code = rng.choice([0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
            return whole(Opcode.CLOSE, rng.choice([b"\x03", struct.pack("!H", code), b"\x03\xe8\xff\xff"]))
        case 8:
            return whole(Opcode.BINARY, payload)
        case 9:  # a size that is a lie, or too large
            size = rng.choice([2**63, 2**62, 18 * MIB, 2**40])
            return b"\x81\xff" + struct.pack("!Q", size) + key + payload
        case 10:
            return whole(Opcode.PING, payload[:125]) * rng.choice([1, 200])
        case _:
            return payload


def stream_of(rng: Random) -> bytes:
    """All that one client sends."""
    frames = [frame for text in garble(rng, talk(rng, PATHS)) for frame in frames_of(rng, unfold(text))]
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        frames.insert(rng.randrange(len(frames) + 1), wrong_frame(rng))
    data = b"".join(frames)
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.15 else data


def check_answer(data: bytes) -> None:
    """What the server sent: sound frames, sound messages, at most one close."""
    oracle = Oracle()
    message = b""
    closed = False
    position = 0
    while position + 2 <= len(data):
        first, second = data[position], data[position + 1]
        assert not first & 0x70, "reserved bits"
        assert not second & 0x80, "servers do not mask"
        size, start = second, position + 2
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        payload = data[start : start + size]
        if len(payload) < size:
            return  # The connection was lost in between, as it may be.
        position = start + size
        opcode = first & 0x0F
        # Behind a close there may still be an answer to a ping (RFC 6455, section 5.5.1).
        assert not closed or opcode == Opcode.PONG, "something behind the close"
        if opcode >= 8:
            assert size <= 125
            assert first & 0x80
            closed |= opcode == Opcode.CLOSE
            if opcode == Opcode.CLOSE and payload:
                assert int.from_bytes(payload[:2], "big") in CLOSE_CODES
                payload[2:].decode()
            continue
        assert opcode == (Opcode.CONT if message else Opcode.TEXT)
        message += payload
        if first & 0x80:
            oracle.hear(message)
            message = b""


def one_socket(server: DevServer, rng: Random) -> None:
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as raw:
        upgrade(raw, "/api/1.48.0/sync")
        data = stream_of(rng)
        with contextlib.suppress(ConnectionError):
            # In pieces, so that frames are cut anywhere.
            step = rng.choice([1_000_000, 1_000_000, 7, 100])
            for start in range(0, min(len(data), 50 * step), step):
                raw.sendall(data[start : start + step])
            if rng.random() < 0.1:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            raw.shutdown(socket.SHUT_WR)
            # The server lets go of whoever will say nothing more.
            while piece := raw.recv(65536):
                received += piece
    check_answer(received)


class Witness:
    """Somebody who counts over one socket, and somebody who follows the count over another."""

    def __init__(self, server: DevServer) -> None:
        self.writer, self.reader = Probe(server.url), Probe(server.url)
        self.writer.hello()
        self.reader.hello()
        self.reader.modify(add(0, "counter:value", name="witness"))
        self.reader.until("Transition")
        self.value = 0

    def look(self) -> None:
        self.writer.done("counter:increment", name="witness")
        self.value += 1
        self.reader.until("Transition")
        assert self.reader.results[0] == self.value

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


def held(server: DevServer) -> dict[str, float]:
    """What the server counts as held for its clients."""
    text = httpx.get(f"{server.url}/metrics").text
    found = re.findall(
        r"(?m)^reactivedb_(sockets|followed_queries|requests_under_way|held_bytes) ([0-9.]+)", text
    )
    assert len(found) == 4, text
    return {name: float(value) for name, value in found}


def test_no_frame_harms_the_server_or_its_other_clients(server: DevServer) -> None:
    print(f"REACTIVEDB_FUZZ_SEED={SEED} REACTIVEDB_FUZZ_SOCKETS={SOCKETS}")
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    witness = Witness(server)
    resident_bytes = 0
    for number in range(SOCKETS):
        try:
            one_socket(server, Random(f"{SEED}:{number}"))
        except (AssertionError, TimeoutError, ValueError) as error:
            raise AssertionError(f"socket {number} of seed {SEED}") from error
        if number % WITNESSED_EVERY == 0:
            witness.look()
        if number == SOCKETS // 4:
            resident_bytes = process.memory_info().rss
    assert process.memory_info().rss - resident_bytes < GROWTH_BYTES_MAX
    witness.close()
    for _ in range(100):
        if not any(held(server).values()):
            break
    assert held(server) == dict.fromkeys(held(server), 0.0)
    server.stop()
    assert "Traceback" not in server.log
    assert "broke its session" not in server.log
