"""What do large bodies and frames cost, over HTTP and over real sockets?"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from inline_app import app_of
from starlette.testclient import TestClient
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

import reactivedb as rdb
from reactivedb.server.replies import Format
from reactivedb.server.websocket import _FrameReader


@rdb.query
def length(ctx: rdb.QueryCtx, text: str) -> int:
    return len(text)


@rdb.query
def echo(ctx: rdb.QueryCtx, value: rdb.Value) -> rdb.Value:
    return value


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = app_of(length, echo, limits=rdb.Limits())
    with TestClient(rdb.asgi(app, ":memory:"), raise_server_exceptions=False) as running:
        yield running


def asked(client: TestClient, body: str, route: str = "query") -> dict[str, Any]:
    answer = client.post(f"/api/{route}", content=body.encode())
    assert answer.status_code == 200, answer.text
    return answer.json()


LISTS = "[" + ",".join(["[]"] * 70_000) + "]"


@pytest.mark.parametrize(
    "body",
    [
        '{"path":"notes:length","args":{"text":%s}}',
        '{"args":{"text":%s},"format":"json","path":"notes:length"}',
    ],
)
def test_a_body_of_lists_for_a_text_is_refused_for_its_type(client: TestClient, body: str) -> None:
    refused = asked(client, body % LISTS)
    assert refused["status"] == "error"
    assert refused["errorMessage"].startswith("ArgumentValidationError: expected `v.string()`")


def test_a_body_of_too_many_values_is_refused_by_name(client: TestClient) -> None:
    refused = asked(client, f'{{"path":"notes:echo","args":{{"value":{LISTS}}}}}')
    assert refused["errorMessage"].startswith("TooManyValues")
    refused = asked(client, f'{{"args":{{"value":{LISTS}}}}}', "run/notes/echo")
    assert refused["errorMessage"].startswith("TooManyValues")
    answer = client.post("/api/query_batch", content=f'{{"queries":[{LISTS}]}}'.encode())
    assert (answer.status_code, answer.json()["code"]) == (413, "TooManyValues")


def test_calls_of_a_large_batch_fail_by_themselves(client: TestClient) -> None:
    queries = [
        {"path": "notes:length", "args": {"text": "x" * 80_000}},
        {"path": "notes:length", "args": {"text": [[]] * 30_000}},
    ]
    results = asked(client, json.dumps({"queries": queries}), "query_batch")["results"]
    assert results[0]["value"] == 80_000
    assert results[1]["errorMessage"].startswith("ArgumentValidationError")


@pytest.mark.parametrize("form", ["json", "convex_encoded_json"])
def test_a_large_result_comes_back_as_it_went_in(client: TestClient, form: str) -> None:
    value = {"rows": [{"n": 1.5, "word": "w" * 50, "all": [None, True, {"deep": "x"}]}] * 3_000}
    body = json.dumps({"path": "notes:echo", "args": {"value": value}, "format": form})
    assert asked(client, body)["value"] == value


def test_a_packed_body_is_unpacked_in_pieces_to_its_end(client: TestClient) -> None:
    body = b'{"path":"notes:length","args":{"text":"' + b"x" * 3_000_000 + b'"}}'
    answer = client.post("/api/query", content=gzip.compress(body), headers={"content-encoding": "gzip"})
    assert answer.json()["value"] == 3_000_000


def test_large_values_are_written_in_steps_and_small_ones_at_once() -> None:
    steps = Format.PLAIN.write_in_steps(b"[" + b",".join([b'[{"a":1}]'] * 5_000) + b"]")
    assert sum(1 for _ in steps) > 100
    assert list(Format.PLAIN.write_in_steps(b"[1]")) == []


@pytest.mark.parametrize("piece", [100, 1_000, 2_000])
def test_a_frame_is_read_without_a_copy_and_what_follows_stays(piece: int) -> None:
    def frame(text: bytes) -> bytes:
        return Frame(Opcode.TEXT, text).serialize(mask=True)

    protocol = Protocol(Side.SERVER, state=State.OPEN)
    protocol.reader.__class__ = _FrameReader
    stream = frame(b"a" * 1_000) + frame(b"b" * 300) + frame(b"")
    for start in range(0, len(stream), piece):
        protocol.receive_data(stream[start : start + piece])
    texts = [bytes(event.data) for event in protocol.events_received()]
    assert texts == [b"a" * 1_000, b"b" * 300, b""]
