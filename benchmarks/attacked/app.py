"""The application, as `App` wants it.

`LIMITS_VARIABLE` holds the bounds that differ from the defaults, as a JSON object.
"""

import json
import os

import reactivedb as rdb

from . import targets

LIMITS_VARIABLE = "REACTIVEDB_BENCHMARK_LIMITS"

app = rdb.App(targets, limits=rdb.Limits(**json.loads(os.environ.get(LIMITS_VARIABLE, "{}"))))
