"""How does a user of one database sign in, over HTTP, as a client would?"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from inline_app import module_of

import reactivedb as rdb
from reactivedb.engine import Transaction
from reactivedb.functions import ANONYMOUS, Run
from reactivedb.testing import FakeClock

PASSWORD = "correct horse"
ADMIN_KEY = "the key"
SIGN_IN = rdb.SignIn(password=True, anonymous=True)


class Note(rdb.Document, table="notes"):
    author: str


@rdb.query
def whoami(ctx: rdb.QueryCtx) -> str | None:
    user = ctx.auth.get_user_identity()
    return user.subject if user else None


@rdb.query
def claims(ctx: rdb.QueryCtx) -> dict[str, rdb.Value]:
    user = ctx.auth.get_user_identity()
    return {} if user is None else {"name": user.name, "anonymous": user.get("anonymous", False)}


@rdb.mutation
def attack(ctx: rdb.MutationCtx, id: str, how: str) -> None:
    """What a careless function could do with an id or a table's name that a client sent."""
    match how:
        case "get":
            ctx.db.get(id)
        case "system get":
            ctx.db.system.get(id)
        case "patch":
            ctx.db.patch(rdb.Id[Any](id), {"name": "eve"})
        case "replace":
            ctx.db.replace(rdb.Id[Any](id), {"name": "eve"})
        case "delete":
            ctx.db.delete(rdb.Id[Any](id))
        case "query":
            ctx.db.query(rdb.Table(id)).collect()
        case _:
            ctx.db.insert(rdb.Table(id), {"userId": "eve"})


class RefusedError(Exception):
    """What a function told its caller, or the server about a token."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.text)
        body = answer.json()
        self.status = answer.status_code
        self.data: dict[str, Any] = body.get("errorData") or {}
        self.code: str = body.get("code") or self.data.get("code") or body["errorMessage"]


@dataclass
class Peer:
    """One client: it keeps the newest tokens that it was given."""

    house: House
    token: str | None = None
    refresh_token: str | None = None
    user_id: str | None = None

    async def sign_up(self, name: str, password: str = PASSWORD) -> Peer:
        return self._took(await self.action("signIn:signUp", name=name, password=password))

    async def sign_in(self, name: str, password: str = PASSWORD, *, device: str | None = None) -> Peer:
        known = {} if device is None else {"refreshToken": device}
        return self._took(await self.action("signIn:withPassword", name=name, password=password, **known))

    async def begin(self) -> Peer:
        return self._took(await self.action("signIn:anonymously"))

    async def change(self, old: str, new: str) -> Peer:
        return self._took(await self.action("signIn:changePassword", currentPassword=old, newPassword=new))

    async def refresh(self, refresh_token: str | None = None) -> Peer:
        tokens = await self.house.call(
            "action", "signIn:refresh", None, refreshToken=refresh_token or self.refresh_token
        )
        return self._took(tokens)

    def _took(self, tokens: Any) -> Peer:
        self.token, self.refresh_token, self.user_id = (
            tokens["token"],
            tokens["refreshToken"],
            tokens["userId"],
        )
        return self

    async def whoami(self) -> str | None:
        return await self.query("notes:whoami")

    async def query(self, path: str, **args: Any) -> Any:
        return await self.house.call("query", path, self.token, **args)

    async def mutation(self, path: str, **args: Any) -> Any:
        return await self.house.call("mutation", path, self.token, **args)

    async def action(self, path: str, **args: Any) -> Any:
        return await self.house.call("action", path, self.token, **args)


class House:
    """One open database behind its HTTP API."""

    def __init__(self, database: rdb.AsyncDatabase, clock: FakeClock, url: str) -> None:
        self.database, self.clock, self.runtime = database, clock, database.runtime
        transport = httpx.ASGITransport(rdb.asgi(database, admin_key=ADMIN_KEY), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=url)

    def peer(self) -> Peer:
        return Peer(self)

    async def call(self, kind: str, path: str, token: str | None, **args: Any) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self._post(kind, path, args, headers)

    async def call_as_admin(self, kind: str, path: str, **args: Any) -> Any:
        return await self._post(kind, path, args, {"Authorization": f"Convex {ADMIN_KEY}"})

    async def _post(self, kind: str, path: str, args: dict[str, Any], headers: dict[str, str]) -> Any:
        answer = await self.http.post(f"/api/{kind}", json={"path": path, "args": args}, headers=headers)
        if answer.json().get("status") != "success":
            raise RefusedError(answer)
        return answer.json()["value"]

    async def refused(self, token: str) -> str:
        """The code with which a token is refused."""
        answer = await self.http.post(
            "/api/query",
            json={"path": "notes:whoami", "args": {}},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 401, answer.text
        return answer.json()["code"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Everything in one of the product's tables."""

        def body(run: Run) -> tuple[Any, Any]:
            state = self.runtime.engine.catalog.table(table)
            return [dict(row.fields) for row in _scan(run.transaction, state)], None

        return self.runtime.runner.transact(body, ANONYMOUS).unwrap()

    def rewrite(self, table: str, id: str, **changes: Any) -> None:
        """Change a row as an older version of the product could have left it."""

        def body(run: Run) -> tuple[Any, Any]:
            row = run.transaction.existing(id)
            assert row.table.name == table
            kept = {name: value for name, value in row.fields.items() if not name.startswith("_")}
            run.transaction.replace(row, kept | changes)
            return None, None

        self.runtime.runner.transact(body, ANONYMOUS).unwrap()


def _scan(transaction: Transaction, state: Any) -> list[Any]:
    from reactivedb.functions import range_of

    return [row for row, _ in transaction.scan(range_of(transaction, state, state.by_creation_time).scan)]


@asynccontextmanager
async def open_house(
    clock: FakeClock,
    path: Path | str = ":memory:",
    *,
    sign_in: rdb.SignIn | None = SIGN_IN,
    limits: rdb.Limits | None = None,
    url: str = "http://test",
) -> AsyncIterator[House]:
    module = module_of(Note, whoami, claims, attack)
    app = rdb.App(module, root="", sign_in=sign_in, limits=limits or rdb.Limits())
    async with app.open_async(path, clock=clock) as database:
        house = House(database, clock, url)
        yield house
        await house.http.aclose()


def payload_of(token: str) -> dict[str, Any]:
    return _json(token.split(".")[1])


def header_of(token: str) -> dict[str, Any]:
    return _json(token.split(".", maxsplit=1)[0])


def _json(part: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def with_payload(token: str, **changes: Any) -> str:
    """The same token with other claims and the old signature."""
    head, _, signature = token.split(".")
    changed = json.dumps(payload_of(token) | changes).encode()
    return ".".join((head, base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), signature))
