"""What does a user derive a table, or an object within one, from?

A `Document` is a frozen pydantic model. Its system fields and its stored JSON live in slots, not in fields:
a copy of a document, or one made by user code, has none and is not stored.

A document from the database begins as its stored JSON, which is what clients are sent, and reads its fields
out of that when the first of them is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import pydantic
from pydantic import ConfigDict, GetCoreSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from reactivedb.errors import SchemaError, ValidationError
from reactivedb.schema.index import Index
from reactivedb.schema.names import check_identifier
from reactivedb.schema.objects import check_wire_names
from reactivedb.schema.pydantic_annotations import readable_by_pydantic

T = TypeVar("T")

ID_FIELD = "_id"
CREATION_TIME_FIELD = "_creationTime"
IMPLICIT_INDEXES = {"by_creation_time": (CREATION_TIME_FIELD,), "by_id": (ID_FIELD,)}

_RESERVED_NAMES = frozenset({"id", "creation_time", "stored_json", *IMPLICIT_INDEXES})


class Id(str, Generic[T]):
    """The id of a document of a table; a `str` at run time."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


# Of a document's own table, as a type checker cannot know here.
_make_id: Any = Id


def wire_name(name: str, field: FieldInfo) -> str:
    """What a pydantic field is called outside of Python."""
    return field.serialization_alias or field.alias or name


if TYPE_CHECKING:
    _Base = pydantic.BaseModel
else:

    class _ModelMeta(type(pydantic.BaseModel)):
        def __getattr__(cls, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError as error:
                # Pydantic says the name alone. Most likely it was to be an index.
                if name.startswith("_") or error.args != (name,):
                    raise
                members = {
                    name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()
                }
                indexes = ", ".join(
                    f"`{name}`" for name, member in members.items() if isinstance(member, Index)
                )
                known = f"its indexes are {indexes}" if indexes else "a class has no fields, its objects do"
                raise AttributeError(
                    f"`{cls.__name__}` has no `{name}` - {known}", name=name, obj=cls
                ) from None

    class _Base(pydantic.BaseModel, metaclass=_ModelMeta):
        __slots__ = ()


class _CamelCaseModel(_Base):
    """camelCase outside, snake_case inside; both spellings build one."""

    __slots__ = ()

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        # `Int64` and `Unset` are classes that pydantic knows nothing of.
        arbitrary_types_allowed=True,
        ignored_types=(Index,),
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        check_wire_names(cls.__name__, ((n, wire_name(n, f)) for n, f in cls.__pydantic_fields__.items()))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        for field in cls.__pydantic_fields__.values():
            field.annotation = readable_by_pydantic(field.annotation)
        try:
            return handler(source)
        except pydantic.PydanticUserError as error:
            if error.code != "typed-dict-version":
                raise
            raise SchemaError(
                f"a field of `{cls.__name__}` holds a class with a `typing.TypedDict` within, which pydantic"
                " reads from Python 3.12 on - import `TypedDict` from `typing_extensions`",
                code="UnsupportedAnnotation",
            ) from error

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """A copy; what `update` changes is validated, so that no constraint is got around.

        Raises: `pydantic.ValidationError`.
        """
        if not update:
            return super().model_copy(deep=deep)
        names = {wire_name(name, field): name for name, field in type(self).__pydantic_fields__.items()}
        changes = {names.get(name, name): value for name, value in update.items()}
        base = super().model_copy(deep=deep) if deep else self
        return type(self).__pydantic_validator__.validate_python({**base.__dict__, **changes}, by_name=True)


class Model(_CamelCaseModel):
    """An object within a document, an argument or a result: frozen, closed, camelCase on the wire."""


# The slots of every model: pydantic's own `__setattr__` refuses, and going around it by name is slower.
_model_slots: Any = pydantic.BaseModel.__dict__
_get_dict = _model_slots["__dict__"].__get__
_set_dict = _model_slots["__dict__"].__set__


class Document(_CamelCaseModel):
    """One document of a table: `class Message(rdb.Document, table="messages")`.

    A class without `table` only hands its fields and indexes on to those derived from it.
    """

    __slots__ = ("_stored_creation_time", "_stored_id", "_stored_json_text")

    __table__: ClassVar[str | None] = None
    # The class's `TableDefinition`, once somebody asked for it.
    __definition__: ClassVar[Any] = None

    by_creation_time = Index(CREATION_TIME_FIELD)
    by_id = Index(ID_FIELD)

    def __init_subclass__(cls, *, table: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if table is not None:
            check_identifier("table", table)
        cls.__table__ = table
        cls.__definition__ = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        _check_names(cls)

    if not TYPE_CHECKING:
        # Whatever looks at fields passes one of these two: pydantic by way of `__dict__`, and what Python
        # finds nowhere else by way of `__getattr__`.

        def _fields_read(self) -> dict[str, Any]:
            fields = _get_dict(self)
            return fields if fields or not _read(self) else _get_dict(self)

        __dict__ = property(_fields_read, _set_dict)

        def __getattr__(self, name: str) -> Any:
            return getattr(self, name) if _read(self) else super().__getattr__(name)

    @property
    def id(self) -> Id[Self]:
        """Raises: ValidationError `DocumentNotStored`."""
        try:
            if type(self._stored_id) is str:
                # Of most documents of a range nobody asks for it.
                _set_id(self, _make_id(self._stored_id))
            return self._stored_id
        except AttributeError:
            raise _not_stored(self, "id") from None

    @property
    def creation_time(self) -> float:
        """Milliseconds since the epoch.

        Raises: ValidationError `DocumentNotStored`.
        """
        _read(self)
        try:
            return self._stored_creation_time
        except AttributeError:
            raise _not_stored(self, "creation_time") from None

    def stored_json(self) -> bytes | None:
        """The document's stored text, if it can be sent as it is: None for one that is not stored, or that
        lacks fields whose defaults stand for them."""
        return getattr(self, "_stored_json_text", None)

    def __eq__(self, other: object) -> bool:
        if not super().__eq__(other):
            return False
        return getattr(self, "_stored_id", None) == getattr(other, "_stored_id", None)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        stored_id = getattr(self, "_stored_id", None)
        if stored_id is not None:
            yield "id", stored_id
        yield from super().__repr_args__()


def is_stored(document: Document) -> bool:
    return getattr(document, "_stored_id", None) is not None


def unread(document_class: type[Document], id: str, json: bytes) -> Document:
    """A document that reads its fields out of its stored JSON, once they are asked for."""
    document = object.__new__(document_class)
    _set_id(document, id)
    _set_json(document, json)
    _set_creation_time(document, None)
    return document


def _read(document: Document) -> bool:
    """Read the fields; False if they are there already, or the document was never stored."""
    if not is_unread(document):
        return False
    type(document).__definition__.read(document, _get_json(document))
    return True


def is_unread(document: Document) -> bool:
    try:
        return _get_creation_time(document) is None
    except AttributeError:
        return False  # never stored


def mark_stored(document: Document, id: str, creation_time: float, json: bytes | None) -> None:
    """Give a new instance its system fields."""
    _set_id(document, id)
    _set_creation_time(document, creation_time)
    _set_json(document, json)


def mark_read(document: Document, creation_time: float) -> None:
    """The fields of a document that was `unread` are there."""
    _set_creation_time(document, creation_time)


_slots: Any = Document.__dict__
_set_id = _slots["_stored_id"].__set__
_get_creation_time = _slots["_stored_creation_time"].__get__
_set_creation_time = _slots["_stored_creation_time"].__set__
_get_json = _slots["_stored_json_text"].__get__
_set_json = _slots["_stored_json_text"].__set__


def declared_indexes(document_class: type[Document]) -> dict[str, Index]:
    """The indexes of a class and of those it is derived from, without the implicit ones."""
    found: dict[str, Index] = {}
    for base in reversed(document_class.__mro__):
        found.update((name, item) for name, item in vars(base).items() if isinstance(item, Index))
    return {name: index for name, index in found.items() if name not in IMPLICIT_INDEXES}


def _check_names(cls: type[Document]) -> None:
    for name, field in cls.__pydantic_fields__.items():
        wire = wire_name(name, field)
        if name in _RESERVED_NAMES or wire in (ID_FIELD, CREATION_TIME_FIELD):
            raise SchemaError(
                f"`{cls.__name__}.{name}` is a name every document has already - rename the field",
                code="ReservedName",
                field=name,
            )
        check_identifier(f"field of `{cls.__name__}`", wire)
        if wire.startswith("_"):
            raise SchemaError(
                f"`{cls.__name__}.{name}` would be stored as `{wire}`, and `_` begins system fields only"
                " - rename it",
                code="ReservedName",
                field=name,
            )
    for base in cls.__mro__[: cls.__mro__.index(Document)]:
        for name in IMPLICIT_INDEXES:
            if name in vars(base):
                raise SchemaError(
                    f"`{cls.__name__}.{name}` is an index that every table has already - choose another name",
                    code="ReservedName",
                    index=name,
                )


def _not_stored(document: Document, name: str) -> ValidationError:
    kind = type(document).__name__
    return ValidationError(
        f"this `{kind}` has no `{name}`: it is not stored - use the id that `db.insert` returned,"
        f" or the `{kind}` that `db.get` gives for it",
        code="DocumentNotStored",
        table=type(document).__table__,
    )


class StoredFile(Document):
    """What is known of a file: a row of `_storage`, which the file store writes and functions read."""

    # In base64.
    sha256: str
    # In bytes.
    size: float
    # As the upload had it; None if it had none.
    content_type: str | None


# A name that no user may give to a table.
StoredFile.__table__ = "_storage"
