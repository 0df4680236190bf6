"""Do Convex's React hooks show what they show in front of a Convex deployment, state by state?"""

from __future__ import annotations

from typing import Any

import pytest
from clients.proxy import CuttingProxy
from clients.server import DevServer

from .conftest import SKIPPED, HooksPage, Show, counter, query

pytestmark = pytest.mark.slow
LOADING = "(loading)"
VALUE = "conformance/counter:value"
INCREMENT = "conformance/counter:increment"


def increment(server: DevServer, name: str, by: int = 1) -> None:
    server.mutation(INCREMENT, name=name, by=by)


def changes(proxy: CuttingProxy, kind: str) -> list[dict[str, Any]]:
    """Every `Add` or `Remove` that the page has sent, in order."""
    return [
        change
        for passed in proxy.of_type("ModifyQuerySet")
        for change in passed.message["modifications"]
        if change["type"] == kind
    ]


def told_about(proxy: CuttingProxy, query_id: int) -> list[str]:
    """What the server has said about a query."""
    return [
        change["type"]
        for passed in proxy.of_type("Transition")
        for change in passed.message["modifications"]
        if change["queryId"] == query_id
    ]


def test_use_query_shows_loading_and_then_every_value_once(show: Show, server: DevServer, name: str) -> None:
    page = show({"n": counter(name)})
    for value in range(5):
        page.wait_for("n", value)
        increment(server, name)
    page.wait_for("n", 5)
    assert page.shown("n") == [LOADING, 0, 1, 2, 3, 4, 5]
    assert page.messages == []


def test_use_query_with_skip_leaves_nothing_on_the_wire(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    page = show({"n": SKIPPED, "fence": counter(f"{name} fence")}, url=proxy.url)
    page.wait_for("fence", 0)
    assert [added["args"] for added in changes(proxy, "Add")] == [[{"name": f"{name} fence"}]]
    page.put("n", counter(name))
    page.wait_for("n", 0)
    page.put("n", SKIPPED)
    page.wait_for("n", LOADING)
    query_id = changes(proxy, "Add")[-1]["queryId"]
    proxy.wait_for(lambda: told_about(proxy, query_id)[-1:] == ["QueryRemoved"])
    assert changes(proxy, "Remove") == [{"type": "Remove", "queryId": query_id}]
    # A page's queries move in one step: what happened before the fence's update would be here with it.
    increment(server, name)
    increment(server, f"{name} fence")
    page.wait_for("fence", 1)
    assert told_about(proxy, query_id) == ["QueryUpdated", "QueryRemoved"]
    # Back again, and nothing of before is shown in the meantime.
    page.put("n", counter(name))
    page.wait_for("n", 1)
    assert page.shown("n") == [LOADING, 0, LOADING, 1]


def test_use_query_never_shows_one_arguments_value_for_another(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    increment(server, f"{name} a", by=5)
    increment(server, f"{name} b", by=7)
    page = show({"n": counter(f"{name} a")}, url=proxy.url)
    page.wait_for("n", 5)
    page.put("n", counter(f"{name} b"))
    page.wait_for("n", 7)
    increment(server, f"{name} a")
    increment(server, f"{name} b")
    page.wait_for("n", 8)
    assert page.shown("n") == [LOADING, 5, LOADING, 7, 8]
    page.put("n", None)
    # Off the page, off the wire.
    proxy.wait_for(lambda: len(changes(proxy, "Remove")) == 2)


def test_use_query_throws_the_error_of_its_function_and_recovers(
    show: Show, server: DevServer, name: str
) -> None:
    page = show({"n": query("conformance/counter:valueUpTo", name=name, limit=1), "m": counter(name)})
    page.wait_for("n", 0)
    increment(server, name, by=2)
    page.wait_for("m", 2)
    page.until("() => document.getElementById('n').textContent.includes('error')")
    error = page.shown("n")[2]
    assert error["error"].startswith("[CONVEX Q(conformance/counter:valueUpTo)] ")
    assert "above 1" in error["error"]
    # The boundary tries again, once the client has let go of what the page holds no more: it fails anew.
    page.until(
        """([path, args]) => {
             try { return window.client.watchQuery(path, args).localQueryResult() === undefined; }
             catch { return false; }
           }""",
        ["conformance/counter:valueUpTo", {"name": name, "limit": 1}],
    )
    page.press("n again")
    page.until("() => window.shown.n.length === 5")
    assert page.shown("n")[:4] == [LOADING, 0, error, LOADING]
    assert "above 1" in page.shown("n")[4]["error"]
    increment(server, name, by=-1)
    page.wait_for("m", 1)
    page.press("n again")
    page.wait_for("n", 1)


def test_use_query_throws_the_data_of_an_application_error(show: Show) -> None:
    data = {"code": "Full", "nested": [None, 1.5]}
    page = show({"told": query("conformance/failing:toldByQuery", data=data)})
    page.wait_for("told", {"data": data})


def test_parts_of_a_page_never_contradict_one_another(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    names = {"a": f"{name} a", "b": f"{name} b"}
    both = {side: {"query": VALUE, "args": {"name": each}} for side, each in names.items()}
    parts = {side: counter(each) for side, each in names.items()}
    page = show(parts | {"both": {"kind": "queries", "queries": both}}, url=proxy.url)
    page.wait_for("both", {"a": 0, "b": 0})
    for amount in range(1, 21):
        server.mutation("conformance/counter:transfer", source=names["a"], target=names["b"], amount=amount)
    page.wait_for("both", {"a": -210, "b": 210})
    complete = [moment for moment in page.moments if LOADING not in (moment.get("a"), moment.get("b"))]
    assert len(complete) > 2
    for moment in complete:
        assert moment["a"] + moment["b"] == 0
        assert moment["both"] == {"a": moment["a"], "b": moment["b"]}
    # Two hooks that ask the same are one query.
    assert len(changes(proxy, "Add")) == 2


def test_use_queries_shows_values_and_errors_side_by_side(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    def asked(**paths: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        queries = {key: {"query": path, "args": args} for key, (path, args) in paths.items()}
        return {"kind": "queries", "queries": queries}

    increment(server, f"{name} one")
    one = (VALUE, {"name": f"{name} one"})
    two = (VALUE, {"name": f"{name} two"})
    told = ("conformance/failing:toldByQuery", {"data": [1]})
    plain = ("conformance/failing:plainQuery", {})
    page = show({"q": asked(one=one, told=told, plain=plain)}, url=proxy.url)
    page.wait_for("q", {"one": 1, "told": {"data": [1]}})
    shown = page.shown("q")
    assert shown[0] == {"one": LOADING, "told": LOADING, "plain": LOADING}
    assert "a plain failure" in shown[-1]["plain"]["error"]
    page.put("q", asked(one=one, two=two))
    page.wait_for("q", {"one": 1, "two": 0})
    # What stays was neither asked for again nor taken off the page for a moment.
    assert [state["one"] for state in page.shown("q")[1:]] == [1] * (len(page.shown("q")) - 1)
    assert all(set(state) == {"one", "two"} for state in page.shown("q")[len(shown) :])
    assert len(changes(proxy, "Add")) == 4
    proxy.wait_for(lambda: len(changes(proxy, "Remove")) == 2)
    increment(server, f"{name} two")
    page.wait_for("q", {"one": 1, "two": 1})
    page.put("q", asked())
    page.wait_for("q", {})
    proxy.wait_for(lambda: len(changes(proxy, "Remove")) == 4)


def test_use_mutation_gives_the_result_or_the_error_of_the_function(
    show: Show, server: DevServer, name: str
) -> None:
    page = show(
        {
            "n": counter(name),
            "add": {"kind": "mutation", "mutation": INCREMENT},
            "fail": {"kind": "mutation", "mutation": "conformance/counter:incrementThenFail"},
            "told": {"kind": "mutation", "mutation": "conformance/failing:toldByMutation"},
        }
    )
    page.wait_for("n", 0)
    assert page.call("add", {"name": name, "by": 2}) == {"value": 2}
    # Its own write is on the page when a mutation has ended.
    assert page.shown("n") == [LOADING, 0, 2]
    assert "must be undone" in page.call("fail", {"name": name})["error"]
    assert page.call("told", {"data": {"n": 1}}) == {"data": {"n": 1}}
    assert "ArgumentValidationError" in page.call("add", {"name": 5})["error"]
    assert page.call("add", {"name": name}) == {"value": 3}
    assert page.shown("n") == [LOADING, 0, 2, 3]


def counting(name: str) -> dict[str, Any]:
    return {
        "n": counter(name),
        "add": {"kind": "mutation", "mutation": INCREMENT, "optimistic": "count"},
        "fail": {
            "kind": "mutation",
            "mutation": "conformance/counter:incrementThenFail",
            "optimistic": "count",
        },
    }


def pressed(page: HooksPage, button: str, name: str, *, shows: int) -> int:
    """Press, and wait until that value shows."""
    press = page.press(button, {"name": name})
    page.wait_for("n", shows)
    return press


def test_an_optimistic_value_shows_before_the_answer_and_is_replaced_unseen(
    show: Show, proxy: CuttingProxy, name: str
) -> None:
    page = show(counting(name), url=proxy.url)
    page.wait_for("n", 0)
    proxy.hold_back()
    # One by one: React may draw the values of two presses at once.
    presses = [pressed(page, "add", name, shows=value) for value in (1, 2, 3)]
    assert proxy.of_type("MutationResponse") == []
    proxy.let_go()
    assert [page.end_of(press) for press in presses] == [{"value": 1}, {"value": 2}, {"value": 3}]
    assert page.shown("n") == [LOADING, 0, 1, 2, 3]


def test_an_optimistic_value_of_a_failed_mutation_is_rolled_back_alone(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    page = show(counting(name), url=proxy.url)
    page.wait_for("n", 0)
    proxy.hold_back()
    buttons = ("add", "fail", "add")
    presses = [pressed(page, button, name, shows=value) for value, button in enumerate(buttons, 1)]
    proxy.let_go()
    ends = [page.end_of(press) for press in presses]
    assert [ends[0], ends[2]] == [{"value": 1}, {"value": 2}]
    assert "must be undone" in ends[1]["error"]
    assert page.shown("n") == [LOADING, 0, 1, 2, 3, 2]
    assert server.query(VALUE, name=name) == 2


def test_an_optimistic_row_is_replaced_by_the_real_one_in_one_step(
    show: Show, server: DevServer, proxy: CuttingProxy
) -> None:
    known = [entry["key"] for entry in server.query("entries:everything")]
    page = show(
        {
            "list": {"kind": "list", "query": "entries:pageOf", "args": {}, "size": 100},
            "write": {"kind": "mutation", "mutation": "entries:write", "optimistic": "entry"},
            "fail": {"kind": "mutation", "mutation": "entries:writeThenFail", "optimistic": "entry"},
        },
        url=proxy.url,
    )
    page.wait_for("list", {"status": "Exhausted"})
    for kept, button in ((True, "write"), (False, "fail")):
        before = page.shown("list")[-1]["results"]
        count = len(page.shown("list"))
        key = 1000 + len(known)
        proxy.hold_back()
        press = page.press(button, {"key": key})
        page.until("key => window.shown.list.at(-1).results[0]?.key === key", key)
        proxy.let_go()
        end = page.end_of(press)
        first, *rest = [state["results"] for state in page.shown("list")[count:]]
        assert [entry["author"] for entry in first[:1]] == ["(optimistic)"]
        assert first[1:] == before
        if kept:
            known.insert(0, key)
            assert end["value"] == rest[0][0]["_id"]
        else:
            assert end == {"data": {"refused": key}}
            assert rest[0] == before
        assert len(rest) == 1
        assert [entry["key"] for entry in rest[0]] == known


def test_an_optimistic_value_is_not_counted_twice_when_its_answer_was_lost(
    show: Show, server: DevServer, proxy: CuttingProxy, name: str
) -> None:
    page = show(counting(name), url=proxy.url)
    page.wait_for("n", 0)
    proxy.hold_back()
    presses = [page.press("add", {"name": name}) for _ in range(2)]
    page.wait_for("n", 2)
    cut = proxy.cut_before("server", type="MutationResponse")
    proxy.let_go()
    assert [page.end_of(press) for press in presses] == [{"value": 1}, {"value": 2}]
    assert cut.done
    # Both were committed before the client came back with its own count of them.
    assert page.shown("n") == [LOADING, 0, 1, 2]
    assert server.query(VALUE, name=name) == 2


def test_an_optimistic_value_outlives_a_cut_between_the_answer_and_its_transition(
    show: Show, proxy: CuttingProxy, name: str
) -> None:
    page = show(counting(name), url=proxy.url)
    page.wait_for("n", 0)
    proxy.hold_back()
    press = page.press("add", {"name": name})
    page.wait_for("n", 1)
    cut = proxy.cut_before("server", type="Transition")
    proxy.let_go()
    assert page.end_of(press) == {"value": 1}
    assert cut.done
    assert page.call("add", {"name": name}) == {"value": 2}
    assert page.shown("n") == [LOADING, 0, 1, 2]


def test_use_action_gives_the_result_or_the_error_of_the_function(show: Show, name: str) -> None:
    page = show(
        {
            "texts": query("conformance/tasks:texts", listName=name),
            "add": {"kind": "action", "action": "conformance/tasks:addThroughAction"},
            "fail": {"kind": "action", "action": "conformance/failing:plainAction"},
            "told": {"kind": "action", "action": "conformance/failing:toldByAction"},
        }
    )
    page.wait_for("texts", [])
    assert page.call("add", {"listName": name, "text": "milk"}) == {"value": 1}
    page.wait_for("texts", ["milk"])
    assert page.shown("texts") == [LOADING, [], ["milk"]]
    assert page.call("told", {"data": ["full"]}) == {"data": ["full"]}
    failed = page.call("fail", {})["error"]
    assert failed.startswith("[CONVEX A(conformance/failing:plainAction)] ")
    assert "a plain failure" in failed


def test_an_action_whose_connection_is_lost_says_so_and_the_next_one_runs(
    show: Show, proxy: CuttingProxy, name: str
) -> None:
    page = show(
        {
            "meet": {"kind": "action", "action": "conformance/meeting:meet"},
            "add": {"kind": "action", "action": "conformance/tasks:addThroughAction"},
        },
        url=proxy.url,
    )
    lost = page.press("meet", {"room": name, "count": 2})
    proxy.wait_for(lambda: len(proxy.of_type("Action")) == 1)
    proxy.cut()
    assert "Connection lost while action was in flight" in page.end_of(lost)["error"]
    assert page.call("add", {"listName": name, "text": "milk"}) == {"value": 1}
    # It was not sent again: its other half could never come.
    assert len(proxy.of_type("Action")) == 2


def test_h67_a_page_of_another_origin_may_call_functions_with_headers_of_its_own(
    show: Show, server: DevServer, name: str
) -> None:
    page = show({})
    answer = page.evaluate(
        """async ([url, body]) => {
             const headers = { "Content-Type": "application/json", "Convex-Client": "npm-1", "X-Own": "1" };
             const sent = { method: "POST", headers, credentials: "include", body: JSON.stringify(body) };
             return (await fetch(url, sent)).json();
           }""",
        [f"{server.url}/api/mutation", {"path": INCREMENT, "args": {"name": name}}],
    )
    assert answer == {"status": "success", "value": 1}
