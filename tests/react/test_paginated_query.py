"""h.74-h.78: does Convex's React hook `usePaginatedQuery` show one list, whatever is written?"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from clients.proxy import CuttingProxy
from clients.server import DevServer

from .conftest import Open

pytestmark = pytest.mark.slow
LONG = bool(os.environ.get("REACTIVEDB_LONG"))


def add(server: DevServer, board: str, *ranks: float) -> list[str]:
    return server.mutation("pages/cards:add", board=board, ranks=list(map(float, ranks)))


def added_pages(proxy: CuttingProxy) -> list[dict[str, Any]]:
    """The options of every page that was asked for, in order."""
    return [
        change["args"][0]["paginationOpts"]
        for passed in proxy.of_type("ModifyQuerySet")
        for change in passed.message["modifications"]
        if change["type"] == "Add"
    ]


Card = tuple[str, float, float]


def assert_always_one_list(
    states: list[dict[str, Any]], versions: list[list[Card]], *, descending: bool = False
) -> None:
    """Each state is the beginning of the whole list as it was at some time, which never goes back.

    And the list reaches as far as it once did: what stands before a card that was once shown is shown, too.
    """
    sign = -1 if descending else 1
    time, reach = 0, (float("-inf"), float("-inf"))
    for state in states:
        ids = state["ids"]
        assert len(set(ids)) == len(ids), "a duplicate"
        for number in range(time, len(versions)):
            shown, left = versions[number][: len(ids)], versions[number][len(ids) :]
            is_beginning = [card[0] for card in shown] == ids and [card[1] for card in shown] == state[
                "ranks"
            ]
            if is_beginning and (not left or place(left[0], sign) > reach):
                break
        else:
            pytest.fail(f"the beginning of no list since version {time} that reaches {reach}: {state}")
        time = number
        if shown:
            reach = max(reach, place(shown[-1], sign))
    statuses = [state["status"] for state in states]
    assert "LoadingFirstPage" not in statuses[1:], "the list began anew"


def place(card: Card, sign: int) -> tuple[float, float]:
    return sign * card[1], sign * card[2]


@pytest.mark.parametrize("path", ["cards:pageOf", "cards:pageOfLit", "cards:pageOfMany"])
@pytest.mark.parametrize("number", range(1, 21 if LONG else 3))
def test_h74_writes_before_in_and_after_the_pages_leave_no_gap_and_no_duplicate(
    hook: Open, server: DevServer, name: str, path: str, number: int
) -> None:
    seed = random.randrange(2**32) if LONG else number
    print(f"seed {seed}")
    source = random.Random(seed)
    is_merge = path == "cards:pageOfMany"
    boards = [f"{name} a", f"{name} b"] if is_merge else [name]
    live = [id for board in boards for id in add(server, board, *range(0, 40, 4))]
    versions: list[list[Card]] = []

    def remember() -> None:
        cards = [card for board in boards for card in server.query("pages/cards:everything", board=board)]
        if path == "cards:pageOfLit":
            cards = [card for card in cards if card["rank"] % 8 < 6]
        order = [(card["_id"], card["rank"], card["_creationTime"]) for card in cards]
        versions.append(sorted(order, key=lambda card: card[1:], reverse=is_merge))

    remember()
    list_ = hook(path, {"boards": boards} if is_merge else {"board": name}, size=4)
    list_.wait_for(status="CanLoadMore")
    for _ in range(40):
        match source.randrange(8):
            case 0:
                list_.load_more(3)
            case 1 | 2:
                server.mutation("pages/cards:remove", id=live.pop(source.randrange(len(live))))
            case 3 | 4:
                server.mutation("pages/cards:move", id=source.choice(live), rank=source.uniform(-4, 44))
            case _:
                live += add(server, source.choice(boards), source.uniform(-4, 44))
        remember()
    list_.load_all()
    list_.wait_for(ids=[card[0] for card in versions[-1]], status="Exhausted")
    # Otherwise the page has slept through it.
    assert len(list_.shown) > 10
    assert_always_one_list(list_.shown, versions, descending=is_merge)
    assert list_.warnings == []


def test_h74_cards_at_the_edges_of_pages_come_and_go(hook: Open, server: DevServer, name: str) -> None:
    ids = add(server, name, *range(10))
    list_ = hook("cards:pageOf", {"board": name}, size=4)
    list_.wait_for(ranks=[0, 1, 2, 3], status="CanLoadMore")
    list_.load_more(4)
    ranks: list[float] = [0, 1, 2, 3, 4, 5, 6, 7]
    list_.wait_for(ranks=ranks, status="CanLoadMore")
    # Away with the last card of the first page, the first of the second, and the last one shown of all.
    for gone in (3, 4, 7):
        server.mutation("pages/cards:remove", id=ids[gone])
        ranks.remove(gone)
        list_.wait_for(ranks=ranks)
    # And others to where the pages met, and just within the end. What comes behind the end is not shown.
    for rank in (3, 3.5, 4, 6.5):
        add(server, name, 7.5, rank)
        ranks = sorted([*ranks, rank])
        list_.wait_for(ranks=ranks)
    assert len(list_.shown) == 3 + 3 + 1 + 4
    list_.load_all()
    list_.wait_for(ranks=[*ranks, 7.5, 7.5, 7.5, 7.5, 8, 9], status="Exhausted")


def test_h75_a_page_of_more_than_twice_its_size_is_split_and_stays_complete(
    hook: Open, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    add(server, name, 0, 10, 20, 30)
    list_ = hook("cards:pageOf", {"board": name}, size=2, url=proxy.url)
    list_.wait_for(ranks=[0, 10], status="CanLoadMore")
    add(server, name, 1, 2)
    list_.wait_for(ranks=[0, 1, 2, 10])
    assert len(added_pages(proxy)) == 1
    add(server, name, 3)
    list_.wait_for(ranks=[0, 1, 2, 3, 10])
    proxy.wait_for(lambda: len(added_pages(proxy)) == 3)
    halves = added_pages(proxy)[1:]
    assert halves[0]["endCursor"] == halves[1]["cursor"]
    proxy.wait_for(lambda: any("Remove" in str(passed.message) for passed in proxy.of_type("ModifyQuerySet")))
    add(server, name, 1.5, 4)
    list_.wait_for(ranks=[0, 1, 1.5, 2, 3, 4, 10], status="CanLoadMore")
    # Every card stays in its place while two queries take over from one.
    assert [state["ranks"] for state in list_.shown] == [
        [],
        [0, 10],
        [0, 1, 2, 10],
        [0, 1, 2, 3, 10],
        [0, 1, 1.5, 2, 3, 4, 10],
    ]
    list_.load_all()
    list_.wait_for(ranks=[0, 1, 1.5, 2, 3, 4, 10, 20, 30], status="Exhausted")


def test_h76_the_last_page_grows_and_the_status_says_whether_there_is_more(
    hook: Open, server: DevServer, name: str
) -> None:
    add(server, name, 0, 1, 2)
    list_ = hook("cards:pageOf", {"board": name}, size=2)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(1)
    # An exactly full page does not know yet that it is the last.
    list_.wait_for(ranks=[0, 1, 2], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1, 2], status="Exhausted")
    add(server, name, 3)
    list_.wait_for(ranks=[0, 1, 2, 3], status="Exhausted")
    add(server, name, 4)
    list_.wait_for(ranks=[0, 1, 2, 3, 4], status="Exhausted")
    assert [(len(state["ids"]), state["status"]) for state in list_.shown] == [
        (0, "LoadingFirstPage"),
        (2, "CanLoadMore"),
        (2, "LoadingMore"),
        (3, "CanLoadMore"),
        (3, "LoadingMore"),
        (3, "Exhausted"),
        (4, "Exhausted"),
        (5, "Exhausted"),
    ]


def test_h77_cursors_of_another_query_reset_the_hook_to_the_first_page(
    hook: Open, server: DevServer, name: str
) -> None:
    add(server, name, *range(6))
    list_ = hook("cards:pageInOrder", {"board": name}, size=2)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1, 2, 3])
    server.mutation("pages/cards:turn", board=name, direction="desc")
    list_.wait_for(ranks=[5, 4], status="CanLoadMore")
    assert any("InvalidCursor" in warning for warning in list_.warnings)
    list_.load_more(2)
    list_.wait_for(ranks=[5, 4, 3, 2])


@pytest.mark.parametrize("loss", ["cut", "stop", "kill"])
def test_h78_pages_stay_where_they_end_after_a_reconnect_and_a_restart(
    hook: Open, server: DevServer, proxy: CuttingProxy, name: str, loss: str
) -> None:
    add(server, name, *range(6))
    list_ = hook("cards:pageOf", {"board": name}, size=2, url=proxy.url)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1, 2, 3])
    proxy.shut_gate()
    if loss == "cut":
        proxy.cut()
    else:
        getattr(server, loss)()
        server.start()
    add(server, name, 0.5, 2.5, 3.5)
    proxy.open_gate()
    list_.wait_for(ranks=[0, 0.5, 1, 2, 2.5, 3], status="CanLoadMore")
    again = [
        change["journal"]
        for passed in proxy.of_type("ModifyQuerySet", connection=proxy.transcript[-1].connection)
        for change in passed.message["modifications"]
    ]
    assert len(again) == 2
    assert all(again)
    # The list stood still meanwhile, and then took all of it at once.
    assert [state["ranks"] for state in list_.shown[-2:]] == [[0, 1, 2, 3], [0, 0.5, 1, 2, 2.5, 3]]
    list_.load_all()
    list_.wait_for(ranks=[0, 0.5, 1, 2, 2.5, 3, 3.5, 4, 5], status="Exhausted")
