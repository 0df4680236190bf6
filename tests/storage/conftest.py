"""Which storages must keep the contract?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reactivedb.storage import MemoryStorage, Storage, open_sqlite


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    opened = MemoryStorage() if request.param == "memory" else open_sqlite(tmp_path / "data.db")
    yield opened
    opened.close()
