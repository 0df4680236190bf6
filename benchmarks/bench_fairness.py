"""How long does everybody else wait while one client asks for very much at once?

One client sends 1,000 mutations without waiting, or follows 4,000 new queries by one message. The longest of
another client's mutations meanwhile stands beside how long the whole of it takes: that is what the other
would wait if the server did one after the other.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .measure import Effort, Figure, at_most, median, ms, seconds
from .peer import SyncPeer, frame
from .processes import reactive_server

MUTATIONS = 1_000
QUERIES = 4_000


def run(effort: Effort) -> list[Figure]:
    rounds = effort.pick(3, 12)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, reactive_server(Path(folder)) as server:
        other = SyncPeer(server.url)
        account_id = other.mutate("ledger:openAccount", {"name": "ada"})
        first_topic = iter(range(0, 10**9, QUERIES))

        def mutations() -> Callable[[], None]:
            greedy = SyncPeer(server.url)
            calls = b"".join(frame(json.dumps(call).encode()) for call in mutations_of(account_id))

            def work() -> None:
                greedy.socket.sendall(calls)
                for _ in range(MUTATIONS):
                    greedy.response()

            return work

        def queries() -> Callable[[], None]:
            greedy = SyncPeer(server.url)
            change = json.dumps(following(next(first_topic))).encode()

            def work() -> None:
                greedy.send(change)
                assert b'"Transition' in greedy.receive()

            return work

        return [
            waiting(f"while another sends {MUTATIONS:,} mutations", mutations, other, rounds),
            waiting(f"while another follows {QUERIES:,} queries", queries, other, rounds),
        ]


def waiting(when: str, prepare: Callable[[], Callable[[], None]], other: SyncPeer, rounds: int) -> Figure:
    longest_s: list[float] = []
    whole_s: list[float] = []
    account_id = other.mutate("ledger:openAccount", {"name": "bob"})
    for _ in range(rounds):
        work = prepare()
        done = threading.Event()
        taken_s: list[float] = []

        def greed(work: Callable[[], None] = work, done: threading.Event = done) -> None:
            whole_s.append(seconds(work))
            done.set()

        thread = threading.Thread(target=greed)
        thread.start()
        while not done.is_set():
            began_s = time.perf_counter()
            other.mutate("ledger:add", {"accountId": account_id, "text": "hi"})
            taken_s.append(time.perf_counter() - began_s)
        thread.join()
        longest_s.append(max(taken_s))
    return Figure(
        f"longest mutation {when}",
        ms(median(longest_s)),
        f"{ms(median(whole_s))} all of it",
        median(longest_s) / median(whole_s),
        at_most(0.5),
    )


def mutations_of(account_id: str) -> list[dict[str, object]]:
    call = {"type": "Mutation", "udfPath": "ledger:add", "args": [{"accountId": account_id, "text": "hi"}]}
    return [{**call, "requestId": number} for number in range(MUTATIONS)]


def following(first: int) -> dict[str, object]:
    added = [
        {"type": "Add", "queryId": number, "udfPath": "ledger:topic", "args": [{"number": first + number}]}
        for number in range(QUERIES)
    ]
    return {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": added}
