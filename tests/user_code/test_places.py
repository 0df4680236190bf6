"""Whatever user code raises, wherever it runs, fails that call alone: place by place, raise by raise.

After each the same server answers others, live queries go on, and `/readyz` says that it is ready. After all
of them at one place the server is started again over the same file, and comes up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.deployment import Deployment, Urls

from . import places
from .client import TIMEOUT_S, Client
from .raising import KINDS

Args = Callable[[str], dict[str, Any]]


def named(kind: str) -> dict[str, Any]:
    return {"kind": kind}


def within(kind: str) -> dict[str, Any]:
    return {"value": {"kind": kind}}


# Path, kind of call, arguments.
CALLS: dict[str, tuple[str, str, Args]] = {
    "query": ("query", "places:inQuery", named),
    "mutation": ("mutation", "places:inMutation", named),
    "action": ("action", "places:inAction", named),
    "nested call": ("mutation", "places:inNestedCall", named),
    "mutation of an action": ("action", "places:inMutationOfAction", named),
    "action of an action": ("action", "places:inActionOfAction", named),
    "task of an action": ("action", "places:inTaskOfAction", named),
    "task group of an action": ("action", "places:inTaskGroup", named),
    "thread of an action": ("action", "places:inThread", named),
    "callback of an action": ("action", "places:inCallback", named),
    "context managers that are left open": ("action", "places:inContextManager", named),
    "finalizer": ("mutation", "places:inFinalizer", named),
    "repr of what is printed": ("mutation", "places:inPrint", named),
    "validator of an argument": ("mutation", "places:inValidator", named),
    "model as an argument": ("mutation", "places:inModel", within),
    "dataclass as an argument": ("mutation", "places:inDataclass", within),
    "validator of a query's argument": ("query", "places:inValidatorOfQuery", named),
    "validator of an action's argument": ("action", "places:inValidatorOfAction", named),
    "returned value": ("query", "places:inReturn", named),
    "returned value of an action": ("action", "places:inReturnOfAction", named),
    "predicate": ("query", "places:inPredicate", named),
}


class Server:
    """A running server, one client that follows a query, and the checks that others are not harmed."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.deployment = Deployment(places.make_app(), path)
        self.urls: Urls = self.deployment.start()
        self.http = httpx.Client(timeout=TIMEOUT_S)
        self.other = Client(self.urls.main)
        self.live = self.other.follow("places:count")
        self.call("mutation", "places:add", text="first")

    def call(self, call_kind: str, path: str, /, **args: Any) -> dict[str, Any]:
        body = {"path": path, "args": args}
        answer = self.http.post(f"{self.urls.main}/api/{call_kind}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def check_others(self) -> None:
        added = self.other.call("Mutation", "places:add", text="one more")
        assert added["success"], added
        self.other.wait_until(self.live, type="QueryUpdated", value=added["result"])
        assert self.call("query", "places:count") == {"status": "success", "value": added["result"]}
        ready = self.http.get(f"{self.urls.main}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert self.http.get(f"{self.urls.site}/fine").text == "fine"

    def stop(self) -> None:
        self.other.close()
        self.http.close()
        self.deployment.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    places.armed.clear()
    yield shared
    places.armed.clear()


# What the interpreter's and anyio's own handling of a failed task, thread or finalizer cannot bear.
UNBEARABLE = {
    ("task group of an action", "class raises"),
    ("thread of an action", "class raises"),
    ("finalizer", "class raises"),
    ("finalizer", "eq and hash raise"),
    # A member of a task group that is cancelled has not failed.
    ("task group of an action", "cancelled"),
}
PLACES_AND_KINDS = [(place, kind) for place in CALLS for kind in KINDS if (place, kind) not in UNBEARABLE]


def expected(place: str, kind: str) -> str:
    """What the error's text says; a task group makes a group of it, which is told by its own name."""
    return "" if place == "task group of an action" else KINDS[kind].told


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("place", "kind"), PLACES_AND_KINDS)
def test_what_a_call_raises_fails_that_call_alone(server: Server, place: str, kind: str) -> None:
    call_kind, path, args = CALLS[place]
    failed = server.call(call_kind, path, **args(kind))
    assert failed["status"] == "error"
    assert expected(place, kind) in failed["errorMessage"]
    if call_kind != "query":
        told = server.other.call(call_kind.capitalize(), path, **args(kind))
        assert told["success"] is False
        assert expected(place, kind) in told["result"]
    server.check_others()


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_http_action_raises_is_its_own_answer(server: Server, kind: str) -> None:
    answer = server.http.get(f"{server.urls.site}/fail", params={"kind": kind})
    assert answer.status_code == 500
    assert KINDS[kind].told in answer.json()["trace"]
    server.check_others()


# Starlette streams in a task group.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "class raises"])
def test_an_answer_that_fails_half_way_breaks_off_alone(server: Server, kind: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get(f"{server.urls.site}/stream", params={"kind": kind})
    server.check_others()


@pytest.mark.parametrize("path", ["armedQuery", "armedPredicate", "armedResult"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_live_query_that_fails_tells_its_holders_and_goes_on(server: Server, path: str, kind: str) -> None:
    client = Client(server.urls.main)
    query = client.follow(f"places:{path}")
    places.armed[:] = [kind]
    server.call("mutation", "places:add", text="wakes it")
    failed = client.wait_until(query, type="QueryFailed")
    assert KINDS[kind].told in failed["errorMessage"]
    server.check_others()
    places.armed.clear()
    server.call("mutation", "places:add", text="wakes it again")
    client.wait_until(query, type="QueryUpdated")
    client.close()


@pytest.mark.parametrize("path", ["inDefaultFactory", "armedDocument"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_document_or_a_default_raises_fails_the_call_alone(
    server: Server, path: str, kind: str
) -> None:
    places.armed[:] = [kind]
    args = {"value": {"kind": "fine"}} if path == "inDefaultFactory" else {}
    failed = server.other.call("Mutation", f"places:{path}", **args)
    places.armed.clear()
    assert failed["success"] is False
    assert KINDS[kind].told in failed["result"]
    server.check_others()


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduled_job_that_raises_has_failed_and_says_why(server: Server, kind: str) -> None:
    before = len(server.call("query", "places:jobErrors")["value"])
    client = Client(server.urls.main)
    errors = client.follow("places:jobErrors")
    server.call("mutation", "places:schedule", kind=kind)

    def have_failed(result: dict[str, Any]) -> bool:
        new = result["value"][before:]
        return len(new) == 2 and all(KINDS[kind].told in error for error in new)

    client.wait_for(errors, have_failed)
    client.close()
    server.check_others()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", [*CALLS, "jobs"])
def test_a_server_comes_up_again_after_all_that(place: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "data.db")
    for kind in KINDS:
        if place == "jobs":
            server.call("mutation", "places:schedule", kind=kind)
        elif (place, kind) not in UNBEARABLE:
            call_kind, path, args = CALLS[place]
            assert server.call(call_kind, path, **args(kind))["status"] == "error"
    server.check_others()
    server.stop()
    for _ in range(2):
        again = Server(tmp_path / "data.db")
        again.check_others()
        assert set(again.call("query", "places:jobStates")["value"]) <= {"failed"}
        again.stop()
