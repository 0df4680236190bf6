"""How is a large message or body read: step by step, and only as far as somebody wants it?

What is small is read at once by whoever has it. Of a large one the envelope is read first. Then each call's
arguments: they are counted (`values/shape`), and held against the types that the function's parameters take,
before anything in them is read; a function that takes a text refuses five million lists for their first
character. What is left is read in steps. A call whose arguments are refused fails like any other call.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from ..errors import RequestError, ValidationError
from ..functions import FunctionDefinition
from ..limits import KIB, Limits
from ..schema import ArgsValidator
from ..values import (
    Int64,
    MalformedJson,
    MisfitError,
    Opener,
    Steps,
    Value,
    check_container,
    check_field_names,
    is_object,
    is_small,
    loads,
    measured,
    objects_of,
    read_envelope,
    read_fields,
    read_value,
)
from .calls import ReadArgs, args_of

# Finds the function of a call by the small fields beside its arguments. Raises: RequestError.
Find: TypeAlias = Callable[[dict[str, Any]], FunctionDefinition]

# What a value can be by the first character of its text, and what an error shows of it.
_KINDS: dict[bytes, tuple[frozenset[type], Value]] = {
    b'"': (frozenset({str}), "..."),
    b"[": (frozenset({list}), ["..."]),
    b"{": (frozenset({dict}), {"...": "..."}),
}
_NUMBER: tuple[frozenset[type], Value] = (frozenset({float}), 0.0)
_SPECIAL = frozenset({bytes, Int64, float})
_SPECIAL_OBJECT = re.compile(rb'\{\s*"\$')
# Members of the outermost object that are scalars; they are looked for within a few KiB at either end.
_MEMBER = rb'"[A-Za-z]{1,40}"\s*:\s*(?:"(?:[^"\\]|\\.)*"|-?[0-9.]{1,40}|null|true|false)'
_HEAD = re.compile(rb'\s*\{\s*((?:%b\s*,\s*)*)"args"\s*:\s*' % _MEMBER)
_TAIL = re.compile(rb"[\]}]((?:\s*,\s*%b)+)\s*\}\s*\Z" % _MEMBER)
_HEAD_BYTES = 2 * KIB
_TAIL_BYTES = 1 * KIB
# The name of the first argument, and the text of its value from the first character on.
_FIRST = re.compile(rb'\s*+\[?\s*+\{\s*+"([A-Za-z0-9_]{1,100})"\s*+:\s*+([\[{].{0,100})', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
# Of a large text with more of them no envelope is read: mending each costs a microsecond.
_SURROGATES_MAX = 1_000


def read_large(text: bytes, find: Find, limits: Limits, *, named_by: frozenset[str]) -> Steps:
    """The fields of a large message or body, with `ReadArgs` for the arguments of each call in it.

    `named_by` are the fields that say which call it is. Where they stand at the beginning or the end, as
    official clients have them, a call that is refused costs no look at what lies between.

    Raises:
        ValidationError: `MalformedJson`; `TooManyValues`, where the call could not be told.
    """
    # Nothing of it is done at once.
    yield
    fields, args_at = _outermost(text)
    is_known = args_at > 0 and named_by <= fields.keys()
    try:
        if is_known:
            _check_first(text[args_at : args_at + _HEAD_BYTES], find(fields).args)
        if is_object(text):
            yield from measured(text, limits)
    except RequestError as error:
        if not is_known:
            raise
        return fields | {"args": ReadArgs(refusal=error)}
    try:
        return (yield from read_envelope(text, _openers(find, limits)))
    except ValidationError as error:
        if error.code != "LoneSurrogate" or len(_SURROGATE.findall(text, 0)) > _SURROGATES_MAX:
            raise
        # Its envelope says which call it is that fails.
        refusal = error

    def refuse(text: bytes, fields: dict[str, Any]) -> Steps:
        yield
        return ReadArgs(refusal=refusal)

    return (yield from read_envelope(_SURROGATE.sub(rb"\\ufffd", text), _openers(find, limits, refuse)))


def _openers(find: Find, limits: Limits, open_args: Opener | None = None) -> dict[str, Opener]:
    def args(text: bytes, fields: dict[str, Any]) -> Steps:
        try:
            return ReadArgs((yield from _read_args(text, find(fields).args, limits)))
        except RequestError as error:
            return ReadArgs(refusal=error)

    opener = open_args or args

    def if_large(text: bytes, fields: dict[str, Any]) -> Steps:
        if is_small(text):
            return loads(text)
        return (yield from opener(text, fields))

    def several(text: bytes, fields: dict[str, Any]) -> Steps:
        objects = objects_of(text)
        yield
        if objects is None:
            return [None]  # The message is refused for the first element that is no object.
        read: list[Any] = []
        for each in objects:
            fields = yield from read_fields(each, {"args": if_large})
            read.append(fields)
        return read

    return {"args": if_large, "modifications": several, "queries": several}


def _outermost(text: bytes) -> tuple[dict[str, Any], int]:
    """The scalars ahead of the arguments and behind them, as far as they are found, and where those begin.

    0: there are no arguments near the beginning.
    """
    head = _HEAD.match(text[:_HEAD_BYTES])
    if head is None:
        return {}, 0
    tail = _TAIL.search(text[-_TAIL_BYTES:])
    members = head[1] + (tail[1].lstrip(b", ") if tail is not None else b"")
    try:
        fields = loads(b"{%b}" % members.rstrip(b", \t\r\n"))
    except MalformedJson:
        return {}, 0
    return fields, head.end()


def _check_first(text: bytes, expected: ArgsValidator) -> None:
    """Look at the type of the first argument, for next to nothing. Raises: ValidationError."""
    found = _FIRST.match(text)
    if found is not None:
        _check_type(found[1].decode(), found[2], expected)


def _check_type(name: str, text: bytes, expected: ArgsValidator) -> None:
    types, shown = _KINDS.get(text[:1], _NUMBER)
    if _SPECIAL_OBJECT.match(text):
        types = _SPECIAL
    elif is_small(text) and text[:1] not in (b"[", b"{"):
        return  # It is read in no time, and then the error says what it is.
    expected.check_type(name, types, shown)


def _read_args(text: bytes, expected: ArgsValidator, limits: Limits) -> Steps:
    """Raises: RequestError."""
    objects = objects_of(text if text.startswith(b"[") else b"[%b]" % text)
    yield
    if objects is None or len(objects) != 1:
        return args_of([None] if objects is None else [None] * len(objects), limits)
    texts = {name: bytes(piece) for name, piece in objects[0].items()}
    yield
    try:
        check_container(len(texts), limits.value_depth_max, limits, "fields")
        check_field_names(texts, limits)
    except MisfitError as misfit:
        raise misfit.located("") from None
    for name, piece in texts.items():
        _check_type(name, piece, expected)
    args: dict[str, Any] = {}
    for name, piece in texts.items():
        args[name] = yield from read_value(piece, limits, depth_used=1, path=f".{name}")
    return args
