"""How long, and how often, is an upload URL good?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

import reactivedb as rdb
from reactivedb.functions.file_links import FileLinks
from reactivedb.testing import FakeClock
from reactivedb.values import encode_id

from . import application as files
from .application import ORIGIN, file_app


@pytest.fixture(autouse=True)
def _origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEX_CLOUD_URL", ORIGIN)


async def new_token(db: rdb.AsyncDatabase) -> str:
    url = await db.mutation(files.upload_url)
    [token] = parse_qs(urlsplit(url).query)["token"]
    return token


async def send(db: rdb.AsyncDatabase, token: str) -> str:
    """The id of the stored file, or the code with which it was refused."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"data"

    transfer = db.runtime.files
    try:
        return await transfer.upload(transfer.ticket(token), pieces(), None)
    except rdb.RequestError as error:
        return error.code


def over(path: Path, clock: FakeClock, *steps: Callable[[rdb.AsyncDatabase], Awaitable[None]]) -> None:
    """Run each step on the database opened anew."""

    async def run() -> None:
        for step in steps:
            async with file_app().open_async(path, clock=clock) as db:
                await step(db)

    anyio.run(run)


def test_an_upload_url_is_good_for_an_hour(tmp_path: Path) -> None:
    clock = FakeClock()

    async def wait(db: rdb.AsyncDatabase) -> None:
        early, late = await new_token(db), await new_token(db)
        clock.advance(3599.9)
        assert len(await send(db, early)) == 32
        clock.advance(0.1)
        assert await send(db, late) == "UploadTokenExpired"

    over(tmp_path / "data.db", clock, wait)


def test_an_upload_url_outlives_a_restart_and_so_does_its_use(tmp_path: Path) -> None:
    clock = FakeClock()
    tokens: list[str] = []

    async def use_one(db: rdb.AsyncDatabase) -> None:
        tokens.extend([await new_token(db), await new_token(db)])
        assert len(await send(db, tokens[0])) == 32

    async def try_both(db: rdb.AsyncDatabase) -> None:
        assert await send(db, tokens[0]) == "UploadTokenUsed"
        assert len(await send(db, tokens[1])) == 32

    over(tmp_path / "data.db", clock, use_one, try_both)


def test_a_url_expires_before_its_use_is_forgotten() -> None:
    clock = FakeClock()
    limits = rdb.Limits(outcome_retention_s=60, upload_url_lifetime_s=3600)

    async def run() -> None:
        async with file_app(limits).open_async(clock=clock) as db:
            token = await new_token(db)
            assert len(await send(db, token)) == 32
            clock.advance(60)
            assert await send(db, token) == "UploadTokenExpired"

    anyio.run(run)


def test_two_uploads_to_one_url_cannot_both_win() -> None:
    async def run() -> None:
        async with file_app().open_async(clock=FakeClock()) as db:
            token = await new_token(db)
            outcomes: list[str] = []

            async def one() -> None:
                outcomes.append(await send(db, token))

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(one)
            stored = [row.id for row in await db.query(files.all_files)]
            assert sorted(outcomes) == sorted([*stored, *["UploadInProgress"] * 4])

    anyio.run(run)


def test_an_address_leads_back_to_its_id_and_to_no_other() -> None:
    links, others = FileLinks(bytes(16)), FileLinks(bytes(15) + b"1")
    ids = [encode_id(513, number.to_bytes(16, "big")) for number in range(1000)]
    addresses = [links.address(id) for id in ids]
    assert [links.id_at(address) for address in addresses] == ids
    assert len(set(addresses)) == 1000
    assert not any(others.id_at(address) in ids for address in addresses)
    # Neighbours have nothing in common.
    assert len({address[:6] for address in addresses}) > 990


@pytest.mark.parametrize("jump_s", [30 * 24 * 3600, -30 * 24 * 3600])
def test_a_url_is_good_for_an_hour_while_the_clock_is_set_ahead_or_back(
    tmp_path: Path, jump_s: float
) -> None:
    clock = FakeClock()

    async def run(db: rdb.AsyncDatabase) -> None:
        first, second, late = [await new_token(db) for _ in range(3)]
        clock.jump(jump_s)
        assert len(await send(db, first)) == 32
        clock.jump(-jump_s)
        clock.advance(3599)
        assert await send(db, first) == "UploadTokenUsed"
        assert len(await send(db, second)) == 32
        # How long the clock was behind cannot be told from its time: the URL may be good for an hour more.
        clock.advance(2 if jump_s > 0 else 3602)
        assert await send(db, late) == "UploadTokenExpired"

    over(tmp_path / "data.db", clock, run)
