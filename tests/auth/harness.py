"""How does a token knock at every door of one database: the verifier, HTTP and the socket?"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from inline_app import app_of

import reactivedb as rdb
from reactivedb.auth import Provider
from reactivedb.sync import ClientKind, Session
from reactivedb.testing import FakeClock, LocalIdentityProvider

DEADLINE_S = 5.0


class Note(rdb.Document, table="notes"):
    text: str


@rdb.query
def whoami(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return user.token_identifier if user else None


@rdb.query
def title(ctx: rdb.QueryCtx) -> rdb.Value:
    user = ctx.auth.get_user_identity()
    return user.get("title") if user else None


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Note).count()


@rdb.mutation
def sign(ctx: rdb.MutationCtx) -> str:
    user = ctx.auth.get_user_identity()
    ctx.db.insert(Note(text=user.subject if user else "nobody"))
    return user.subject if user else "nobody"


@rdb.mutation
def sign_later(ctx: rdb.MutationCtx) -> None:
    ctx.scheduler.run_after(0, sign)
    ctx.scheduler.run_after(0, sign_in_action)


@rdb.action
async def sign_in_action(ctx: rdb.ActionCtx) -> list[str]:
    user = ctx.auth.get_user_identity()
    inner = await ctx.run_mutation(sign)
    return [user.subject if user else "nobody", inner]


@rdb.query
def signatures(ctx: rdb.QueryCtx) -> list[str]:
    return [note.text for note in ctx.db.query(Note).collect()]


FUNCTIONS = (whoami, title, count, sign, sign_later, sign_in_action, signatures)


class Peer:
    """A client's socket without the socket, which can wait for what it is told."""

    def __init__(self, runtime: Any, session_id: str = "s1") -> None:
        self.messages: list[dict[str, Any]] = []
        self.closed_with: tuple[int, str] | None = None
        self.writable = True
        self.identity_version = 0
        self.query_set_version = 0
        self._news = anyio.Event()
        self.session = Session(runtime, self, client=ClientKind.CHUNKS)
        self.tell(type="Connect", sessionId=session_id, connectionCount=0, lastCloseReason=None)

    def send(self, parts: Sequence[bytes]) -> None:
        assert self.closed_with is None, "sent after the close"
        self.messages.append(json.loads(b"".join(parts)))
        self._wake()

    def close(self, code: int, reason: str) -> None:
        self.closed_with = (code, reason)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    def tell(self, **message: Any) -> None:
        self.session.receive(json.dumps(message))

    def authenticate(self, token: str | None) -> None:
        shown = {"tokenType": "None"} if token is None else {"tokenType": "User", "value": token}
        self.tell(type="Authenticate", baseVersion=self.identity_version, **shown)
        self.identity_version += 1

    def follow(self, *paths: str) -> None:
        adds = [
            {"type": "Add", "queryId": number, "udfPath": path, "args": [{}]}
            for number, path in enumerate(paths)
        ]
        base = self.query_set_version
        self.query_set_version += 1
        self.tell(type="ModifyQuerySet", baseVersion=base, newVersion=base + 1, modifications=adds)

    def mutate(self, request_id: int, path: str) -> None:
        self.tell(type="Mutation", requestId=request_id, udfPath=path, args=[{}])

    async def next(self, kind: str) -> dict[str, Any]:
        """The next message of this type; those before it are dropped."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                while self.messages:
                    message = self.messages.pop(0)
                    if message["type"] == kind:
                        return message
                assert self.closed_with is None, self.closed_with
                await self._news.wait()

    async def confirmed(self) -> dict[str, Any]:
        """The transition that takes in the newest identity."""
        while True:
            transition = await self.next("Transition")
            if transition["endVersion"]["identity"] == self.identity_version:
                return transition

    async def closed(self) -> tuple[int, str]:
        with anyio.fail_after(DEADLINE_S):
            while self.closed_with is None:
                await self._news.wait()
        return self.closed_with


def values(transition: dict[str, Any]) -> dict[int, Any]:
    return {change["queryId"]: change["value"] for change in transition["modifications"]}


class House:
    """One open database with its doors."""

    def __init__(
        self, database: rdb.AsyncDatabase, provider: LocalIdentityProvider, clock: FakeClock
    ) -> None:
        self.database, self.provider, self.clock = database, provider, clock
        self.runtime = database.runtime
        # Raised exceptions of the application would hide the answer.
        transport = httpx.ASGITransport(rdb.asgi(database, admin_key="the key"), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")
        self.peers: list[Peer] = []

    def connect(self) -> Peer:
        self.peers.append(Peer(self.runtime, f"s{len(self.peers)}"))
        return self.peers[-1]

    async def post(self, path: str, authorization: str | None, kind: str = "query") -> httpx.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        return await self.http.post(f"/api/{kind}", json={"path": path, "args": {}}, headers=headers)

    async def ask(self, path: str, token: str | None, kind: str = "query") -> Any:
        answer = await self.post(path, None if token is None else f"Bearer {token}", kind)
        assert answer.json().get("status") == "success", answer.text
        return answer.json()["value"]

    async def refuse(self, token: str) -> str:
        """Every door refuses the token with one code, which is given back, and gives none of it away."""
        answer = await self.post("notes:whoami", f"Bearer {token}")
        assert answer.status_code == 401, answer.text
        code = answer.json()["code"]
        # A key that nobody knows is asked for once in a while only.
        self.clock.advance(11)
        peer = self.connect()
        peer.follow("notes:whoami")
        await peer.next("Transition")
        peer.authenticate(token)
        error = await peer.next("AuthError")
        assert (error["authUpdateAttempted"], error["baseVersion"]) == (True, 0)
        assert error["error"].startswith(f"{code}: ")
        assert peer.closed_with == (1000, code)
        assert token not in answer.text + error["error"]
        return code


@asynccontextmanager
async def open_house(
    provider: LocalIdentityProvider,
    clock: FakeClock,
    auth: Sequence[Provider] | None = None,
    *,
    limits: rdb.Limits | None = None,
) -> AsyncIterator[House]:
    trusted = [provider.oidc(), provider.custom_jwt()] if auth is None else auth
    app = rdb.App(module(), root="", auth=trusted, limits=limits or rdb.Limits())
    async with app.open_async(clock=clock) as database:
        house = House(database, provider, clock)
        yield house
        await house.http.aclose()
        for peer in house.peers:
            peer.session.closed()


def module() -> Any:
    return app_of(Note, *FUNCTIONS).modules[0]


def forged(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """A token that nobody has signed, or that was signed in some way of its own."""
    return f"{signing_input(header, payload)}.{encoded(signature)}"


def signing_input(header: dict[str, Any], payload: dict[str, Any]) -> str:
    return ".".join(encoded(json.dumps(part).encode()) for part in (header, payload))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
