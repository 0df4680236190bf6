"""A database whose users sign in, with a clock of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from reactivedb.testing import FakeClock

from .harness import House, open_house


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def house(clock: FakeClock) -> AsyncIterator[House]:
    async with open_house(clock) as opened:
        yield opened
