"""What is served, with bounds that are soon reached."""

import math

import reactivedb as rdb
from reactivedb.limits import MIB

from . import results

app = rdb.App(
    results,
    root=__package__,
    limits=rdb.Limits(
        live_results_size_bytes_max=32 * MIB,
        idle_result_size_bytes_max=8 * MIB,
        held_size_bytes_max=64 * MIB,
        # A busy machine shall not stop a function that makes a large result.
        user_time_s_max=math.inf,
    ),
)
