"""How does a program say what older documents become under a new schema?

`@rdb.migration(Message)` makes a function from an old document (a dict in wire names, system fields
included) to the new one. Only the declaration is here; when it runs is the engine's matter. The function is
asked about one document more than once: on each read until the document is rewritten, and for views of the
past ever after. So it has to give the same answer every time, and do nothing else.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast, overload

from reactivedb.errors import SchemaError
from reactivedb.schema.document import CREATION_TIME_FIELD, ID_FIELD, Document
from reactivedb.schema.names import check_identifier
from reactivedb.schema.table import Table, TableDefinition, table_definition
from reactivedb.values import Value, normalize

_SYSTEM_FIELDS = (ID_FIELD, CREATION_TIME_FIELD)

D = TypeVar("D", bound=Document)
# None: the document is deleted.
MigrationFunction: TypeAlias = "Callable[[dict[str, Any]], dict[str, Any] | Document | None]"


@dataclass(frozen=True)
class Migration:
    """One change of all documents of a table, run once per database and remembered by name."""

    name: str
    source: type[Document] | Table
    function: MigrationFunction
    # Of the function's text: an edited function is not the one that the indexes were built with.
    digest: str = field(repr=False)

    @property
    def table(self) -> TableDefinition:
        return table_definition(self.source)

    def __call__(self, document: dict[str, Any], /) -> dict[str, Any] | Document | None:
        """The function itself, so that a test can call it."""
        return self.function(document)

    def apply(self, fields: dict[str, Value]) -> dict[str, Value] | None:
        """The new fields in stored form, system fields as they were; None to delete the document.

        Raises: whatever the function raises; ValidationError, for what cannot be stored.
        """
        result: Any = self.function(cast("dict[str, Any]", normalize(fields)))
        if result is None:
            return None
        if isinstance(result, Document):
            own = self.table.dump(result)
        elif isinstance(result, dict):
            given = cast("dict[str, Any]", result).items()
            own = {name: value for name, value in given if name not in _SYSTEM_FIELDS}
            own = cast("dict[str, Value]", normalize(own))
        else:
            raise SchemaError(
                f"migration `{self.name}` returns a dict, a document or None, got `{type(result).__name__}`",
                code="InvalidMigration",
            )
        return {**{name: fields[name] for name in _SYSTEM_FIELDS}, **own}


@overload
def migration(
    source: type[D], /, *, name: str | None = None
) -> Callable[[Callable[[dict[str, Any]], dict[str, Any] | D | None]], Migration]: ...
@overload
def migration(
    source: Table, /, *, name: str | None = None
) -> Callable[[Callable[[dict[str, Any]], dict[str, Any] | None]], Migration]: ...
def migration(
    source: type[Document] | Table, /, *, name: str | None = None
) -> Callable[[Callable[[dict[str, Any]], Any]], Migration]:
    """Make a function the migration of a table's older documents; its name is remembered for ever.

    Raises: SchemaError, for what is no table, or no function of one document.
    """
    if not _is_table(source):
        raise SchemaError(
            f"`rdb.migration` expects the table whose documents it changes, got `{source!r}` - write"
            " `@rdb.migration(Message)` with a `Document` class of a table, or with a `rdb.Table`",
            code="NotATable",
        )

    def declare(function: MigrationFunction) -> Migration:
        known_as = name or getattr(function, "__name__", "")
        check_identifier("migration", known_as)
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise SchemaError(
                f"migration `{known_as}` is a coroutine or a generator - write a plain `def`",
                code="InvalidMigration",
            )
        if not _takes_one(function):
            raise SchemaError(
                f"migration `{known_as}` is called with one document and nothing else, got"
                f" `{known_as}{inspect.signature(function)}` - give it that one parameter",
                code="InvalidMigration",
            )
        return Migration(known_as, source, function, _digest(function))

    return declare


def _is_table(source: object) -> bool:
    if isinstance(source, type) and issubclass(source, Document):
        return source.__table__ is not None
    return isinstance(source, Table)


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind({})
    except TypeError:
        return False
    except ValueError:
        return True  # A built-in that does not tell.
    return True


def _digest(function: Callable[..., Any]) -> str:
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        # Typed into an interpreter, or an object with `__call__`: there is no text to compare.
        text = ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
