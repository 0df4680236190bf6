"""What may an administrator ask of a running database?

Ordinary queries and mutations under `_system/`, by the names and with the arguments that Convex's CLI and
dashboards use; the registry shows them to administrators only. Tables are given by name, documents as the
wire has them. What the schema refuses is told as an `ApplicationError`, for those callers show nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from ..engine import make_table, schema_progress
from ..errors import ApplicationError, RequestError, SchemaError
from ..limits import MIB
from ..schema import Document, Id, Table
from ..values import Value, dumps
from .pagination import PaginationOptions, PaginationResult
from .query import Query, range_of
from .registration import RegisteredFunction, internal_mutation, internal_query
from .sources import Merge
from .system import CRON_JOBS, IN_PROGRESS, JOBS, PENDING
from .system_spec import function_spec, schema_spec

if TYPE_CHECKING:
    from .context import MutationCtx, QueryCtx
    from .runner import Run

_SYSTEM_FIELDS: Final = ("_id", "_creationTime")
# What one call of `clearTablePage` deletes: enough to be quick, little enough to let others in between.
_CLEARED_ROWS_MAX: Final = 4_000
_CLEARED_SIZE_BYTES_MAX: Final = 3 * MIB
_CANCELED_MAX: Final = 1_000
_CRON_FIELDS: Final = (*_SYSTEM_FIELDS, "name", "cronSpec", "lastRun", "nextRun")


class Success(TypedDict):
    success: Literal[True]


class Cleared(TypedDict):
    deleted: int
    hasMore: bool
    continueCursor: str


class Canceled(TypedDict):
    canceled: int
    hasMore: bool


class DocumentReference(TypedDict):
    id: str
    tableName: str


_DONE: Final[Success] = {"success": True}


# Reading


@internal_query
def tables(
    ctx: QueryCtx, pagination_opts: PaginationOptions | None = None, component_id: str | None = None
) -> PaginationResult[dict[str, str]]:
    """The application's tables, all in one page: there are never many."""
    catalog = _run_of(ctx).runner.engine.catalog.user_tables
    entries = [{"name": table.name} for table in sorted(catalog, key=lambda t: t.name)]
    return PaginationResult(
        page=entries, is_done=True, continue_cursor="END", split_cursor=None, page_status=None
    )


@internal_query
def table_data(
    ctx: QueryCtx,
    table: str,
    pagination_opts: PaginationOptions,
    order: Literal["asc", "desc"] = "desc",
    component_id: str | None = None,
) -> PaginationResult[Any]:
    """A page of a table's documents by creation; the product's own tables too."""
    query = _all_of(ctx, table)
    if query is None:
        return PaginationResult(
            page=[], is_done=True, continue_cursor="END", split_cursor=None, page_status=None
        )
    return query.order(order).paginate(pagination_opts)


@internal_query
def list_table_scan(ctx: QueryCtx, table: str, limit: int, component_id: str | None = None) -> list[Any]:
    """The newest documents of a table; none of a table that there is not."""
    query = _all_of(ctx, table)
    return [] if query is None else query.order("desc").take(limit)


@internal_query
def get_schemas(ctx: QueryCtx, component_id: str | None = None) -> dict[str, str]:
    """The schema as JSON text; without tables there is none.

    `active` is what queries can use now. While indexes are built or documents are migrated, `inProgress` is
    what it will be.
    """
    engine = _run_of(ctx).runner.engine
    tables = [table.definition for table in engine.catalog.user_tables]
    definitions = [definition for definition in tables if definition.name not in engine.made_names]
    if not definitions:
        return {}
    whole = dumps(schema_spec(definitions)).decode()
    left = [row for row in schema_progress(engine) if not row.finished]
    if not left:
        return {"active": whole}
    building = {(row.table, row.name) for row in left if row.kind == "index"}
    return {"active": dumps(schema_spec(definitions, without=building)).decode(), "inProgress": whole}


@internal_query
def api_spec(ctx: QueryCtx, component_id: str | None = None) -> list[Any]:
    """Every function of the application with its validators, and every HTTP action."""
    registry = _run_of(ctx).runner.registry
    return function_spec(registry, registry.http or ())


# Writing


@internal_mutation
def add_document(
    ctx: MutationCtx, table: str, documents: list[Any], component_id: str | None = None
) -> Success:
    """Insert documents, all or none; a table that is not there is made."""
    with _told():
        into = _table_for(ctx, table, documents)
        for document in documents:
            ctx.db.insert(into, document)
    return _DONE


@internal_mutation
def patch_documents_fields(
    ctx: MutationCtx, table: str, ids: list[str], fields: dict[str, Any], component_id: str | None = None
) -> Success:
    """Set the same fields of several documents, all or none."""
    with _told():
        for id in ids:
            ctx.db.replace(Id[Any](id), {**_fields_of(ctx, id, table), **_own(fields)})
    return _DONE


@internal_mutation
def replace_document(
    ctx: MutationCtx, id: str, document: dict[str, Any], component_id: str | None = None
) -> Success:
    """Put a document in the place of another; id and creation time stay what they are."""
    with _told():
        ctx.db.replace(Id[Any](id), _own(document))
    return _DONE


@internal_mutation
def delete_documents(
    ctx: MutationCtx, to_delete: list[DocumentReference], component_id: str | None = None
) -> Success:
    """Delete documents, all or none, with what the schema says to follow; one that is gone is no error."""
    with _told():
        for reference in to_delete:
            if _run_of(ctx).transaction.get(reference["id"]) is not None:
                _fields_of(ctx, reference["id"], reference["tableName"])
                ctx.db.delete(Id[Any](reference["id"]))
    return _DONE


@internal_mutation
def clear_table_page(
    ctx: MutationCtx, table_name: str, cursor: str | None, component_id: str | None = None
) -> Cleared:
    """Delete the oldest documents of a table; to be called until nothing is left."""
    query = _all_of(ctx, table_name)
    if query is None:
        return {"deleted": 0, "hasMore": False, "continueCursor": "END"}
    transaction = _run_of(ctx).transaction
    options = PaginationOptions(
        num_items=_CLEARED_ROWS_MAX, cursor=cursor, maximum_bytes_read=_CLEARED_SIZE_BYTES_MAX
    )
    page = query.paginate(options)
    deleted = 0
    with _told():
        for document in page.page:
            id = _id_of(document)
            # The deletion of another one may have taken it along.
            if transaction.get(id) is not None:
                ctx.db.delete(Id[Any](id))
                deleted += 1
    return {"deleted": deleted, "hasMore": not page.is_done, "continueCursor": page.continue_cursor}


# Jobs


@internal_query
def paginated_scheduled_jobs(
    ctx: QueryCtx,
    pagination_opts: PaginationOptions,
    udf_path: str | None = None,
    component_id: str | None = None,
) -> PaginationResult[Any]:
    """The jobs that wait or run, the next one first; `udf_path` names one function, as `dir/mod.js:fn`."""
    waiting = _jobs(ctx, PENDING, IN_PROGRESS)
    return waiting.filter(lambda job: udf_path in (None, job["name"])).paginate(pagination_opts)


@internal_mutation
def cancel_job(ctx: MutationCtx, id: str, component_id: str | None = None) -> None:
    """Make a pending job never run; one that has ended stays as it is."""
    with _told():
        ctx.scheduler.cancel(id)


@internal_mutation
def cancel_all_jobs(
    ctx: MutationCtx, udf_path: str | None = None, component_id: str | None = None
) -> Canceled:
    """Cancel what waits, of one function or of all; to be called until `hasMore` is false."""
    waiting = _jobs(ctx, PENDING).filter(lambda job: udf_path in (None, job["name"]))
    found = waiting.take(_CANCELED_MAX + 1)
    for job in found[:_CANCELED_MAX]:
        ctx.scheduler.cancel(job["_id"])
    return {"canceled": min(len(found), _CANCELED_MAX), "hasMore": len(found) > _CANCELED_MAX}


@internal_query
def list_cron_jobs(ctx: QueryCtx, component_id: str | None = None) -> list[Any]:
    """The cron jobs by name; `lastRun` and `nextRun` are in ms since the epoch, `lastRun` null before any."""
    run = _run_of(ctx)
    table = run.runner.engine.catalog.table(CRON_JOBS)
    rows: Query[Any] = Query(range_of(run.transaction, table, table.indexes["by_name"]), run.journal)
    return [{name: row.get(name) for name in _CRON_FIELDS} for row in rows]


# Addresses


@internal_query
def cloud_url(ctx: QueryCtx) -> str:
    """Where clients reach this deployment."""
    return _run_of(ctx).runner.deployment.url("CONVEX_CLOUD_URL")


@internal_query
def site_url(ctx: QueryCtx) -> str:
    """Where its HTTP actions are reached."""
    return _run_of(ctx).runner.deployment.url("CONVEX_SITE_URL")


def _run_of(ctx: QueryCtx) -> Run:
    # The context shows user code less than this.
    return ctx._run  # pyright: ignore[reportPrivateUsage]


def _table_for(ctx: MutationCtx, name: str, documents: list[Any]) -> Table:
    """The table, made if need be and if the documents may be stored in it.

    Raises:
        ApplicationError: the name is that of no table.
        ValidationError: a document cannot be stored.
    """
    if name.startswith("_"):
        raise ApplicationError(
            f"a table's name does not begin with `_`, got `{name[:80]}` - system tables do"
        )
    try:
        table = Table(name)
    except SchemaError as error:
        raise ApplicationError(error.message) from error
    engine = _run_of(ctx).runner.engine
    if engine.catalog.find(name) is None:
        for document in documents:
            table.definition.dump(document)
        make_table(engine, name)
    return table


def _all_of(ctx: QueryCtx, table: str) -> Query[Any] | None:
    run = _run_of(ctx)
    state = run.runner.engine.catalog.find(table)
    if state is None:
        return None
    return Query(range_of(run.transaction, state, state.by_creation_time), run.journal)


def _jobs(ctx: QueryCtx, *states: str) -> Query[Any]:
    run = _run_of(ctx)
    table = run.runner.engine.catalog.table(JOBS)
    index = table.indexes["by_state"]
    scans = tuple(range_of(run.transaction, table, index, (state,)) for state in states)
    return Query(Merge(run.transaction, scans), run.journal)


@contextmanager
def _told() -> Generator[None]:
    """Tell what is refused as data of the application, which these callers show."""
    try:
        yield
    except ApplicationError:
        raise
    except RequestError as error:
        raise ApplicationError(error.wire_text) from error


def _id_of(document: Document | dict[str, Any]) -> str:
    return document.id if isinstance(document, Document) else document["_id"]


def _own(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in _SYSTEM_FIELDS}


def _fields_of(ctx: MutationCtx, id: str, table: str) -> dict[str, Value]:
    """The stored fields of a document. Raises: ApplicationError if the table holds no such document."""
    document = _run_of(ctx).transaction.existing(id)
    if document.table.name != table:
        raise ApplicationError(
            f"`{id}` is a document of `{document.table.name}`, expected one of `{table[:80]}`"
        )
    return _own(document.fields)


# It follows what is no document.
SCHEMAS_PATH: Final = "_system/frontend/getSchemas:default"

API_FUNCTIONS: Final[dict[str, RegisteredFunction[..., Any]]] = {
    "_system/cli/tables:default": tables,
    "_system/cli/tableData:default": table_data,
    "_system/cli/modules:apiSpec": api_spec,
    "_system/cli/convexUrl:cloudUrl": cloud_url,
    "_system/cli/convexUrl:siteUrl": site_url,
    "_system/frontend/listTableScan:default": list_table_scan,
    SCHEMAS_PATH: get_schemas,
    "_system/frontend/addDocument:default": add_document,
    "_system/frontend/patchDocumentsFields:default": patch_documents_fields,
    "_system/frontend/replaceDocument:default": replace_document,
    "_system/frontend/deleteDocuments:default": delete_documents,
    "_system/frontend/clearTablePage:default": clear_table_page,
    "_system/frontend/paginatedScheduledJobs:default": paginated_scheduled_jobs,
    "_system/frontend/listCronJobs:default": list_cron_jobs,
    "_system/frontend/cancelJob:default": cancel_job,
    "_system/frontend/cancelAllJobs:default": cancel_all_jobs,
}
