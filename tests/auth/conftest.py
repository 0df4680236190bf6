"""An identity provider for all tests of a module, and a database with a clock of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from reactivedb.testing import FakeClock, LocalIdentityProvider

from .harness import House, open_house


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def provider(clock: FakeClock) -> Iterator[LocalIdentityProvider]:
    with LocalIdentityProvider(clock=clock) as running:
        yield running


@pytest.fixture
async def house(provider: LocalIdentityProvider, clock: FakeClock) -> AsyncIterator[House]:
    async with open_house(provider, clock) as opened:
        yield opened
