"""What is in a table, and how does a document get in and out?

A `TableDefinition` is the one description of a table, whether a class declares it or a `Table` of dicts.
`dump` and `dump_patch` validate; `load` trusts what was validated when it was stored and is on the path of
every read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, cast

from reactivedb.errors import SchemaError, ValidationError, ValueLimitError
from reactivedb.limits import DEFAULT_LIMITS, active_limits
from reactivedb.schema.annotations import derive_model
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.constraints import FieldRule, TableRules, is_rule, table_rules
from reactivedb.schema.document import (
    CREATION_TIME_FIELD,
    ID_FIELD,
    IMPLICIT_INDEXES,
    Document,
    Id,
    declared_indexes,
    mark_read,
    mark_stored,
    unread,
)
from reactivedb.schema.index import BoundIndex, Index, IndexDefinition
from reactivedb.schema.index_path import IndexField, resolve_index_field
from reactivedb.schema.mismatch import mismatch, missing_field, unknown_field
from reactivedb.schema.models import ModelValidator
from reactivedb.schema.names import check_identifier, is_identifier
from reactivedb.schema.objects import ObjectValidator, Presence, checked_validator
from reactivedb.schema.union import UnionValidator
from reactivedb.schema.validators import IdValidator, NumberValidator, RecordValidator, Validator
from reactivedb.values import UNSET, Value, decode

SYSTEM_FIELDS = frozenset({ID_FIELD, CREATION_TIME_FIELD})
_CREATION_TIME = IndexField(CREATION_TIME_FIELD, NumberValidator())


class Table:
    """A table of dicts, schemaless without a validator: field names are the same in Python."""

    def __init__(
        self,
        name: str,
        validator: Validator | None = None,
        *,
        indexes: Mapping[str, list[str] | tuple[str, ...] | Index] | None = None,
        rules: Mapping[str, FieldRule] | None = None,
    ) -> None:
        check_identifier("table", name)
        if validator is not None:
            _check_fields(name, validator)
        self.name = name
        self.validator = validator
        self.rules = {field: (rule,) for field, rule in (rules or {}).items()}
        self.indexes: dict[str, Index] = {}
        for index_name, fields in (indexes or {}).items():
            if isinstance(fields, str):
                raise SchemaError(
                    f"`{name}.{index_name}` is an index of a list of fields, got `{fields!r}`"
                    f" - write `[{fields!r}]`",
                    code="IndexFieldNotName",
                )
            self.indexes[index_name] = index = fields if isinstance(fields, Index) else Index(*fields)
            index.name = index_name

    def index(self, name: str) -> BoundIndex[dict[str, Any]]:
        """Raises: SchemaError if there is no such index."""
        if name not in self.definition.indexes:
            raise SchemaError(
                f"`{name}` is not an index of `{self.name}` - its indexes are "
                + ", ".join(f"`{known}`" for known in self.definition.indexes),
                code="UnknownIndex",
            )
        return BoundIndex(self, name)

    @cached_property
    def definition(self) -> TableDefinition:
        return TableDefinition(
            self.name, validator=self.validator, declared=self.indexes, field_rules=self.rules
        )

    def __repr__(self) -> str:
        return f"Table({self.name!r})"


class TableDefinition:
    """One table: its fields, its indexes, and the two directions between stored fields and Python."""

    def __init__(
        self,
        name: str,
        *,
        validator: Validator | None = None,
        document_class: type[Document] | None = None,
        declared: Mapping[str, Index] | None = None,
        field_rules: Mapping[str, tuple[FieldRule, ...]] | None = None,
    ) -> None:
        self.name = name
        self.document_class = document_class
        # Of the fields without system fields; None: anything goes.
        self.validator = validator
        self._model = validator if isinstance(validator, ModelValidator) else None
        self.shareable = self._model is not None and self._model.shareable
        self.indexes: dict[str, IndexDefinition] = {
            index: IndexDefinition(index, name, fields) for index, fields in IMPLICIT_INDEXES.items()
        }
        # What a range may name after the index's own fields: the creation time.
        self.index_fields: dict[str, tuple[IndexField, ...]] = {
            "by_creation_time": (_CREATION_TIME,),
            "by_id": (IndexField(ID_FIELD, IdValidator(name, Id)),),
        }
        for index in (declared or {}).values():
            self._declare(index)
        if len(self.indexes) - len(IMPLICIT_INDEXES) > DEFAULT_LIMITS.indexes_per_table_max:
            raise SchemaError(
                f"table `{name}` has {len(declared or {})} indexes, expected at most"
                f" {DEFAULT_LIMITS.indexes_per_table_max} - drop some",
                code="TooManyIndexes",
            )
        self.rules: TableRules = table_rules(name, validator, field_rules or {}, self.indexes)

    def _declare(self, index: Index) -> None:
        owner = f"{self.name}.{index.name}"
        check_identifier("index", index.name)
        if index.name in self.indexes:
            raise SchemaError(
                f"`{owner}`: every table has an index of that name - rename yours", code="ReservedName"
            )
        if len(index.fields) > DEFAULT_LIMITS.fields_per_index_max:
            raise SchemaError(
                f"`{owner}` has {len(index.fields)} fields, expected at most"
                f" {DEFAULT_LIMITS.fields_per_index_max} - drop some",
                code="TooManyIndexFields",
            )
        fields = tuple(resolve_index_field(self.validator, path, owner=owner) for path in index.fields)
        paths = tuple(field.path for field in fields)
        if len(set(paths)) != len(paths):
            raise SchemaError(f"`{owner}` names a field twice - drop one", code="DuplicateIndexField")
        self.indexes[index.name] = IndexDefinition(
            index.name, self.name, paths, unique=index.unique, staged=index.staged
        )
        self.index_fields[index.name] = (*fields, _CREATION_TIME)

    # Into the store.

    def dump(self, document: object) -> dict[str, Value]:
        """The stored fields, without system fields. A dict is taken for a document in wire names.

        Raises: ValidationError.
        """
        if self._model is not None:
            if type(document) is self.document_class:
                if self._model.has_own_rules:
                    # A list in it may have grown since, or pydantic was gone around. Only asked: what its
                    # validators made of the values they have made already.
                    self._model.validated(document.__dict__, "")
                return self._model.dump_fields(document.__dict__, "")
            if isinstance(document, Document):
                # Of a derived class too: it may have fields that this table has not.
                raise mismatch(
                    self._model.label,
                    document,
                    "",
                    way_out=f"`{type(document).__name__}` is another class than that of table `{self.name}`",
                )
            if isinstance(document, dict):
                document = self._model.parse(cast("dict[str, Value]", document))
            return cast("dict[str, Value]", self._model.dump(document))
        if not isinstance(document, dict):
            raise mismatch("a dict", document, "", way_out=f"`{self.name}` is a table of dicts")
        # What the database sets itself need not be given.
        fields = {**dict.fromkeys(self.rules.updated_at, 0.0), **cast("dict[Any, Any]", document)}
        for name in fields:
            _check_field_name(self.name, name)
        dumped = (self.validator or AnyValidator()).dump(fields)
        return cast("dict[str, Value]", dumped)

    def dump_patch(self, current: Mapping[str, Value], changes: Mapping[str, object]) -> dict[str, Value]:
        """All fields after a shallow merge; `UNSET`, and None for an optional field, remove one.

        Field names are Python's or the wire's. The whole is validated, constraints of the class included.
        Raises: ValidationError.
        """
        fields = {name: value for name, value in current.items() if name not in SYSTEM_FIELDS}
        if self._model is not None:
            return self._patched(self._model, fields, changes)
        if self.validator is not None:
            merged: dict[str, object] = {**fields, **changes}
            return self.dump({name: value for name, value in merged.items() if value is not UNSET})
        for name, value in changes.items():
            _check_field_name(self.name, name)
            if value is UNSET:
                fields.pop(name, None)
            else:
                fields[name] = AnyValidator().dump(value, ("", name))
        return fields

    def _patched(
        self, model: ModelValidator, fields: dict[str, Value], changes: Mapping[str, object]
    ) -> dict[str, Value]:
        for name, value in changes.items():
            field = model.by_name.get(name) or model.by_wire_name.get(name)
            if field is None:
                raise unknown_field(model.label, list(model.by_name), ("", name))
            if value is UNSET and field.presence is Presence.DEFAULT and field.make_default is not None:
                value = field.make_default()
            stored = field.dumped(value, "")
            if stored is UNSET:
                fields.pop(field.wire, None)
            else:
                fields[field.wire] = cast("Value", stored)
        fields = cast("dict[str, Value]", model.fill(fields))
        for field in model.fields:
            if field.wire not in fields and field.presence in (Presence.REQUIRED, Presence.DEFAULT):
                raise missing_field(field.validator, ("", field.wire))
        if not model.has_own_rules:
            # What did not change was checked when it was stored.
            return fields
        made = model.validated(model.load_fields(fields), "")
        return model.dump_fields(made.__dict__, "")

    @cached_property
    def wire_names(self) -> dict[str, str]:
        """The wire names of declared fields by Python name."""
        return {} if self._model is None else {field.name: field.wire for field in self._model.fields}

    def check(self, fields: Mapping[str, Value]) -> None:
        """Does a document that is already stored fit this definition?

        Raises: ValidationError. A field that only a `default_factory` could fill counts as missing.
        """
        if self.validator is None:
            return
        plain = {name: value for name, value in fields.items() if name not in SYSTEM_FIELDS}
        filled = cast("dict[str, Value]", self.validator.fill(plain))
        if isinstance(self.validator, ObjectValidator):
            for field in self.validator.fields:
                if field.presence is Presence.DEFAULT and field.wire not in filled:
                    raise missing_field(field.validator, ("", field.wire))
        self.validator.parse(filled)

    # Out of the store.

    def load(self, fields: dict[str, Value], json: bytes | None) -> Any:
        """The document as user code sees it. `fields` holds the system fields and fits this definition."""
        if self._model is None:
            return dict(fields) if self._load_dict is None else self._load_dict(fields)
        document = self._model.rebuild(self._model.load_fields(fields))
        self._mark(document, fields, json)
        return document

    @cached_property
    def unread(self) -> Callable[[str, bytes], Any] | None:
        """Makes a document of an id and its stored JSON, which reads its fields once one is asked for.

        None for dicts, and where that cannot be: the text may lack fields whose defaults stand for them,
        something happens when a document is made, or its class has an attribute in the place of a field.
        """
        model = self.document_class
        if self._model is None or model is None or self._model.fills or model.__pydantic_post_init__:
            return None
        if any(hasattr(model, field.name) for field in self._model.fields):
            return None
        return partial(unread, model)

    def read(self, document: Document, json: bytes) -> None:
        """Give a document that was `unread` its fields."""
        assert self._model is not None
        fields = cast("dict[str, Value]", decode(json))
        self._model.furnish(document, self._model.load_fields(fields))
        mark_read(document, cast("float", fields[CREATION_TIME_FIELD]))

    def _mark(self, document: Any, fields: dict[str, Value], json: bytes | None) -> None:
        mark_stored(
            document,
            cast("str", fields[ID_FIELD]),
            cast("float", fields[CREATION_TIME_FIELD]),
            json if self.complete(fields) else None,
        )

    @cached_property
    def _load_dict(self) -> Any:
        """None: dicts of this table are the same in Python."""
        load = None if self.validator is None else self.validator.load
        if load is None:
            return None

        def load_dict(fields: dict[str, Value]) -> dict[str, Any]:
            own = {name: value for name, value in fields.items() if name not in SYSTEM_FIELDS}
            return {
                ID_FIELD: cast("str", Id(cast("str", fields[ID_FIELD]))),
                CREATION_TIME_FIELD: fields[CREATION_TIME_FIELD],
                **load(own),
            }

        return load_dict

    def read_form(self, fields: dict[str, Value]) -> dict[str, Value]:
        """`fields` with the defaults of what they lack; the same object if they lack nothing."""
        if self.validator is None or not self.validator.fills:
            return fields
        return cast("dict[str, Value]", self.validator.fill(fields))

    def complete(self, fields: dict[str, Value]) -> bool:
        """May the stored text be sent as it is?"""
        return self.read_form(fields) is fields

    def __repr__(self) -> str:
        return f"TableDefinition({self.name!r})"


def table_definition(source: type[Document] | Table) -> TableDefinition:
    """The definition of a class or a `Table`; the same object every time.

    Raises: SchemaError if the class has no table, or declares something that cannot be stored.
    """
    if isinstance(source, Table):
        return source.definition
    found: TableDefinition | None = source.__definition__
    if found is not None:
        return found
    if source.__table__ is None:
        raise SchemaError(
            f'`{source.__name__}` has no table - declare it as `class {source.__name__}(..., table="...")`',
            code="NoTable",
        )
    source.__definition__ = definition = TableDefinition(
        source.__table__,
        validator=derive_model(source, (source,)),
        document_class=source,
        declared=declared_indexes(source),
        field_rules=declared_rules(source),
    )
    return definition


def declared_rules(document_class: type[Document]) -> dict[str, tuple[FieldRule, ...]]:
    """The rules beside the annotations of a class, by Python name."""
    rules = {
        name: tuple(item for item in field.metadata if is_rule(item))
        for name, field in document_class.__pydantic_fields__.items()
    }
    return {name: of_field for name, of_field in rules.items() if of_field}


def system_table(name: str, indexes: Mapping[str, tuple[str, ...]]) -> TableDefinition:
    """A table of the product's own: dicts without a validator."""
    return Table(name, indexes=indexes).definition


def _check_fields(table: str, validator: Validator) -> None:
    """Raises: SchemaError for a validator that no document of a table of dicts fits."""
    if isinstance(validator, UnionValidator):
        for member in validator.members:
            _check_fields(table, member)
    elif isinstance(validator, ObjectValidator):
        for field in validator.fields:
            if field.wire in SYSTEM_FIELDS:
                raise SchemaError(
                    f"`{table}.{field.wire}` is a field every document has already - drop it",
                    code="ReservedName",
                    field=field.wire,
                )
            try:
                _check_field_name(table, field.wire)
            except ValidationError as error:
                raise SchemaError(error.message, code=error.code, field=field.wire) from None
    elif not isinstance(validator, RecordValidator | AnyValidator):
        given = checked_validator(validator, "rdb.Table")
        raise SchemaError(
            f"the documents of table `{table}` are objects, got `{given}` as their validator"
            " - use `v.object({...})`, or a union of such",
            code="NotAnObject",
            table=table,
        )


def _check_field_name(table: str, name: object) -> None:
    length_max = active_limits().identifier_length_max
    if isinstance(name, str) and len(name) > length_max:
        raise ValueLimitError(
            f"`{name[:80]}` cannot be a field of `{table}`: expected at most {length_max} characters, "
            f"got {len(name)} - rename it, or nest it",
            code="InvalidFieldName",
            limit="identifier_length_max",
            maximum=length_max,
            asked=len(name),
            path=f".{name}",
        )
    if not isinstance(name, str) or name.startswith("_") or not is_identifier(name):
        raise ValidationError(
            f"`{name}` cannot be a field of `{table}`: expected a letter, then letters, digits and `_`"
            " - rename it, or nest it",
            code="InvalidFieldName",
            path=f".{name}",
        )
