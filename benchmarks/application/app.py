"""What do the benchmarks serve?"""

import reactivedb as rdb

from . import ledger

app = rdb.App(ledger)
