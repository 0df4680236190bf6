"""Which document does an upsert mean, and what is stored in the end?

The key is an equality range over all fields of a unique index. Fields of the key need not be given again; if
they are, they have to agree with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from ..engine import Catalog, IndexScan, StoredDocument, scan_of
from ..errors import ValidationError
from ..schema import Document, Id, IndexRange, source_bounds
from ..values import UNSET, Value

if TYPE_CHECKING:
    from ..engine import TableState

# `Any` for a table of dicts.
D = TypeVar("D")


class Upserted(NamedTuple, Generic[D]):
    """What `db.upsert` did: `id, created = ctx.db.upsert(...)`."""

    id: Id[D]
    created: bool


@dataclass(frozen=True, slots=True)
class UpsertKey:
    """One place in a unique index."""

    scan: IndexScan
    # The key as it was given, by wire path.
    given: dict[str, Any]
    text: str

    @property
    def table(self) -> TableState:
        return self.scan.table

    def new_fields(self, document: Document | Mapping[str, Any]) -> dict[str, Value]:
        """The fields of a document that does not exist yet."""
        definition = self.table.definition
        if isinstance(document, Document):
            return self._at_key(definition.dump(document))
        key = _nested(self.given)
        if definition.document_class is None:
            return self._at_key(definition.dump({**key, **document}))
        # By wire name, as the key is.
        wire_names = definition.wire_names
        fields = {**key, **{wire_names.get(name, name): value for name, value in document.items()}}
        present = {name: value for name, value in fields.items() if value is not UNSET}
        return self._at_key(definition.dump(definition.document_class(**present)))

    def changed_fields(
        self, current: StoredDocument, document: Document | Mapping[str, Any]
    ) -> dict[str, Value]:
        """The fields of the document that is there, after a patch by what was given explicitly."""
        changes: Mapping[str, Any] = (
            {name: getattr(document, name) for name in document.model_fields_set}
            if isinstance(document, Document)
            else document
        )
        if isinstance(document, Document) and type(document) is not self.table.definition.document_class:
            self.table.definition.dump(document)  # Refuses it, in its own words.
        return self._at_key(self.table.definition.dump_patch(current.fields, changes))

    def _at_key(self, fields: dict[str, Value]) -> dict[str, Value]:
        values = self.scan.index.values_in(self.table.definition.read_form(fields))
        if self.scan.index.prefix(tuple(values)) != self.scan.prefix:
            raise ValidationError(
                f"`upsert` at `{self.text}` got fields that lie elsewhere in that index - leave the fields"
                " of the key out, or give the same values",
                code="UpsertKeyMismatch",
                index=self.scan.index.definition.name,
            )
        return fields


def given_fields(document: Any, fields: dict[str, Any]) -> Document | Mapping[str, Any]:
    """The one of both that the caller gave.

    Raises: ValidationError `InvalidUpsert`, for both, or for what is neither a document nor a dict.
    """
    if document is None:
        return fields
    if isinstance(document, Document | Mapping) and not fields:
        return cast("Document | Mapping[str, Any]", document)
    kind = type(cast("object", document)).__name__
    got = f"an object of type `{kind}`" + (f" and {len(fields)} fields" if fields else "")
    raise ValidationError(
        f"`upsert` expects fields as arguments, or one dict, or one document, got {got} - give one of them",
        code="InvalidUpsert",
    )


def _nested(given: dict[str, Any]) -> dict[str, Any]:
    """Values by path as the objects they lie in."""
    root: dict[str, Any] = {}
    # Deepest first, so that an object which the key names as a whole is what remains.
    for path in sorted(given, key=lambda path: -path.count(".")):
        *parents, name = path.split(".")
        place = root
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = given[path]
    return root


def upsert_key(catalog: Catalog, source: IndexRange[Any]) -> UpsertKey:
    """Raises: ValidationError `UpsertNeedsUnique`, unless the range is all of a unique index's fields."""
    if not isinstance(source, IndexRange):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise _not_unique(source)
    bounds = source_bounds(source)
    fields = bounds.index.fields
    is_key = bounds.lower is None and bounds.upper is None and len(bounds.equal) == len(fields)
    if not is_key or UNSET in bounds.equal or bounds.index not in bounds.table.rules.unique:
        raise _not_unique(source)
    given = dict(zip(fields, source.equal, strict=True))
    return UpsertKey(scan_of(catalog, bounds), cast("dict[str, Any]", given), repr(source))


def _not_unique(source: object) -> ValidationError:
    return ValidationError(
        f"`upsert` expects `eq` with a value for every field of an `rdb.Index(..., unique=True)`, got"
        f" `{source!r}` - declare such an index, or query and then insert or patch",
        code="UpsertNeedsUnique",
    )
