"""A reactive document database: queries, mutations and actions are plain functions, results stay true.

    import reactivedb as rdb

Everything public is here; all else is internal. The server is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .app import App, AsyncDatabase, AsyncLive, AsyncPast, Database, Live, Past, Version
from .engine import RetentionReport, SchemaProgress, SchemaReport
from .errors import (
    ApplicationError,
    ConflictError,
    FunctionNotFoundError,
    InvalidCursorError,
    LimitExceededError,
    ProtocolError,
    ReactiveDBError,
    RequestError,
    SchemaError,
    StorageError,
    ValidationError,
)
from .functions import (
    ActionCtx,
    MutationCtx,
    OrderedQuery,
    PaginationOptions,
    PaginationResult,
    Query,
    QueryCtx,
    RegisteredAction,
    RegisteredMutation,
    RegisteredQuery,
    Upserted,
    UserIdentity,
    action,
    internal_action,
    internal_mutation,
    internal_query,
    mutation,
    now_ms,
    query,
    random,
)
from .limits import Limits
from .schema import (
    Document,
    Id,
    Index,
    Migration,
    Model,
    OnDelete,
    StoredFile,
    Table,
    Transitions,
    UpdatedAt,
    migration,
    updated_at,
    v,
)
from .values import UNSET, Int64, Unset, Value

if TYPE_CHECKING:
    from .server.asgi import asgi
    from .server.serving import serve

__version__ = "0.1.0"

__all__ = [
    "UNSET",
    "ActionCtx",
    "App",
    "ApplicationError",
    "AsyncDatabase",
    "AsyncLive",
    "AsyncPast",
    "ConflictError",
    "Database",
    "Document",
    "FunctionNotFoundError",
    "Id",
    "Index",
    "Int64",
    "InvalidCursorError",
    "LimitExceededError",
    "Limits",
    "Live",
    "Migration",
    "Model",
    "MutationCtx",
    "OnDelete",
    "OrderedQuery",
    "PaginationOptions",
    "PaginationResult",
    "Past",
    "ProtocolError",
    "Query",
    "QueryCtx",
    "ReactiveDBError",
    "RegisteredAction",
    "RegisteredMutation",
    "RegisteredQuery",
    "RequestError",
    "RetentionReport",
    "SchemaError",
    "SchemaProgress",
    "SchemaReport",
    "StorageError",
    "StoredFile",
    "Table",
    "Transitions",
    "Unset",
    "UpdatedAt",
    "Upserted",
    "UserIdentity",
    "ValidationError",
    "Value",
    "Version",
    "action",
    "asgi",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "migration",
    "mutation",
    "now_ms",
    "query",
    "random",
    "serve",
    "updated_at",
    "v",
]

_LAZY = {"asgi": "reactivedb.server.asgi", "serve": "reactivedb.server.serving"}


def __getattr__(name: str) -> Any:
    """Hand on the server's names without importing it before it is needed."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module `reactivedb` has no attribute `{name}`")
