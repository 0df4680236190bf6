"""Thousands of sessions with mistakes in them, each against one database that goes on serving a witness.

`REACTIVEDB_FUZZ_SESSIONS` makes it more of them, or fewer, and `REACTIVEDB_FUZZ_SEED` others; a failure names
the seed and the number of its session.
"""

from __future__ import annotations

import gc
import json
import logging
import os
from collections.abc import Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import psutil
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Runtime
from reactivedb.functions import log_lines
from reactivedb.limits import MIB
from reactivedb.sync import ClientKind, Session
from reactivedb.testing import FakeClock

from .grammar import NAMES, VALUES, Paths, garble, talk, unfold
from .oracle import Oracle

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SESSIONS = int(os.environ.get("REACTIVEDB_FUZZ_SESSIONS", "4700"))
SEED = os.environ.get("REACTIVEDB_FUZZ_SEED", "20261123")
WITNESSED_EVERY = 20
GROWTH_BYTES_MAX = 64 * MIB


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Line(rdb.Document, table="lines"):
    name: str
    text: str

    by_name = rdb.Index("name")


@rdb.mutation
def put(ctx: rdb.MutationCtx, name: str, text: str) -> str:
    """One row for each of a few names, so that the database stays small."""
    if name not in NAMES:
        raise rdb.ApplicationError({"code": "NoSuchName", "name": name})
    print("put", text)
    line = ctx.db.query(Line.by_name.eq(name)).first()
    if line is None:
        return ctx.db.insert(Line(name=name, text=text))
    ctx.db.patch(line.id, text=text)
    return line.id


@rdb.mutation
def nothing(ctx: rdb.MutationCtx, value: rdb.Value = None) -> rdb.Value:
    return value


@rdb.query
def text(ctx: rdb.QueryCtx, name: str) -> str | None:
    line = ctx.db.query(Line.by_name.eq(name)).first()
    return None if line is None else line.text


@rdb.query
def echo(ctx: rdb.QueryCtx, value: rdb.Value = None) -> rdb.Value:
    return value


@rdb.query
def broken(ctx: rdb.QueryCtx) -> None:
    raise RuntimeError("on purpose")


@rdb.query
def whoami(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return None if user is None else user.subject


@rdb.action
async def shout(ctx: rdb.ActionCtx, text: str) -> str:
    await anyio.lowlevel.checkpoint()
    return text.upper()


class Counter(rdb.Document, table="counters"):
    value: int


@rdb.mutation
def count(ctx: rdb.MutationCtx, value: int) -> None:
    found = ctx.db.query(Counter).first()
    if found is None:
        ctx.db.insert(Counter(value=value))
    else:
        ctx.db.patch(found.id, value=value)


@rdb.query
def counted(ctx: rdb.QueryCtx) -> int:
    found = ctx.db.query(Counter).first()
    return 0 if found is None else found.value


PATHS = Paths(
    queries=[
        ("notes:text", [{"name": name} for name in NAMES]),
        ("notes:echo", [{"value": value} for value in (1, "x" * 3000, [None])]),
        ("notes:broken", [{}]),
        ("notes:whoami", [{}]),
        ("notes:missing", [{}]),
    ],
    mutations=[
        ("notes:put", [{"name": name, "text": "hi"} for name in (*NAMES, "nobody")]),
        ("notes:nothing", [{}, {"value": 1}]),
    ],
    actions=[("notes:shout", [{"text": "hi"}])],
    admin_key="the key",
)


class Peer:
    """The other side of one session; what it hears has to be right."""

    def __init__(self, runtime: Runtime, client: ClientKind) -> None:
        self.oracle = Oracle()
        self.heard: list[bytes] = []
        self.wrong: AssertionError | None = None
        self.closed_with: tuple[int, str] | None = None
        self.writable = True
        self._caller = runtime.admission.connect("192.0.2.1")
        self.session = Session(runtime, self, client=client, caller=self._caller)

    def send(self, parts: Sequence[bytes]) -> None:
        # A transport never raises; the test looks afterwards.
        try:
            assert self.closed_with is None, "sent after the close"
            self.heard.append(b"".join(parts))
            self.oracle.hear(self.heard[-1])
        except (AssertionError, KeyError, ValueError) as error:
            self.wrong = self.wrong or AssertionError(f"{error!r} in {self.heard[-5:]}")

    def close(self, code: int, reason: str) -> None:
        assert 1000 <= code <= 1013
        assert len(reason.encode()) <= 123
        self.closed_with = (code, reason)

    def leave(self) -> None:
        self.session.closed()
        self._caller.leave()
        if self.wrong is not None:
            raise self.wrong
        assert not self.oracle.ended or self.closed_with is not None


class Witness:
    """Somebody who counts, and somebody who follows the count."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.writer, self.reader = (Peer(runtime, ClientKind.CHUNKS) for _ in range(2))
        self.value = 0
        for name, peer in (("writer", self.writer), ("reader", self.reader)):
            peer.session.receive(json.dumps({"type": "Connect", "sessionId": name}))
        follow = {"type": "Add", "queryId": 0, "udfPath": "notes:counted", "args": [{}]}
        change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [follow]}
        self.reader.session.receive(json.dumps(change))

    async def look(self) -> None:
        """Each count arrives, and none but those."""
        self.value += 1
        call = {"type": "Mutation", "requestId": self.value, "udfPath": "notes:count"}
        self.writer.session.receive(json.dumps({**call, "args": [{"value": self.value}]}))
        await self.runtime.wait_until_idle()
        seen = [
            change["value"]
            for message in map(json.loads, self.reader.heard)
            for change in message.get("modifications", [])
        ]
        assert seen in ([self.value], [0, self.value] if self.value == 1 else [self.value])
        self.reader.heard.clear()
        self.writer.heard.clear()


async def one_session(runtime: Runtime, rng: Random) -> None:
    texts = [unfold(text) for text in garble(rng, talk(rng, PATHS))]
    peer = Peer(runtime, rng.choice(list(ClientKind)))
    try:
        for text in texts:
            peer.session.receive(text)
            match rng.randrange(40):
                case 0:
                    peer.session.receive_binary()
                case 1:
                    peer.writable = not peer.writable
                    if peer.writable:
                        peer.session.writable_again()
                case 2:
                    peer.session.closed()
                case number if number < 12:
                    await anyio.lowlevel.checkpoint()
                case _:
                    pass
        if rng.random() < 0.5:
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
    finally:
        peer.leave()


@asynccontextmanager
async def running() -> Any:
    members = (Line, put, nothing, text, echo, broken, whoami, shout, Counter, count, counted)
    app = app_of(*members, limits=rdb.Limits(chunk_size_bytes=2_000, sockets_per_address_max=100))
    log_lines.install()
    runtime = app.runtime(FlakyStorage(), clock=FakeClock())
    runtime.is_admin_key = lambda key: key == "the key"
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runtime.serve, started.set)
        await started.wait()
        yield runtime
        runtime.stop()


async def test_no_session_harms_the_server_or_its_other_clients(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"REACTIVEDB_FUZZ_SEED={SEED} REACTIVEDB_FUZZ_SESSIONS={SESSIONS}")
    caplog.set_level(logging.WARNING)
    process = psutil.Process()
    async with running() as runtime:
        witness = Witness(runtime)
        resident_bytes = 0
        for number in range(SESSIONS):
            try:
                await one_session(runtime, Random(f"{SEED}:{number}"))
            except AssertionError as error:
                raise AssertionError(f"session {number} of seed {SEED}") from error
            if number % WITNESSED_EVERY == 0:
                await witness.look()
                # What functions print is not what this is about.
                capsys.readouterr()
            if number == SESSIONS // 5:
                gc.collect()
                resident_bytes = process.memory_info().rss
        await runtime.wait_until_idle()
        witness.reader.leave()
        witness.writer.leave()
        runtime.cache.check()
        assert runtime.admission.is_empty
        gc.collect()
        assert process.memory_info().rss - resident_bytes < GROWTH_BYTES_MAX
    assert [record.getMessage() for record in caplog.records] == []


def test_what_is_made_without_a_mistake_is_valid_and_values_can_be_written() -> None:
    made = [talk(Random(number), PATHS) for number in range(200)]
    assert all(messages[0]["type"] == "Connect" for messages in made)
    assert {message["type"] for messages in made for message in messages} == {
        "Connect",
        "Authenticate",
        "ModifyQuerySet",
        "Mutation",
        "Action",
        "Event",
    }
    json.dumps(VALUES)
