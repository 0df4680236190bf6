"""What do the tests of limits serve? The defaults are what they are about."""

import reactivedb as rdb

from . import work

# All but the time: 16,000 documents take longer than a second on a busy machine.
app = rdb.App(work, limits=rdb.Limits(user_time_s_max=60))
