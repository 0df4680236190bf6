"""What does a message of the sync protocol say, and is it well formed?

Client messages are checked here, once, into frozen objects (section b.3); server messages are put together
as pieces of UTF-8, so that a result's JSON, which may be large, is shared by all who receive it (b.4).
Unknown fields and unknown `Event`s are ignored, everything else outside the grammar is a `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeAlias, cast

from ..errors import ProtocolError
from ..functions import CallError, without_surrogates
from ..protocol import PATH_LENGTH_MAX, decode_ts, encode_ts
from ..subscriptions import QueryChange
from ..text import quoted
from ..values import dumps, redacted, unshown

UINT32_MAX = 2**32 - 1
Parts: TypeAlias = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Connect:
    session_id: str
    max_observed_ts: int
    # Not the first connection of its session.
    is_return: bool


@dataclass(frozen=True, slots=True)
class Authenticate:
    base_version: int
    token_type: str
    value: str | None = field(repr=False)
    impersonating: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Add:
    query_id: int
    path: str
    args: object
    journal: str | None


@dataclass(frozen=True, slots=True)
class Remove:
    query_id: int


@dataclass(frozen=True, slots=True)
class ModifyQuerySet:
    base_version: int
    new_version: int
    modifications: tuple[Add | Remove, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A mutation or an action."""

    is_action: bool
    request_id: int
    path: str
    args: object

    def without_args(self) -> Call:
        """As much of it as its answer needs."""
        return Call(self.is_action, self.request_id, self.path, None)


@dataclass(frozen=True, slots=True)
class Event:
    """Telemetry; nothing is done with it."""


ClientMessage: TypeAlias = Connect | Authenticate | ModifyQuerySet | Call | Event


def parse_client_message(tree: object) -> ClientMessage:
    """Raises: ProtocolError `MalformedMessage`."""
    if not isinstance(tree, dict):
        raise _malformed("a message is a JSON object", tree)
    fields = cast("dict[str, object]", tree)
    match fields.get("type"):
        case "Mutation" | "Action" as kind:
            _check_component(fields)
            return Call(kind == "Action", _uint(fields, "requestId"), _path(fields), fields.get("args"))
        case "ModifyQuerySet":
            return _modify_query_set(fields)
        case "Connect":
            observed, count = fields.get("maxObservedTimestamp"), fields.get("connectionCount")
            observed_ts = 0 if observed is None else decode_ts(observed)
            is_return = isinstance(count, int | float) and count > 0
            return Connect(_text(fields, "sessionId"), observed_ts, is_return)
        case "Authenticate":
            return _authenticate(fields)
        case "Event":
            return Event()
        case other:
            raise _malformed(
                "`type` is Connect, Authenticate, ModifyQuerySet, Mutation, Action or Event", other
            )


def _modify_query_set(fields: dict[str, object]) -> ModifyQuerySet:
    modifications = fields.get("modifications")
    if not isinstance(modifications, list):
        raise _malformed("`modifications` is a list", modifications)
    parsed: list[Add | Remove] = []
    for item in cast("list[object]", modifications):
        if not isinstance(item, dict):
            raise _malformed("a modification is an object", item)
        change = cast("dict[str, object]", item)
        match change.get("type"):
            case "Add":
                _check_component(change)
                journal = change.get("journal")
                if journal is not None and not isinstance(journal, str):
                    raise _malformed("`journal` is a string or null", journal)
                parsed.append(Add(_uint(change, "queryId"), _path(change), change.get("args"), journal))
            case "Remove":
                parsed.append(Remove(_uint(change, "queryId")))
            case other:
                raise _malformed("a modification's `type` is Add or Remove", other)
    return ModifyQuerySet(_uint(fields, "baseVersion"), _uint(fields, "newVersion"), tuple(parsed))


def _authenticate(fields: dict[str, object]) -> Authenticate:
    token_type = _text(fields, "tokenType")
    if token_type not in ("Admin", "User", "None"):
        raise _malformed("`tokenType` is Admin, User or None", token_type)
    value = None if token_type == "None" else fields.get("value")
    if value is not None and not isinstance(value, str):
        raise _malformed("`value` is a string", unshown(value))
    if value is None and token_type != "None":
        raise _malformed("`value` is a string", value)
    impersonating = fields.get("impersonating")
    if impersonating is not None and not isinstance(impersonating, dict):
        raise _malformed("`impersonating` is an object", impersonating)
    return Authenticate(
        _uint(fields, "baseVersion"), token_type, value, cast("dict[str, Any] | None", impersonating)
    )


def _check_component(fields: dict[str, object]) -> None:
    if fields.get("componentPath") not in (None, ""):
        raise _malformed(
            "`componentPath` is absent, null or empty: there are no components", fields["componentPath"]
        )


def _uint(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= UINT32_MAX:
        raise _malformed(f"`{name}` is a whole number from 0 to 2^32 - 1", value)
    return value


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _malformed(f"`{name}` is a string", value)
    return value


def _path(fields: dict[str, object]) -> str:
    """A function's path; of one that is too long, enough to be refused."""
    return _text(fields, "udfPath")[: PATH_LENGTH_MAX + 1]


def _malformed(expected: str, got: object) -> ProtocolError:
    return ProtocolError(f"{expected}, got `{redacted(quoted(got, 1000))[:100]}`", code="MalformedMessage")


# Server messages


@dataclass(frozen=True, slots=True)
class Version:
    """Where a client stands: all three parts only grow."""

    query_set: int = 0
    identity: int = 0
    ts: int = 0

    def encode(self) -> bytes:
        return b'{"querySet":%d,"identity":%d,"ts":"%b"}' % (
            self.query_set,
            self.identity,
            encode_ts(self.ts).encode(),
        )


PING: Parts = (b'{"type":"Ping"}',)


def transition(
    start: Version, end: Version, changes: Sequence[QueryChange], removed: Sequence[int]
) -> list[bytes]:
    """One step from `start` to `end`. The results' own bytes are handed on, not copied."""
    parts = [
        b'{"type":"Transition","startVersion":%b,"endVersion":%b,"modifications":['
        % (start.encode(), end.encode())
    ]
    separator = b""
    for query_id in removed:
        parts.append(b'%b{"type":"QueryRemoved","queryId":%d}' % (separator, query_id))
        separator = b","
    for change in changes:
        result = change.result
        tail = b',"logLines":%b,"journal":%b}' % (dumps(list(result.log_lines)), dumps(result.journal))
        if result.error is None:
            assert result.json is not None
            parts.append(b'%b{"type":"QueryUpdated","queryId":%d,"value":' % (separator, change.query_id))
            parts.append(result.json)
            parts.append(tail)
        else:
            parts.append(
                b'%b{"type":"QueryFailed","queryId":%d,"errorMessage":%b%b%b'
                % (separator, change.query_id, dumps(result.error.message), _error_data(result.error), tail)
            )
        separator = b","
    parts.append(b"]}")
    return parts


def _error_data(error: CallError) -> bytes:
    # Present only for application errors: its mere presence makes the client raise ConvexError.
    return b"" if error.data is None else b',"errorData":' + error.data


def response(
    call: Call, *, value: bytes | None, error: CallError | None, log_lines: Sequence[str], ts: int
) -> list[bytes]:
    """The answer to a mutation or an action."""
    head = b'{"type":"%b","requestId":%d,' % (
        b"ActionResponse" if call.is_action else b"MutationResponse",
        call.request_id,
    )
    lines = dumps(list(log_lines))
    if error is None:
        assert value is not None
        tail = b"" if call.is_action else b',"ts":"%b"' % encode_ts(ts).encode()
        return [head + b'"success":true,"result":', value, b',"logLines":%b%b}' % (lines, tail)]
    tail = b"" if call.is_action else b',"ts":null'
    return [
        head
        + b'"success":false,"result":%b,"logLines":%b%b%b}'
        % (dumps(error.message), lines, _error_data(error), tail)
    ]


def chunks(message: bytes, size: int, transition_id: str) -> Iterator[bytes]:
    """A large transition as `TransitionChunk`s (b.6), one by one; none ends inside of a character."""
    ends = [0]
    while ends[-1] < len(message):
        end = min(ends[-1] + size, len(message))
        while end < len(message) and message[end] & 0xC0 == 0x80:
            end -= 1
        ends.append(end)
    for number, (start, end) in enumerate(pairwise(ends)):
        yield b'{"type":"TransitionChunk","chunk":%b,"partNumber":%d,"totalParts":%d,"transitionId":%b}' % (
            dumps(message[start:end].decode()),
            number,
            len(ends) - 1,
            dumps(transition_id),
        )


def chunked_size_bytes(text: bytes) -> int:
    """How long a part of a transition is inside of chunks, where it is text once more."""
    return len(text) + text.count(b'"') + text.count(b"\\")


def auth_error(message: str, *, base_version: int, attempted: bool) -> bytes:
    return dumps(
        {
            "type": "AuthError",
            "error": without_surrogates(message),
            "baseVersion": base_version,
            "authUpdateAttempted": attempted,
        }
    )


def fatal_error(message: str) -> bytes:
    return dumps({"type": "FatalError", "error": without_surrogates(message)})
