"""What is served to clients that never read? What the others are, with less patience and a shorter memory."""

# The folder above is what the server finds packages in.
from application import ledger

import reactivedb as rdb
from reactivedb.limits import MIB

limits = rdb.Limits(
    blocked_receiver_s=3.0,
    # With less of the newest commits in memory, what grows is seen to be the clients'.
    commit_history_size_bytes_max=MIB,
    log_retention_size_bytes_max=MIB,
)
app = rdb.App(ledger, root="application", limits=limits)
