"""What does the crash suite serve?"""

import reactivedb as rdb

from . import entries, streams

app = rdb.App(entries, streams)
