"""What do the acceptance tests serve? One small module per subject of the conformance checklist."""

import reactivedb as rdb

from . import (
    big,
    contention,
    counter,
    documents,
    echo,
    failing,
    files,
    hidden,
    jobs,
    logs,
    meeting,
    mixed,
    moments,
    tasks,
)
from .nested import deep

app = rdb.App(
    big,
    contention,
    counter,
    deep,
    documents,
    echo,
    failing,
    files,
    hidden,
    jobs,
    logs,
    meeting,
    mixed,
    moments,
    tasks,
)
