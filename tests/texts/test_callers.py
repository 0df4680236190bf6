"""How much of a caller's text is left in answers, in the log and in memory? A table of kinds of texts."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Literal

import anyio
import httpx
import pytest
from inline_app import FlakyStorage, app_of

import reactivedb as rdb
from reactivedb.app import Resource, RunLog, Runtime
from reactivedb.app.admission import counted_address
from reactivedb.auth import OidcProvider
from reactivedb.auth.keys import KeySet
from reactivedb.auth.tokens import Token
from reactivedb.cli.report import Report
from reactivedb.functions import log_lines
from reactivedb.limits import KIB, MIB
from reactivedb.protocol import normalize_path
from reactivedb.sync import ClientKind, Session
from reactivedb.sync.messages import Add, Call, ModifyQuerySet, parse_client_message
from reactivedb.testing import FakeClock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

LARGE = 2 * MIB
# All that may be left, in characters or bytes, of texts of `LARGE`.
ANSWER_MAX = 40_000
LOG_MAX = 40_000
KEPT_MAX = LARGE // 4
IDLE_MAX = 64 * KIB


class Note(rdb.Document, table="notes"):
    text: str


@rdb.query
def one(ctx: rdb.QueryCtx, id: rdb.Id[Note]) -> str:
    return "a note"


@rdb.mutation
def number(ctx: rdb.MutationCtx, n: int) -> None: ...


@rdb.mutation
def either(ctx: rdb.MutationCtx, value: Literal["a", "b"] | list[int] | dict[str, int]) -> None: ...


@rdb.mutation
def anything(ctx: rdb.MutationCtx, value: rdb.Value) -> None: ...


@rdb.mutation
def by_id(ctx: rdb.MutationCtx, id: rdb.Id[Note]) -> None: ...


@rdb.mutation
def sought(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.get(rdb.Id[Note](text))


@rdb.mutation
def refused(ctx: rdb.MutationCtx, text: str) -> None:
    raise KeyError(text)


def application() -> rdb.App:
    members = (Note, one, number, either, anything, by_id, sought, refused)
    # What is asked by a long text is not kept for whoever asks again.
    return app_of(*members, limits=rdb.Limits(idle_result_size_bytes_max=IDLE_MAX))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def mutation(path: str, **args: Any) -> dict[str, Any]:
    return {"type": "Mutation", "requestId": 0, "udfPath": path, "args": [args]}


def following(path: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
    change = {"type": "Add", "queryId": 0, "udfPath": path, "args": [args], **more}
    return {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [change]}


def shown_as(token_type: str, value: str, **more: Any) -> dict[str, Any]:
    return {"type": "Authenticate", "baseVersion": 0, "tokenType": token_type, "value": value, **more}


TEXT = "x" * LARGE
SOCKET: dict[str, Callable[[], dict[str, Any]]] = {
    "path that looks like tokens": lambda: mutation("m!" + "eyJ" * (LARGE // 3) + ":f"),
    "path within the grammar": lambda: mutation("a/" * (LARGE // 2) + "a:f"),
    "name of a function": lambda: mutation("notes:" + TEXT),
    "path of an action": lambda: {**mutation(TEXT), "type": "Action"},
    "path of the system's": lambda: mutation("_system/" + TEXT),
    "path of a query": lambda: following(TEXT, {}),
    "id": lambda: mutation("notes:byId", id=TEXT),
    "id of a query": lambda: following("notes:one", {"id": TEXT}),
    "id in a function": lambda: mutation("notes:sought", text=TEXT),
    "journal of a query that fails": lambda: following("notes:none", {}, journal=json.dumps([TEXT])),
    "text for a number": lambda: mutation("notes:number", n=TEXT),
    "list for a number": lambda: mutation("notes:number", n=[TEXT] * 2),
    "control characters": lambda: mutation("notes:number", n="\x1b" * LARGE),
    "lines": lambda: mutation("notes:" + "\n" * LARGE),
    "name of an argument": lambda: mutation("notes:number", **{TEXT: 1}),
    "name of a field": lambda: mutation("notes:anything", value={"a": {TEXT: 1}}),
    "name of a special field": lambda: mutation("notes:anything", value={"$" + TEXT: 1}),
    "special value": lambda: mutation("notes:anything", value={"$bytes": TEXT + "!"}),
    "lone surrogate": lambda: mutation("notes:anything", value=TEXT + "\ud800"),
    "member of a union": lambda: mutation("notes:either", value=TEXT),
    "key of a record": lambda: mutation("notes:either", value={"é" * LARGE: 1}),
    "error of the function": lambda: mutation("notes:refused", text=TEXT),
    "session id": lambda: {"type": "Connect", "sessionId": TEXT},
    "timestamp": lambda: {"type": "Connect", "sessionId": "s", "maxObservedTimestamp": TEXT},
    "admin key": lambda: shown_as("Admin", TEXT),
    "token": lambda: shown_as("User", TEXT),
    "identity to act as": lambda: shown_as("Admin", "the key", impersonating={"tokenIdentifier": TEXT}),
    "type of a token": lambda: shown_as(TEXT, ""),
    "type of a message": lambda: {"type": TEXT},
    "component": lambda: {**mutation("notes:number"), "componentPath": TEXT},
    "request id": lambda: {**mutation("notes:number"), "requestId": TEXT},
    "request id of many digits": lambda: {**mutation("notes:number"), "requestId": 10**4_000},
    "query id": lambda: following("notes:one", {}, queryId={"a": TEXT}),
    "arguments that are a text": lambda: {**mutation("notes:number"), "args": TEXT},
}


class Kept:
    """How much more memory is held, in bytes, than when it was made."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start(1)
        self._before = tracemalloc.get_traced_memory()[0]

    def end(self) -> int:
        gc.collect()
        size_bytes = tracemalloc.get_traced_memory()[0] - self._before
        tracemalloc.stop()
        return size_bytes


class RecordingTransport:
    """A peer that keeps what it is sent."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.closed_with: tuple[int, str] | None = None
        self.writable = True

    def send(self, parts: Sequence[bytes]) -> None:
        self.texts.append(b"".join(parts))

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)


class Running:
    """A database with the log of a server."""

    def __init__(self) -> None:
        log_lines.install()
        self.runtime: Runtime = application().runtime(FlakyStorage(), clock=FakeClock())
        self.runtime.is_admin_key = lambda key: key == "the key"
        self.runtime.report.on_run = Report(secrets=("the key",)).run

    async def told(self, *messages: dict[str, Any]) -> int:
        """The length of all answers to a client that says this and leaves."""
        transport = RecordingTransport()
        session = Session(self.runtime, transport, client=ClientKind.CHUNKS)
        if messages[0]["type"] != "Connect":
            session.receive('{"type":"Connect","sessionId":"s"}')
        for message in messages:
            session.receive(json.dumps(message))
        await self.runtime.wait_until_idle()
        session.closed()
        assert transport.texts
        return sum(map(len, transport.texts)) + len((transport.closed_with or (0, ""))[1])


async def with_runtime(work: Callable[[Running], Any]) -> None:
    running = Running()
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.runtime.serve, started.set)
        await started.wait()
        await work(running)
        running.runtime.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOCKET)
async def test_little_is_left_of_a_long_text_on_a_socket(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(running: Running) -> None:
        # What is imported and made for the first time is there.
        await running.told(mutation("notes:number", n="x"))
        capsys.readouterr()
        kept = Kept()
        length = await running.told(SOCKET[kind]())
        logged = capsys.readouterr()
        assert kept.end() < KEPT_MAX
        assert length < ANSWER_MAX
        assert len(logged.err) + len(logged.out) < LOG_MAX

    await with_runtime(work)


@pytest.mark.timeout(60)
async def test_a_path_that_looks_like_many_tokens_freezes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(running: Running) -> None:
        # A hundred of those that took 6 s each.
        messages = [mutation("m!" + "eyJ" * 16_000 + ":f") for _ in range(100)]
        assert await running.told(*messages) < 100 * 2_000
        assert len(capsys.readouterr().err) < 100 * 4_000

    await with_runtime(work)


@pytest.mark.slow
async def test_twenty_different_long_paths_and_ids_are_kept_nowhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def work(running: Running) -> None:
        kept = Kept()
        for n in range(20):
            await running.told(mutation("a/" * MIB + f"a{n}:f"), following("a/" * MIB + f"a{n}:f", {}))
            await running.told(mutation("notes:byId", id=TEXT + str(n)))
        logged = capsys.readouterr().err
        assert kept.end() < KEPT_MAX
        assert len(logged) < 60 * 4_000

    await with_runtime(work)


async def test_who_listens_to_runs_is_told_a_bounded_path() -> None:
    async def work(running: Running) -> None:
        told: list[RunLog] = []
        running.runtime.report.on_run = told.append
        await running.runtime.call("query", TEXT, {})
        await running.told(mutation(TEXT), {**mutation(TEXT), "type": "Action"})
        assert len(told) == 3
        for log in told:
            assert len(log.path) < 1_100
            assert log.error is not None
            assert len(log.error.message) < 1_000

    await with_runtime(work)


def test_a_message_that_was_read_holds_a_bounded_path() -> None:
    for message in (mutation(TEXT), {**mutation(TEXT), "type": "Action"}):
        call = parse_client_message(message)
        assert isinstance(call, Call)
        assert len(call.path) == 1_025
    modified = parse_client_message(following(TEXT, {}))
    assert isinstance(modified, ModifyQuerySet)
    [change] = modified.modifications
    assert isinstance(change, Add)
    assert len(change.path) == 1_025


def test_a_path_of_the_greatest_length_is_looked_up_and_a_longer_one_refused() -> None:
    length_max = rdb.Limits().function_path_length_max
    longest = "a/" * (length_max // 2 - 2) + "b:ff"
    assert len(longest) == length_max
    assert normalize_path(longest) == longest
    for path in (longest + "f", "a" * (length_max + 1)):
        with pytest.raises(rdb.ValidationError) as caught:
            normalize_path(path)
        assert caught.value.code == "InvalidFunctionPath"
        assert len(caught.value.message) < 400


async def test_results_that_nobody_holds_count_with_the_texts_they_were_asked_by() -> None:
    async def work(running: Running) -> None:
        cache = running.runtime.cache
        for n in range(20):
            # Its function is not there, so it has a result without reading anything.
            await running.told(following("notes:none", {"text": str(n) + "x" * KIB}))
            assert cache.idle_size_bytes <= IDLE_MAX
        assert 1 < len(cache) <= 16

    await with_runtime(work)


async def test_a_journal_is_counted_as_its_clients_and_one_that_is_too_long_as_none() -> None:
    async def work(running: Running) -> None:
        admission = running.runtime.admission
        transport = RecordingTransport()
        session = Session(
            running.runtime, transport, client=ClientKind.CHUNKS, caller=admission.connect("192.0.2.1")
        )
        session.receive('{"type":"Connect","sessionId":"s"}')
        session.receive(json.dumps(following("notes:none", {}, journal="x" * 100_000)))
        # Once it is read, in turns.
        await running.runtime.wait_until_idle()
        assert 100_000 <= admission.total.held[Resource.BYTES] < 102_000
        session.receive(
            json.dumps(
                {
                    "type": "ModifyQuerySet",
                    "baseVersion": 1,
                    "newVersion": 2,
                    "modifications": [
                        {"type": "Remove", "queryId": 0},
                        following("notes:none", {}, journal="x" * 300_000)["modifications"][0],
                    ],
                }
            )
        )
        await running.runtime.wait_until_idle()
        assert admission.total.held[Resource.BYTES] < 1_000
        session.closed()
        assert admission.total.held[Resource.BYTES] == 0

    await with_runtime(work)


def test_addresses_that_are_none_are_kept_nowhere() -> None:
    kept = Kept()
    for n in range(100):
        assert counted_address("x" * 60_000 + str(n)) is None
    assert kept.end() < 1_000_000
    assert counted_address("192.0.2.1") == "192.0.2.1"
    assert counted_address("fe80::1%eth0") == "fe80::/64"


def test_names_of_keys_that_forgers_make_up_are_kept_by_their_digests() -> None:
    clock = FakeClock()
    keys = KeySet(OidcProvider("https://id.test", "app"), clock, allow_private=lambda: False)
    kept = Kept()
    tokens = (Token("", "RS256", "x" * 20_000 + str(n), "", "", (), 0.0, None, None, {}) for n in range(200))
    for token in tokens:
        keys._refuse(token)
        with pytest.raises(rdb.AuthenticationError):
            keys.known(token)
    assert kept.end() < 200 * 1_000


HTTP: dict[str, tuple[str, str, dict[str, Any], dict[str, str]]] = {
    "path in the body": ("POST", "/api/mutation", {"path": TEXT}, {}),
    "path that looks like tokens": ("POST", "/api/mutation", {"path": "m!" + "eyJ" * (LARGE // 3)}, {}),
    "path in the address": ("POST", "/api/run/" + "a/" * 30_000 + "f", {}, {}),
    "format": ("POST", "/api/query", {"path": "notes:one", "format": TEXT}, {}),
    "format that is a list": ("POST", "/api/query", {"path": "notes:one", "format": [TEXT]}, {}),
    "timestamp": ("POST", "/api/query_at_ts", {"path": "notes:one", "ts": TEXT}, {}),
    "component": ("POST", "/api/query", {"path": "notes:one", "componentPath": TEXT}, {}),
    "arguments": ("POST", "/api/query", {"path": "notes:one", "args": TEXT}, {}),
    "id": ("POST", "/api/query", {"path": "notes:one", "args": {"id": TEXT}}, {}),
    "batch": ("POST", "/api/query_batch", {"queries": TEXT}, {}),
    "token": ("POST", "/api/query", {}, {"authorization": "Bearer " + "x" * 60_000}),
    "scheme": ("POST", "/api/query", {}, {"authorization": "x" * 60_000}),
    "head": ("POST", "/api/query", {}, {"x-filler": "x" * 200_000}),
    "query": ("GET", "/api/query?path=" + "x" * 60_000, {}, {}),
    "method": ("X" * 60_000, "/api/query", {}, {}),
    "encoding": ("POST", "/api/query", {}, {"content-encoding": "x" * 60_000}),
    "length of a body": ("POST", "/echo", {}, {"content-length": "9" * 5_000}),
    "length of a refused body": ("POST", "/api/query", {}, {"content-length": "9" * 5_000, "expect": "100"}),
    "address of an HTTP action": ("GET", "/http/" + "a/" * 30_000, {}, {}),
    "address of a file": ("GET", "/api/storage/" + "a" * 60_000, {}, {}),
    "token of an upload": ("POST", "/api/storage/upload?token=" + "a" * 60_000, {}, {}),
    "address of a page": ("GET", "/" + "a/" * 30_000, {}, {}),
    "what metrics are read as": ("GET", "/metrics", {}, {"accept": "version=" + "9" * 5_000}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HTTP)
async def test_little_is_left_of_a_long_text_over_http(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    method, url, body, headers = HTTP[kind]
    async with application().open_async(":memory:") as db:
        db.runtime.report.on_run = Report().run
        transport = httpx.ASGITransport(rdb.asgi(db), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for _ in range(2):
                kept = Kept()
                answer = await client.request(method, url, json=body, headers=headers)
                status, length = answer.status_code, len(answer.content)
                del answer
                size_bytes = kept.end()
            assert status < 500
            assert kind.startswith("what") or length < ANSWER_MAX
            assert size_bytes < KEPT_MAX
    logged = capsys.readouterr()
    assert len(logged.err) + len(logged.out) < LOG_MAX


async def test_a_request_with_a_head_above_the_limit_is_refused_as_such() -> None:
    async with application().open_async(":memory:") as db:
        transport = httpx.ASGITransport(rdb.asgi(db))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for url in ("/version", "/healthz", "/http/x"):
                answer = await client.get(url, headers={"x-filler": "x" * 65_536})
                assert (answer.status_code, answer.json()["code"]) == (431, "HeadTooLarge")
            assert (await client.get("/version", headers={"x-filler": "x" * 60_000})).status_code == 200
