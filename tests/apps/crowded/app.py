"""What do tests of overload serve? A counter, and actions of which few may run."""

import reactivedb as rdb

from . import work

app = rdb.App(work, limits=rdb.Limits(running_actions_max=2))
