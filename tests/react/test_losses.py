"""Does a page that uses every hook come through lost connections and killed servers as if nothing had been?

The losses fall at moments that a seed decides; the client's own back-off is cut short, as a browser does
that notices the network again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from clients.proxy import CuttingProxy
from clients.server import DevServer

from .conftest import HooksPage, Show, TokenDesk, counter, query
from .test_convex_auth import IN, LOADING, WAITING, subjects

pytestmark = pytest.mark.slow
LONG = bool(os.environ.get("REACTIVEDB_LONG"))
ROUNDS = 12
KILLS = 2
VALUE = "conformance/counter:value"
# Where the connection may be lost: at once, or with one of these messages on its way.
LOSSES: list[tuple[Any, str] | None] = [
    None,
    ("client", "Mutation"),
    ("client", "Action"),
    ("server", "MutationResponse"),
    ("server", "ActionResponse"),
    ("server", "Transition"),
]


def parts(name: str) -> dict[str, Any]:
    several = {side: {"query": VALUE, "args": {"name": f"{name} {side}"}} for side in ("own", "others'")}
    return {
        "auth": {"kind": "auth"},
        "me": query("members/who:amI"),
        "profile": query("members/who:profile") | {"whenSignedIn": True},
        "own": counter(f"{name} own"),
        "several": {"kind": "queries", "queries": several},
        "count": {"kind": "mutation", "mutation": "conformance/counter:increment", "optimistic": "count"},
        "list": {"kind": "list", "query": "entries:pageOf", "args": {}, "size": 5},
        "write": {"kind": "mutation", "mutation": "entries:write", "optimistic": "entry"},
        "act": {"kind": "action", "action": "entries:writeThroughAction"},
    }


@dataclass
class User:
    """Whoever sits before the page and presses everything, and somebody else who writes, too."""

    page: HooksPage
    server: DevServer
    name: str
    source: random.Random
    # The presses by what they were to do, and the keys that others have written.
    written: dict[int, int] = field(default_factory=dict)
    acted: dict[int, int] = field(default_factory=dict)
    counted: list[int] = field(default_factory=list)
    others_keys: list[int] = field(default_factory=list)

    def new_key(self) -> int:
        return self.source.randrange(2**40)

    def write(self) -> None:
        key = self.new_key()
        self.written[key] = self.page.press("write", {"key": key})

    def act(self) -> None:
        key = self.new_key()
        self.acted[key] = self.page.press("act", {"key": key})

    def count(self) -> None:
        self.counted.append(self.page.press("count", {"name": f"{self.name} own"}))

    def load_more(self) -> None:
        self.page.press("list", 3)

    def turn_query(self) -> None:
        """One query more or less."""
        self.page.put("passing", self.source.choice([None, counter(f"{self.name} others'")]))

    def another_writes(self) -> None:
        self.others_keys.append(self.new_key())
        self.server.mutation("entries:write", key=self.others_keys[-1])
        self.server.mutation("conformance/counter:increment", name=f"{self.name} others'")

    def do_something(self, *, while_down: bool = False) -> None:
        deeds = [self.write, self.act, self.count, self.load_more, self.turn_query]
        self.source.choice(deeds if while_down else [*deeds, self.another_writes])()

    def some_deeds(self, *, while_down: bool = False) -> None:
        for _ in range(self.source.randrange(4)):
            self.do_something(while_down=while_down)


def lose(user: User, proxy: CuttingProxy) -> None:
    """Lose the connection with the deeds around it in flight."""
    loss = user.source.choice(LOSSES)
    rule = proxy.cut_before(loss[0], type=loss[1]) if loss else None
    user.write()
    user.act()
    if rule is None:
        proxy.cut()
    else:
        proxy.wait_for(lambda: rule.done)


def come_back(page: HooksPage, *, settled: bool = True) -> None:
    page.until(
        """settled => {
             window.dispatchEvent(new Event("online"));
             const state = client.connectionState();
             return state.isWebSocketConnected && !(settled && state.hasInflightRequests);
           }""",
        settled,
    )


@pytest.mark.parametrize("number", range(1, 21 if LONG else 3))
def test_a_page_with_every_hook_ends_as_the_server_stands_and_nobody_noticed(
    show: Show, server: DevServer, proxy: CuttingProxy, desk: TokenDesk, name: str, number: int
) -> None:
    seed = random.randrange(2**32) if LONG else number
    print(f"seed {seed}")
    # Each token is replaced after two seconds, so that some change hands while the connection is down.
    desk.issue = lambda user, _fresh: desk.provider.token(user, expires_in_s=12)
    page = show(parts(name), auth=True, user="ada", url=proxy.url)
    user = User(page, server, name, random.Random(seed))
    page.wait_for("several", {"own": 0, "others'": 0})
    kills = user.source.sample(range(ROUNDS), KILLS)
    for turn in range(ROUNDS):
        user.some_deeds()
        if turn in kills:
            server.kill()
            user.some_deeds(while_down=True)
            server.start()
        else:
            lose(user, proxy)
        user.some_deeds()
        come_back(page, settled=user.source.random() < 0.5)
    come_back(page)
    assert_as_the_server_stands(page, server, user)
    assert_nobody_noticed(page, desk)
    assert len(proxy.handshakes) > ROUNDS // 2
    assert any(not passed.delivered for passed in proxy.transcript)


def assert_as_the_server_stands(page: HooksPage, server: DevServer, user: User) -> None:
    entries = server.query("entries:everything")
    by_key = {entry["key"]: entry for entry in entries}
    times = Counter(entry["key"] for entry in entries)
    for key, press in user.written.items():
        assert times[key] == 1
        assert page.end_of(press) == {"value": by_key[key]["_id"]}
        assert by_key[key]["author"] == "ada"
    assert all(times[key] == 1 for key in user.others_keys)
    for key, press in user.acted.items():
        # An action is not done again: its caller is told, and the write may have happened or not.
        end = page.end_of(press)
        if "value" in end:
            assert (times[key], by_key[key]["_id"]) == (1, end["value"])
        else:
            assert "Connection lost while action was in flight" in end["error"]
            assert times[key] <= 1
    assert [page.end_of(press) for press in user.counted] == [
        {"value": number + 1} for number in range(len(user.counted))
    ]
    own, others = len(user.counted), len(user.others_keys)
    page.wait_for("own", own)
    page.wait_for("several", {"own": own, "others'": others})
    assert [server.query(VALUE, name=f"{user.name} {side}") for side in ("own", "others'")] == [own, others]
    page.until("() => (window.press('list', 0, 50), window.shown.list.at(-1).status === 'Exhausted')")
    page.until(
        "ids => JSON.stringify(window.shown.list.at(-1).results.map((entry) => entry._id)) === ids",
        page.evaluate("ids => JSON.stringify(ids)", [entry["_id"] for entry in entries]),
    )


def assert_nobody_noticed(page: HooksPage, desk: TokenDesk) -> None:
    ada = f"{desk.provider.issuer}|ada"
    assert page.shown("auth") == [WAITING, IN]
    assert page.shown("me") == [LOADING, ada]
    assert subjects(page) == [LOADING, "ada"]
    loading, *counts = page.shown("own")
    assert loading == LOADING
    assert counts == sorted(set(counts)), "a count that was shown was taken back"
    assert not [message for message in page.messages if message.startswith("uncaught")]
    assert not any("error" in str(moment) for moment in page.moments)
    statuses = [state["status"] for state in page.shown("list")]
    # Pages that were loaded stay: no lost cursor took the list back to its beginning.
    assert "LoadingFirstPage" not in statuses[1:]
    for state in page.shown("list"):
        # Neither a row twice nor, across a reconnect, the real one beside what was shown in its place.
        keys = [entry["key"] for entry in state["results"]]
        assert len(set(keys)) == len(keys)
