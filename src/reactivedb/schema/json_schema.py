"""What does a validator say as JSON Schema (2020-12)?

Requests and answers differ: arguments are always in the lossless encoding (`{"$integer": ...}`), while the
format `json` writes results for other languages: an int64 as its digits, bytes as base64, NaN as `"NaN"`.
Classes and special values become components, which others refer to. Constraints of pydantic are named where
JSON Schema has a word for them; a validator written in Python has none, and refuses at run time only.
"""

from __future__ import annotations

import inspect
import math
import re
from enum import Enum, auto
from typing import Annotated, Any, Final, cast

import pydantic

from reactivedb.limits import Limits
from reactivedb.schema.anything import AnyValidator
from reactivedb.schema.arguments import ArgsValidator
from reactivedb.schema.constrained import ConstrainedValidator
from reactivedb.schema.constraints import FieldRule
from reactivedb.schema.models import DocumentValidator, ModelValidator
from reactivedb.schema.objects import DataclassValidator, Field, ObjectValidator, Presence
from reactivedb.schema.union import UnionValidator
from reactivedb.schema.validators import (
    EXACT_INT_MAX,
    ArrayValidator,
    BooleanValidator,
    BytesValidator,
    IdValidator,
    Int64Validator,
    LiteralValidator,
    NullValidator,
    NumberValidator,
    RecordValidator,
    StringValidator,
    Validator,
)
from reactivedb.values import encode_plain, loads

JsonSchema = dict[str, Any]

# Told apart from other text by who knows it: ids have a checksum, so no pattern can describe them.
ID_FORMAT: Final = "reactivedb-id"
_ID_PATTERN: Final = "^[0-9a-hjkmnp-tv-z]{31,37}$"
# Eight bytes as base64, with no bit set beyond them; any number of bytes.
_EIGHT_BYTES: Final = "^[A-Za-z0-9+/]{10}[AEIMQUYcgkosw048]=$"
_BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
_COMPONENTS: Final = "#/components/schemas/"
# Words of pydantic's core schemas, and JSON Schema's.
_WORDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_LENGTHS: Final = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}
_AROUND: Final = ("function-after", "nullable", "default", "definitions")


class Use(Enum):
    """What a schema describes."""

    ARGUMENT = auto()
    RESULT = auto()


class JsonSchemas:
    """The schemas of one document, and the components they refer to."""

    def __init__(self, limits: Limits) -> None:
        self.components: dict[str, JsonSchema] = {}
        self._limits = limits

    def arguments(self, args: ArgsValidator) -> JsonSchema:
        """The object with a function's arguments."""
        return self._object(args.object.fields, Use.ARGUMENT)

    def of(self, validator: Validator, use: Use) -> JsonSchema:
        is_argument = use is Use.ARGUMENT
        match validator:
            case NullValidator():
                return {"type": "null"}
            case BooleanValidator():
                return {"type": "boolean"}
            case StringValidator():
                return {"type": "string"}
            case BytesValidator():
                return self._special("Bytes", "$bytes", _BASE64) if is_argument else _plain_bytes()
            case Int64Validator():
                return self._special("Int64", "$integer", _EIGHT_BYTES) if is_argument else _plain_int64()
            case NumberValidator():
                return self._number(validator, is_argument=is_argument)
            case LiteralValidator():
                stored = validator.export()["value"]
                return {"const": stored if is_argument else loads(encode_plain(validator.value))}
            case IdValidator():
                return _id(validator)
            case ArrayValidator():
                items = self.of(validator.item, use)
                return {"type": "array", "items": items, "maxItems": self._limits.array_length_max}
            case RecordValidator():
                return self._record(validator, use)
            case UnionValidator():
                return _any_of([self.of(member, use) for member in validator.members])
            case ConstrainedValidator():
                schema = self.of(validator.inner, use)
                # What is stored may be older than the constraint.
                return _constrained(schema, validator.adapter.core_schema) if is_argument else schema
            case DocumentValidator(inner=inner):
                schema = self._object(validator.all_fields, use, inner.python_class)
                return self._component(inner.label, schema, inner.python_class, use)
            case ModelValidator():
                schema = self._object(validator.fields, use, validator.python_class)
                return self._component(validator.label, schema, validator.python_class, use)
            case DataclassValidator():
                schema = self._object(validator.fields, use)
                return self._component(validator.label, schema, validator.python_class, use)
            case ObjectValidator():
                schema = self._object(validator.fields, use)
                return self._component(validator.label, schema, None, use) if validator.label else schema
            case AnyValidator() if is_argument:
                return self._any()
            case _:
                return {}

    def _object(
        self, fields: tuple[Field, ...], use: Use, model: type[pydantic.BaseModel] | None = None
    ) -> JsonSchema:
        properties: JsonSchema = {}
        required: list[str] = []
        for field in fields:
            schema = self.of(field.validator, use)
            if use is Use.ARGUMENT:
                if model is not None:
                    schema = _with_rules(schema, model, field.name)
                if field.null_is_absent:
                    schema = {"anyOf": [schema, {"type": "null"}]}
                is_required = field.presence is Presence.REQUIRED
            else:
                # A default stands in every object that is sent.
                is_required = field.presence in (Presence.REQUIRED, Presence.DEFAULT)
            properties[field.wire] = schema
            if is_required:
                required.append(field.wire)
        schema: JsonSchema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": required} if required else schema

    def _record(self, validator: RecordValidator, use: Use) -> JsonSchema:
        names = self.of(validator.keys, use)
        if validator.keys == StringValidator():
            names = {"pattern": self._name_pattern, "maxLength": self._limits.field_name_length_max}
        return {
            "type": "object",
            "propertyNames": names,
            "additionalProperties": self.of(validator.values, use),
            "maxProperties": self._limits.object_field_count_max,
        }

    # Printable ASCII without a leading `$`.
    _name_pattern = "^([ -#%-~][ -~]*)?$"

    def _number(self, validator: NumberValidator, *, is_argument: bool) -> JsonSchema:
        if validator.integral:
            return {"type": "integer", "minimum": -EXACT_INT_MAX, "maximum": EXACT_INT_MAX}
        if is_argument:
            special = self._special("SpecialFloat", "$float", _EIGHT_BYTES)
            return self._component("Number", {"anyOf": [{"type": "number"}, special]}, None, Use.ARGUMENT)
        words = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}
        return self._component("Number", {"anyOf": [{"type": "number"}, words]}, None, Use.RESULT)

    def _special(self, name: str, key: str, pattern: str) -> JsonSchema:
        schema: JsonSchema = {
            "type": "object",
            "properties": {key: {"type": "string", "contentEncoding": "base64", "pattern": pattern}},
            "required": [key],
            "additionalProperties": False,
        }
        return self._component(name, schema, None, Use.RESULT)

    def _any(self) -> JsonSchema:
        reference = {"$ref": f"{_COMPONENTS}Value"}
        if "Value" not in self.components:
            self.components["Value"] = {
                "description": "Any value, in the lossless encoding.",
                "anyOf": [
                    {"type": ["null", "boolean", "number", "string"]},
                    self._special("SpecialFloat", "$float", _EIGHT_BYTES),
                    self._special("Int64", "$integer", _EIGHT_BYTES),
                    self._special("Bytes", "$bytes", _BASE64),
                    {"type": "array", "items": reference, "maxItems": self._limits.array_length_max},
                    {
                        "type": "object",
                        "propertyNames": {
                            "pattern": self._name_pattern,
                            "maxLength": self._limits.field_name_length_max,
                        },
                        "additionalProperties": reference,
                        "maxProperties": self._limits.object_field_count_max,
                    },
                ],
            }
        return reference

    def _component(self, label: str, schema: JsonSchema, python_class: type | None, use: Use) -> JsonSchema:
        """A reference to the component of that name; two classes of one name are numbered."""
        text = _prose(python_class)
        if text:
            schema = {"description": text, **schema}
        base = re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("_")
        base += "Input" if use is Use.ARGUMENT else ""
        name, number = base, 1
        while self.components.setdefault(name, schema) != schema:
            number += 1
            name = f"{base}{number}"
        return {"$ref": f"{_COMPONENTS}{name}"}


def _any_of(schemas: list[JsonSchema]) -> JsonSchema:
    if all(schema.keys() == {"const"} for schema in schemas):
        return {"enum": [schema["const"] for schema in schemas]}
    return {"anyOf": schemas}


def _plain_bytes() -> JsonSchema:
    return {"type": "string", "contentEncoding": "base64", "description": "Bytes as base64."}


def _plain_int64() -> JsonSchema:
    return {"type": "string", "pattern": "^-?[0-9]{1,19}$", "description": "An int64 as its digits."}


def _id(validator: IdValidator) -> JsonSchema:
    schema: JsonSchema = {"type": "string", "format": ID_FORMAT, "pattern": _ID_PATTERN}
    if validator.table is not None:
        schema["description"] = f"The id of a document of `{validator.table}`."
    return schema


def _prose(python_class: type | None) -> str:
    """What the class says about itself; a dataclass without a docstring is given its signature as one."""
    text = None if python_class is None else python_class.__dict__.get("__doc__")
    if not isinstance(text, str) or text.startswith(f"{cast('type', python_class).__name__}("):
        return ""
    return inspect.cleandoc(text)


def _with_rules(schema: JsonSchema, model: type[pydantic.BaseModel], name: str) -> JsonSchema:
    """The schema of a model's field with what `Field(...)` says about it."""
    info = model.__pydantic_fields__.get(name)
    rules = [] if info is None else [item for item in info.metadata if not isinstance(item, FieldRule)]
    if info is None or not rules:
        return schema
    annotation: Any = Annotated[(info.annotation, *rules)]
    return _constrained(schema, pydantic.TypeAdapter(annotation).core_schema)


def _constrained(schema: JsonSchema, core: Any) -> JsonSchema:
    """The schema with those of pydantic's constraints that it has words for."""
    while core.get("type") in _AROUND:
        core = core["schema"]
    if schema.get("$ref") == f"{_COMPONENTS}NumberInput" and core.get("type") == "float":
        # A bound is asked of numbers; whether NaN and infinity keep it is for pydantic to say.
        schema = {"type": "number"}
    lengths = _LENGTHS.get(str(schema.get("type")), ("", ""))
    words = _WORDS | dict(zip(("min_length", "max_length"), lengths, strict=True))
    found: JsonSchema = {}
    for name, word in words.items():
        bound = core.get(name)
        if word and isinstance(bound, int | float) and math.isfinite(bound):
            found[word] = bound
    pattern = core.get("pattern")
    if pattern is not None and schema.get("type") == "string":
        found["pattern"] = pattern if isinstance(pattern, str) else pattern.pattern
    return {**schema, **found} if schema.get("type") in _CONSTRAINED else schema


_CONSTRAINED: Final = frozenset({"string", "number", "integer", "array"})
