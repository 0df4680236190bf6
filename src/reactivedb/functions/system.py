"""Which tables does the product keep for itself?

They are ordinary tables of dict documents with fixed numbers: what is written there is in the log, is
indexed and wakes queries like anything else. Functions read them and write them only through contexts.
"""

from __future__ import annotations

from typing import Final

from ..engine import SystemTable
from ..schema import Index, StoredFile, TableDefinition, table_definition

JOBS: Final = "_scheduled_functions"
FILES: Final = "_storage"
CRON_JOBS: Final = "_cron_jobs"
VARIABLES: Final = "_environment_variables"
# Functions of the product's own, which nobody but it schedules.
SYSTEM_PREFIX: Final = "_system/"
# In the ids of files, which are made before their rows are.
FILE_TABLE_NUMBER: Final = 513

# The states of a job.
PENDING: Final = "pending"
IN_PROGRESS: Final = "inProgress"
SUCCESS: Final = "success"
FAILED: Final = "failed"
CANCELED: Final = "canceled"


def _table(name: str, **fields_of_index: tuple[str, ...]) -> TableDefinition:
    declared = {index: Index(*fields) for index, fields in fields_of_index.items()}
    for index_name, index in declared.items():
        index.name = index_name
    return TableDefinition(name, declared=declared)


SYSTEM_TABLES: Final = (
    SystemTable(512, _table(JOBS, by_state=("state.kind", "scheduledTime"), by_completed=("completedTime",))),
    SystemTable(FILE_TABLE_NUMBER, table_definition(StoredFile)),
    SystemTable(514, _table(VARIABLES, by_name=("name",))),
    SystemTable(515, _table(CRON_JOBS, by_name=("name",))),
)
