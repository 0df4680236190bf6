"""Every kind of argument and result, for what is generated from them."""

import reactivedb as rdb

from . import kinds, things

app = rdb.App(kinds, things, http=things.router)
