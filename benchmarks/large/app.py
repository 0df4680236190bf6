"""The application, as `App` wants it."""

import reactivedb as rdb

from . import records

# A million documents are made a thousand at a time, and counted in one run, on whatever machine this is.
app = rdb.App(records, limits=rdb.Limits(user_time_s_max=60))
