"""What do the tests of limits serve? The defaults are what they are about."""

import reactivedb as rdb

from . import work

app = rdb.App(work)
