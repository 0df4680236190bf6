"""Cards on boards, in pages of every kind, and whatever a test wants to write."""

import reactivedb as rdb

from . import cards, shelf

app = rdb.App(cards, shelf)
