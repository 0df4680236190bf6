"""Ids that look like stored ones."""

import pytest

from reactivedb.values import encode_id


@pytest.fixture
def channel_id() -> str:
    return encode_id(10_001, b"c" * 16)


@pytest.fixture
def message_id() -> str:
    return encode_id(10_002, b"m" * 16)
