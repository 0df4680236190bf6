"""Which attacks are there, what may each cost, and which bounds stand against it?"""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import reactivedb as rdb
from reactivedb.limits import MIB

from .attackers import (
    FROM,
    RECONNECT_S,
    Front,
    Message,
    Stream,
    bursts,
    call,
    connected_again,
    post,
    requests,
    send_for,
    sockets,
)
from .peer import DeafPeer, SyncPeer

# Smaller than the defaults, so that an attack reaches them soon. Attackers share one address.
LIMITS: dict[str, int] = {
    "held_size_bytes_per_client_max": 24 * MIB,
    "held_size_bytes_per_identity_max": 48 * MIB,
    "held_size_bytes_per_address_max": 64 * MIB,
    # So far above the address's share that it does not stand in for it.
    "held_size_bytes_max": 384 * MIB,
    "live_results_size_bytes_max": 32 * MIB,
    "idle_result_size_bytes_max": 4 * MIB,
    "document_cache_size_bytes_max": 8 * MIB,
    "commit_history_size_bytes_max": 4 * MIB,
    # The largest documents are written before an attack, on whatever machine this is.
    "user_time_s_max": 20,
}
# What a server may hold of what strangers once sent, when they have gone.
KEPT = ("idle_result_size_bytes_max", "document_cache_size_bytes_max", "commit_history_size_bytes_max")
ADDRESS = "held_size_bytes_per_address_max"
CONTAINERS = "value_containers_max"
PATH = "function_path_length_max"
LIVE = "live_results_size_bytes_max"
# Above everything that is sent here.
LIFTED = 2**40

_DIGITS = 15 * MIB
# Each takes the better part of a second to write, of arrays that take some twenty times their text.
_BLOBS = 4
_SMALL_ARRAYS = b"[%b]" % b",".join([b"[%b]" % b",".join([b"[]"] * 8_000)] * 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One kind of caller that nobody wants."""

    # As the table says it, after "beside".
    name: str
    # Called in the attackers' process, before the time begins; gives one stream per connection.
    prepare: Callable[[str], Sequence[Stream]]
    # The fields of `Limits` that together say how much memory it may take, beside what is `KEPT`.
    held: tuple[str, ...] = (ADDRESS,)
    # Fields of `Limits`, and constants beside it: each stands against it, so it must be seen without one.
    stopped_by: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    # Whether what is logged of it is measured.
    is_logged: bool = False

    @property
    def held_bytes(self) -> int:
        return stated((*self.held, *KEPT))

    @property
    def kept_bytes(self) -> int:
        return stated(KEPT)


def stated(names: Sequence[str]) -> int:
    limits = rdb.Limits(**LIMITS)
    return sum(getattr(limits, name) for name in names)


def nobody(url: str) -> list[Stream]:
    """The machine's own noise."""
    return []


# Row 1: text


def short_paths(url: str) -> list[Stream]:
    path = "m!" + "eyJ" * 16_000 + ":f"
    return [sockets([call(path, "text", b'""')])]


def one_long_path(url: str) -> list[Stream]:
    path = "m!" + "eyJ" * 5_600_000 + ":f"
    return [sockets([call(path, "text", b'""')])]


def many_long_paths(url: str) -> list[Stream]:
    text = b"x" * 4_000_000
    head = b'{"type":"Mutation","requestId":%(n)d,"udfPath":"m%(n)d'
    path = Message(head, text + b':f","args":[{}]}')
    other = b'{"type":"Mutation","requestId":%(n)d,"udfPath":"m:f%(n)d'
    return [sockets([path, Message(other, text + b'","args":[{}]}')])]


def long_ids(url: str) -> list[Stream]:
    text = b"j57" + b"0" * 8_000_000 + b'"}]}'
    head = b'{"type":"Mutation","requestId":%(n)d,"udfPath":"targets:takeId","args":[{"id":"%(n)d'
    return [sockets([Message(head, text)])]


def long_heads(url: str) -> list[Stream]:
    token, long = "eyJ" * 20_000, "x" * 60_000

    def get(path: str, *lines: str) -> Message:
        words = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "Connection: close", f"{FROM}\r\n"])
        return Message(words.encode().replace(b"%", b"%%"))

    heads = [
        get("/api/query", f"Host: {long}"),
        get("/api/query", "Host: localhost", f"Authorization: Bearer {token}"),
        get("/api/query", "Host: localhost", f"Convex-Client: {token}"),
        get("/api/query", "Host: localhost", f"Origin: {long}"),
        get("/api/query", "Host: localhost", f"X-Request-Id: {token}"),
        get(f"/api/query?path={token}:f&args=%7B%7D", "Host: localhost"),
        get(f"/api/storage/{token}", "Host: localhost"),
    ]
    authenticate = b'{"type":"Authenticate","baseVersion":0,"tokenType":"%b","value":"%b"}'
    tokens = [Message(b"", authenticate % (kind, b"eyJ" * 5_000_000)) for kind in (b"User", b"Admin")]
    return [requests(heads), *(sockets([token]) for token in tokens), *[endless_head] * 4]


def endless_head(front: Front) -> None:
    """The head of a request that does not end."""
    piece = b"x" * MIB
    while not front.is_over:
        with front.http() as raw, contextlib.suppress(OSError):
            raw.sendall(f"GET /api/query HTTP/1.1\r\n{FROM}X-Word: ".encode())
            for _ in range(64):
                raw.sendall(piece)
            raw.recv(65536)
        front.cut_off.append(1)
        time.sleep(RECONNECT_S)


# Row 2: cost


def arrays_as(*targets: tuple[str, str]) -> Callable[[str], list[Stream]]:
    def prepare(url: str) -> list[Stream]:
        messages = [call(path, name, _SMALL_ARRAYS) for path, name in targets]
        return [sockets(messages) for _ in range(3)]

    return prepare


def arrays_by_http(url: str) -> list[Stream]:
    bodies = [
        b'{"path":"%b","format":"json","args":{"%b":%b}}' % (path, name, _SMALL_ARRAYS)
        for path, name in ((b"targets:takeText", b"text"), (b"targets:takeValue", b"value"))
    ]
    return [requests([post("/api/mutation", body) for body in bodies]) for _ in range(2)]


def deep_nesting(url: str) -> list[Stream]:
    allowed = b"[" * 60 + b"]" * 60
    many = b"[%b]" % b",".join([b"[%b]" % b",".join([allowed] * 8_000)] * 15)
    deepest = b"[" * 7_000_000 + b"]" * 7_000_000
    objects = b'{"a":' * 2_000_000 + b"1" + b"}" * 2_000_000
    return [
        sockets([call("targets:takeText", "text", many), call("targets:takeValue", "value", many)]),
        sockets([call("targets:takeValue", "value", deepest), call("targets:takeValue", "value", objects)]),
    ]


def small_messages(url: str) -> list[Stream]:
    small = Message(
        b'{"type":"Mutation","requestId":%(n)d,"udfPath":"targets:takeText","args":[{"text":"x"}]}'
    )
    event = Message(b'{"type":"Event","eventType":"a","event":%(n)d}', is_answered=False)
    return [bursts(small, 500), bursts(small, 500), bursts(event, 2_000)]


def long_numbers(url: str) -> list[Stream]:
    thousands = b"[%b]" % b",".join([b"9" * 4_000] * 3_500)
    fractions = b"[%b]" % b",".join([b"0." + b"1" * 2_000 + b"e-300"] * 7_000)
    arguments = [b"9" * _DIGITS, b"-0." + b"1" * _DIGITS, b"1e" + b"9" * _DIGITS, thousands, fractions]
    return [sockets([call("targets:takeValue", "value", one) for one in arguments])]


def query_sets(url: str) -> list[Stream]:
    def stream(front: Front) -> None:
        with front.peer() as peer:
            first = next(front.numbers) * 4_000
            added = ",".join(
                f'{{"type":"Add","queryId":{number},"udfPath":"targets:number",'
                f'"args":[{{"number":{first + number}}}]}}'
                for number in range(4_000)
            )
            change = '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":[%s]}'
            peer.send((change % added).encode())
            while b"Transition" not in peer.receive()[:64]:
                pass
        front.done.append(1)

    return [connected_again(stream)]


def bombs(url: str) -> list[Stream]:
    # Without a function it fails each time, so that its answer is not recorded for the number.
    head = b'{"type":"Mutation","requestId":7,"udfPath":"targets:missing","args":[{"text":"'
    texts = [head + b"x" * size + b'"}]}' for size in (16 * MIB, 100 * MIB)]
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    # 0x41: a text frame with the bit that says that it is compressed.
    packed = [Message(b"", deflated(text), opcode=0x41) for text in texts]
    body = gzip.compress(b'{"path":"targets:takeText","args":{"text":"%b"}}' % (b"x" * 100 * MIB))
    unpacked_at_server = post("/api/mutation", body, headers="Content-Encoding: gzip\r\n")
    return [*(sockets([message], headers=offer) for message in packed), requests([unpacked_at_server])]


def deflated(text: bytes) -> bytes:
    """A message as RFC 7692 wants it."""
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


# Row 3: memory


def live_results(url: str) -> list[Stream]:
    """4 documents of 0.96 MB, as many live results of them as the bound takes, and what decodes them."""
    writer = SyncPeer(url, headers=FROM)
    for number in range(_BLOBS):
        writer.mutate("targets:keep", {"number": number})
    writer.close()
    results = [{"number": number % _BLOBS, "variant": number} for number in range(60)]
    return [
        following("targets:kept", results),
        following("targets:length", [{"number": number} for number in range(_BLOBS)]),
    ]


def following(path: str, arguments: Sequence[Mapping[str, object]]) -> Stream:
    """One socket that reads what it is told of these queries."""

    def stream(front: Front) -> None:
        with front.peer() as peer:
            follow(peer, path, arguments)
            while peer.receive():
                front.done.append(1)

    return connected_again(stream)


def never_reading(url: str) -> list[Stream]:
    """40 sockets that follow 4 results of 1 MB each, which change all the while, and take none."""

    def deaf(first: int) -> Stream:
        def stream(front: Front) -> None:
            with front.peer(kind=DeafPeer) as peer:
                arguments = [{"number": first + number, "sizeBytes": MIB} for number in range(4)]
                follow(peer, "targets:filled", arguments)
                while not front.is_over:
                    # Fails when the server has cut it off.
                    peer.send(b'{"type":"Event","eventType":"a","event":1}')
                    front.done.append(1)
                    time.sleep(0.1)

        return connected_again(stream)

    def changing(front: Front) -> None:
        with front.peer() as peer:
            turn = peer.mutate("targets:openCounter", {"name": "turn"})
            while not front.is_over:
                peer.mutate("targets:increase", {"counterId": turn})
                time.sleep(0.2)

    return [*(deaf(4 * number) for number in range(40)), connected_again(changing)]


def large_outcomes(url: str) -> list[Stream]:
    return [sockets([call("targets:answer", "sizeBytes", b"950000")])]


def slow_uploads(url: str) -> list[Stream]:
    """40 bodies of 15 MB, of which most comes at once and the rest in small pieces."""
    begun = post("/api/mutation", b"[" + b" " * (8 * MIB), announced=15 * MIB)

    def stream(front: Front) -> None:
        with front.http() as raw:
            raw.sendall(begun.head)
            raw.sendall(begun.tail)
            front.done.append(1)
            while not front.is_over:
                raw.sendall(b" " * 1024)
                time.sleep(0.1)

    return [connected_again(stream)] * 40


def follow(peer: SyncPeer, path: str, arguments: Sequence[Mapping[str, object]]) -> None:
    added = [
        {"type": "Add", "queryId": number, "udfPath": path, "args": [args]}
        for number, args in enumerate(arguments)
    ]
    change = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": added}
    peer.send(json.dumps(change).encode())


ATTACKS = (
    Attack(name="nobody", prepare=nobody),
    Attack(name="paths of 48 KB", prepare=short_paths, is_logged=True),
    Attack(name="a path of 17 MB", prepare=one_long_path, is_logged=True),
    Attack(name="other paths of 4 MB", prepare=many_long_paths, is_logged=True, stopped_by=(PATH,)),
    Attack(name="ids of 8 MB", prepare=long_ids, is_logged=True),
    Attack(
        name="long heads and tokens",
        prepare=long_heads,
        is_logged=True,
        stopped_by=("http_head_size_bytes_max",),
    ),
    Attack(name="15 MB of arrays to a `str`", prepare=arrays_as(("targets:takeText", "text"))),
    Attack(
        name="15 MB of arrays to a `Value`",
        prepare=arrays_as(("targets:takeValue", "value")),
        stopped_by=(CONTAINERS,),
    ),
    Attack(name="15 MB of arrays by HTTP", prepare=arrays_by_http, stopped_by=(CONTAINERS,)),
    Attack(name="deep nesting", prepare=deep_nesting, stopped_by=(CONTAINERS,)),
    Attack(name="small messages", prepare=small_messages),
    Attack(name="numbers of many digits", prepare=long_numbers),
    Attack(name="4,000 queries at once", prepare=query_sets),
    Attack(
        name="compressed bombs",
        prepare=bombs,
        options=("--compression",),
        stopped_by=("message_size_bytes_max",),
    ),
    Attack(
        name="60 live results of 0.96 MB",
        prepare=live_results,
        held=(ADDRESS, LIVE),
        stopped_by=(LIVE, "idle_result_size_bytes_max", "document_cache_size_bytes_max"),
    ),
    Attack(
        name="40 sockets that never read",
        prepare=never_reading,
        held=(ADDRESS, LIVE),
        stopped_by=(ADDRESS, LIVE),
    ),
    Attack(
        name="recorded answers of 0.95 MB",
        prepare=large_outcomes,
        stopped_by=("commit_history_size_bytes_max",),
    ),
    Attack(
        name="40 slow uploads",
        prepare=slow_uploads,
        stopped_by=(ADDRESS,),
    ),
)


def carry_out(name: str, url: str, control: Connection) -> None:
    """The whole of the attackers' process."""
    attack = next(one for one in ATTACKS if one.name == name)
    send_for(attack.prepare, url, control)
