"""A reactive document database: queries, mutations and actions are plain functions, results stay true.

    import reactivedb as rdb

Everything public is here; all else is internal. Each name is imported when it is first asked for: what only
declares never loads the server, and what only asks for the version loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import App, AsyncDatabase, AsyncLive, AsyncPast, Database, Live, Past, Version
    from .auth import CustomJwtProvider, OidcProvider
    from .engine import CompactionReport, RetentionReport, SchemaProgress, SchemaReport
    from .errors import (
        ApplicationError,
        AuthenticationError,
        AuthProviderError,
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
        Blob,
        Crons,
        ErasureReport,
        HttpRouter,
        MutationCtx,
        OrderedQuery,
        PaginationOptions,
        PaginationResult,
        Query,
        QueryCtx,
        RegisteredAction,
        RegisteredMutation,
        RegisteredQuery,
        Retry,
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
        IndexRange,
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
    from .server.asgi import asgi
    from .server.serving import serve
    from .sign_in import SignIn
    from .storage import BackupReport, RestoreReport, restore
    from .values import UNSET, Int64, Unset, Value

__version__ = "0.1.0"

__all__ = [
    "UNSET",
    "ActionCtx",
    "App",
    "ApplicationError",
    "AsyncDatabase",
    "AsyncLive",
    "AsyncPast",
    "AuthProviderError",
    "AuthenticationError",
    "BackupReport",
    "Blob",
    "CompactionReport",
    "ConflictError",
    "Crons",
    "CustomJwtProvider",
    "Database",
    "Document",
    "ErasureReport",
    "FunctionNotFoundError",
    "HttpRouter",
    "Id",
    "Index",
    "IndexRange",
    "Int64",
    "InvalidCursorError",
    "LimitExceededError",
    "Limits",
    "Live",
    "Migration",
    "Model",
    "MutationCtx",
    "OidcProvider",
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
    "RestoreReport",
    "RetentionReport",
    "Retry",
    "SchemaError",
    "SchemaProgress",
    "SchemaReport",
    "SignIn",
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
    "restore",
    "serve",
    "updated_at",
    "v",
]

# Where each name is defined.
_HOMES = {
    "app": (
        "App",
        "AsyncDatabase",
        "AsyncLive",
        "AsyncPast",
        "Database",
        "Live",
        "Past",
        "Version",
    ),
    "auth": (
        "CustomJwtProvider",
        "OidcProvider",
    ),
    "engine": (
        "CompactionReport",
        "RetentionReport",
        "SchemaProgress",
        "SchemaReport",
    ),
    "errors": (
        "ApplicationError",
        "AuthenticationError",
        "AuthProviderError",
        "ConflictError",
        "FunctionNotFoundError",
        "InvalidCursorError",
        "LimitExceededError",
        "ProtocolError",
        "ReactiveDBError",
        "RequestError",
        "SchemaError",
        "StorageError",
        "ValidationError",
    ),
    "functions": (
        "ActionCtx",
        "Blob",
        "Crons",
        "ErasureReport",
        "HttpRouter",
        "MutationCtx",
        "OrderedQuery",
        "PaginationOptions",
        "PaginationResult",
        "Query",
        "QueryCtx",
        "RegisteredAction",
        "RegisteredMutation",
        "RegisteredQuery",
        "Retry",
        "Upserted",
        "UserIdentity",
        "action",
        "internal_action",
        "internal_mutation",
        "internal_query",
        "mutation",
        "now_ms",
        "query",
        "random",
    ),
    "limits": ("Limits",),
    "schema": (
        "Document",
        "Id",
        "Index",
        "IndexRange",
        "Migration",
        "Model",
        "OnDelete",
        "StoredFile",
        "Table",
        "Transitions",
        "UpdatedAt",
        "migration",
        "updated_at",
        "v",
    ),
    "sign_in": ("SignIn",),
    "storage": ("BackupReport", "RestoreReport", "restore"),
    "values": (
        "UNSET",
        "Int64",
        "Unset",
        "Value",
    ),
    "server.asgi": ("asgi",),
    "server.serving": ("serve",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module `reactivedb` has no attribute `{name}`")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(f"reactivedb.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
