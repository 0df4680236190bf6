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


def add(server: DevServer, *ranks: float, board: str = "a") -> list[str]:
    return server.mutation("cards:add", board=board, ranks=list(map(float, ranks)))


def added_pages(proxy: CuttingProxy) -> list[dict[str, Any]]:
    """The options of every page that was asked for, in order."""
    return [
        change["args"][0]["paginationOpts"]
        for passed in proxy.of_type("ModifyQuerySet")
        for change in passed.message["modifications"]
        if change["type"] == "Add"
    ]


def assert_always_one_list(states: list[dict[str, Any]], versions: list[list[str]]) -> None:
    """Each state is the beginning of the whole list as it was at some time, which never goes back."""
    time = 0
    for state in states:
        ids = state["ids"]
        assert len(set(ids)) == len(ids), "a duplicate"
        matching = [n for n in range(time, len(versions)) if versions[n][: len(ids)] == ids]
        assert matching, f"no beginning of any list since version {time}: {state}"
        time = matching[0]


@pytest.mark.parametrize("path", ["cards:pageOf", "cards:pageOfMany"])
@pytest.mark.parametrize("seed", [random.randrange(2**32) for _ in range(20)] if LONG else [1, 2])
def test_h74_writes_before_in_and_after_the_pages_leave_no_gap_and_no_duplicate(
    hook: Open, server: DevServer, path: str, seed: int
) -> None:
    print(f"seed {seed}")
    source = random.Random(seed)
    is_merge = path == "cards:pageOfMany"
    boards = ["a", "b"] if is_merge else ["a"]
    live = [id for board in boards for id in add(server, *range(0, 40, 4), board=board)]
    versions: list[list[str]] = []

    def remember() -> None:
        cards = [card for board in boards for card in server.query("cards:everything", board=board)]
        cards.sort(key=lambda card: (card["rank"], card["_creationTime"]), reverse=is_merge)
        versions.append([card["_id"] for card in cards])

    remember()
    list_ = hook(path, {"boards": boards} if is_merge else {"board": "a"}, size=4)
    list_.wait_for(status="CanLoadMore")
    for _ in range(40):
        rank = source.uniform(0, 40)
        match source.randrange(7):
            case 0:
                list_.load_more(3)
            case 1:
                server.mutation("cards:remove", id=live.pop(source.randrange(len(live))))
            case 2 | 3:
                server.mutation("cards:move", id=source.choice(live), rank=rank)
            case _:
                live += add(server, rank, board=source.choice(boards))
        remember()
    list_.load_all()
    list_.wait_for(ids=versions[-1], status="Exhausted")
    assert_always_one_list(list_.shown, versions)


def test_h75_a_page_of_more_than_twice_its_size_is_split_and_stays_complete(
    hook: Open, server: DevServer, proxy: CuttingProxy
) -> None:
    add(server, 0, 10, 20, 30)
    list_ = hook("cards:pageOf", {"board": "a"}, size=2, url=proxy.url)
    list_.wait_for(ranks=[0, 10], status="CanLoadMore")
    add(server, 1, 2)
    list_.wait_for(ranks=[0, 1, 2, 10])
    assert len(added_pages(proxy)) == 1
    add(server, 3)
    list_.wait_for(ranks=[0, 1, 2, 3, 10])
    proxy.wait_for(lambda: len(added_pages(proxy)) == 3)
    halves = added_pages(proxy)[1:]
    assert halves[0]["endCursor"] == halves[1]["cursor"]
    proxy.wait_for(lambda: any("Remove" in str(passed.message) for passed in proxy.of_type("ModifyQuerySet")))
    add(server, 1.5, 4)
    list_.wait_for(ranks=[0, 1, 1.5, 2, 3, 4, 10])
    assert all(state["ranks"] == sorted(state["ranks"]) for state in list_.shown)


def test_h76_the_last_page_grows_and_the_status_says_whether_there_is_more(
    hook: Open, server: DevServer
) -> None:
    add(server, 0, 1)
    list_ = hook("cards:pageOf", {"board": "a"}, size=2)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1], status="Exhausted")
    add(server, 2)
    list_.wait_for(ranks=[0, 1, 2], status="Exhausted")
    add(server, 3)
    list_.wait_for(ranks=[0, 1, 2, 3], status="Exhausted")
    assert list_.shown[0]["status"] == "LoadingFirstPage"


def test_h77_cursors_of_another_query_reset_the_hook_to_the_first_page(hook: Open, server: DevServer) -> None:
    add(server, *range(6))
    list_ = hook("cards:pageInOrder", {"board": "a"}, size=2)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1, 2, 3])
    server.mutation("cards:turn", board="a", direction="desc")
    list_.wait_for(ranks=[5, 4], status="CanLoadMore")
    assert any("InvalidCursor" in warning for warning in list_.warnings)
    list_.load_more(2)
    list_.wait_for(ranks=[5, 4, 3, 2])


@pytest.mark.parametrize("restart", [False, True])
def test_h78_pages_stay_where_they_end_after_a_reconnect_and_a_restart(
    hook: Open, server: DevServer, proxy: CuttingProxy, restart: bool
) -> None:
    add(server, *range(6))
    list_ = hook("cards:pageOf", {"board": "a"}, size=2, url=proxy.url)
    list_.wait_for(ranks=[0, 1], status="CanLoadMore")
    list_.load_more(2)
    list_.wait_for(ranks=[0, 1, 2, 3])
    proxy.shut_gate()
    if restart:
        server.stop()
        server.start()
    else:
        proxy.cut()
    add(server, 0.5, 2.5, 3.5)
    proxy.open_gate()
    list_.wait_for(ranks=[0, 0.5, 1, 2, 2.5, 3], status="CanLoadMore")
    again = [
        change["journal"]
        for passed in proxy.of_type("ModifyQuerySet", connection=proxy.transcript[-1].connection)
        for change in passed.message["modifications"]
    ]
    assert len(again) == 2
    assert all(again)
