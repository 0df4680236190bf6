"""What does an application say about its data?"""

from reactivedb.schema.annotations import validator_for
from reactivedb.schema.arguments import (
    ARGUMENT_ERROR,
    RETURNS_ERROR,
    ArgsValidator,
    returns_validator,
    secret_arguments,
)
from reactivedb.schema.bounds import IndexBounds, Source, source_bounds
from reactivedb.schema.constraints import (
    OnDelete,
    Reference,
    TransitionRule,
    Transitions,
    UpdatedAt,
    updated_at,
)
from reactivedb.schema.constructors import v
from reactivedb.schema.document import Document, Id, Model, StoredFile, mark_stored
from reactivedb.schema.fingerprint import fingerprint
from reactivedb.schema.index import BoundIndex, Index, IndexDefinition, IndexRange
from reactivedb.schema.json_schema import ID_FORMAT, JsonSchemas, Use
from reactivedb.schema.migration import Migration, migration
from reactivedb.schema.mismatch import shown, shown_at, with_code
from reactivedb.schema.objects import ObjectValidator
from reactivedb.schema.schema import Schema
from reactivedb.schema.table import SYSTEM_FIELDS, Table, TableDefinition, system_table, table_definition
from reactivedb.schema.validators import FoundId, Validator

__all__ = [
    "ARGUMENT_ERROR",
    "ID_FORMAT",
    "RETURNS_ERROR",
    "SYSTEM_FIELDS",
    "ArgsValidator",
    "BoundIndex",
    "Document",
    "FoundId",
    "Id",
    "Index",
    "IndexBounds",
    "IndexDefinition",
    "IndexRange",
    "JsonSchemas",
    "Migration",
    "Model",
    "ObjectValidator",
    "OnDelete",
    "Reference",
    "Schema",
    "Source",
    "StoredFile",
    "Table",
    "TableDefinition",
    "TransitionRule",
    "Transitions",
    "UpdatedAt",
    "Use",
    "Validator",
    "fingerprint",
    "mark_stored",
    "migration",
    "returns_validator",
    "secret_arguments",
    "shown",
    "shown_at",
    "source_bounds",
    "system_table",
    "table_definition",
    "updated_at",
    "v",
    "validator_for",
    "with_code",
]
