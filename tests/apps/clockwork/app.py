"""What do the tests of cron jobs serve? One that ticks, and one that takes as long as a caller wants."""

import reactivedb as rdb

from . import work

crons = rdb.Crons()
crons.interval("tick", work.tick, seconds=1)
crons.interval("long", work.run_long, seconds=1)

app = rdb.App(work, crons=crons)
