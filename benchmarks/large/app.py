"""The application, as `App` wants it."""

import reactivedb as rdb

from . import records

app = rdb.App(records)
