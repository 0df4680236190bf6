"""How is a large text read without holding up whoever waits beside it?

Step by step: C finds the fields of an object or the elements of an array as pieces of text (`msgspec.Raw`),
which costs no object per value; a piece that is small is read at once, a large one is taken apart in turn.
Every `yield` is a place where others may be served. What comes out is what `from_jsonable(loads(text))`
gives, and what is wrong is refused with the same error.

An envelope is taken apart likewise, but of its large fields only those are read that may be large; which they
are says whoever knows the message (`Opener`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import msgspec

from reactivedb.errors import ValidationError
from reactivedb.limits import Limits
from reactivedb.values.json import MalformedJson, dumps, from_tree, loads
from reactivedb.values.value import MisfitError, check_container, check_field_names

# Steps of some work, which is `Result` in the end.
Steps: TypeAlias = Generator[None, None, Any]
# Reads one large field of an envelope, given its text and the small fields beside it.
Opener: TypeAlias = Callable[[bytes, dict[str, Any]], Steps]

# The fields of an object, each as its text.
Pieces: TypeAlias = dict[str, msgspec.Raw]

# What is read in one step: within a millisecond.
_STEP_BYTES = 4 * 1024
_LIGHT_BYTES_MAX = 64 * 1024
_STEP_BYTES_MAX = 1024 * 1024
_STEP_CONTAINERS_MAX = 512
_STEP_COMMAS_MAX = 8 * 1024
# Elements of an array that are read in one step, if they are so small.
_TINY_BYTES = 128
_TINY_PER_STEP = 256

_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_FIELDS = msgspec.json.Decoder(Pieces)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[Pieces])


def read_envelope(text: bytes, openers: dict[str, Opener]) -> Steps:
    """The fields of one JSON object, read as plain JSON; large ones as their openers do.

    A large container without an opener is no part of any message: an empty one stands for it.

    Raises: `MalformedJson`.
    """
    if not is_object(text):
        return outline(text)
    fields = _take_apart(_FIELDS, text)
    yield
    return (yield from read_fields(fields, openers))


def read_fields(fields: Pieces, openers: dict[str, Opener]) -> Steps:
    """As `read_envelope`, of an object that is in pieces already."""
    tree: dict[str, Any] = {}
    large: list[str] = []
    for name, piece in fields.items():
        if name in openers:
            large.append(name)
        else:
            tree[name] = _stand_in(bytes(piece))
            yield
    for name in large:
        tree[name] = yield from openers[name](bytes(fields[name]), tree)
    return tree


def objects_of(text: bytes) -> list[Pieces] | None:
    """The objects of an array, in pieces; None if it is no array of objects alone.

    Raises: `MalformedJson`.
    """
    try:
        return _take_apart(_OBJECTS, text)
    except msgspec.ValidationError:
        return None


def read_value(text: bytes, limits: Limits, *, depth_used: int = 0, path: str = "") -> Steps:
    """The value of a lossless text.

    Raises: `ValidationError` with path; `MalformedJson`.
    """
    try:
        return (yield from _read(text, limits.value_depth_max - depth_used, limits))
    except MisfitError as misfit:
        raise misfit.located(path) from None


def _read(text: bytes, depth_left: int, limits: Limits) -> Steps:
    first = text[:1]
    if first not in (b"[", b"{") or _is_one_step(text):
        value = from_tree(loads(text), depth_left, limits)
        yield
        return value
    if first == b"{":
        return (yield from _read_object(text, depth_left, limits))
    pieces: list[msgspec.Raw] = _take_apart(_ELEMENTS, text)
    check_container(len(pieces), depth_left, limits, "elements")
    yield
    items: list[Any] = []
    for piece in pieces:
        try:
            element = bytes(piece)
            if len(element) <= _TINY_BYTES:
                items.append(from_tree(loads(element), depth_left - 1, limits))
                if not len(items) % _TINY_PER_STEP:
                    yield
            else:
                items.append((yield from _read(element, depth_left - 1, limits)))
        except MisfitError as misfit:
            misfit.trail.append(f"[{len(items)}]")
            raise
    return items


def _read_object(text: bytes, depth_left: int, limits: Limits) -> Steps:
    pieces: Pieces = _take_apart(_FIELDS, text)
    yield
    if len(pieces) == 1 and next(iter(pieces)).startswith("$"):
        # A special object has a text in it; whatever else it has is refused without being read.
        [(key, piece)] = pieces.items()
        return from_tree({key: _stand_in(bytes(piece))}, depth_left, limits)
    check_container(len(pieces), depth_left, limits, "fields")
    check_field_names(pieces, limits)
    fields: dict[str, Any] = {}
    for key, piece in pieces.items():
        try:
            fields[key] = yield from _read(bytes(piece), depth_left - 1, limits)
        except MisfitError as misfit:
            misfit.trail.append(f".{key}")
            raise
    return fields


def rewrite(text: bytes, write: Callable[[bytes], bytes]) -> Steps:
    """A valid lossless text with each value in it written anew, piece by piece."""
    first = text[:1]
    if first not in (b"[", b"{") or _is_one_step(text):
        written = write(text)
        yield
        return written
    parts: list[bytes] = []
    if first == b"[":
        for piece in _take_apart(_ELEMENTS, text):
            parts.append((yield from rewrite(bytes(piece), write)))  # noqa: PERF401 - it yields
        return b"[" + b",".join(parts) + b"]"
    fields: Pieces = _take_apart(_FIELDS, text)
    if len(fields) == 1 and next(iter(fields)).startswith("$"):
        return write(text)
    for name, piece in fields.items():
        parts.append(dumps(name) + b":" + (yield from rewrite(bytes(piece), write)))
    return b"{" + b",".join(parts) + b"}"


def is_object(text: str | bytes) -> bool:
    """Whether it is an object, if it is JSON."""
    return text.lstrip()[:1] in ("{", b"{")


def outline(text: str | bytes) -> Any:
    """A JSON text as `loads` reads it; for a large container, an empty one.

    Raises: `MalformedJson`.
    """
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    _take_apart(_ANYTHING, data)
    return _stand_in(data)


def is_light(text: str | bytes) -> bool:
    """Whether a whole message is read at once: within a millisecond or two, by its size or by its shape."""
    if len(text) <= _STEP_BYTES:
        return True
    if len(text) > _LIGHT_BYTES_MAX:
        return False
    if isinstance(text, str):
        brackets, commas = text.count("[") + text.count("{"), text.count(",")
    else:
        brackets, commas = text.count(b"[") + text.count(b"{"), text.count(b",")
    return brackets <= _STEP_CONTAINERS_MAX and commas <= _STEP_COMMAS_MAX


def is_small(text: bytes) -> bool:
    """Whether reading it at once costs next to nothing."""
    return len(text) <= _STEP_BYTES


def _is_one_step(text: bytes) -> bool:
    return is_small(text) or (
        len(text) <= _STEP_BYTES_MAX
        and text.count(b"[") + text.count(b"{") <= _STEP_CONTAINERS_MAX
        and text.count(b",") <= _STEP_COMMAS_MAX
    )


def _stand_in(text: bytes) -> Any:
    """What a piece holds; for a large container, an empty one."""
    first = text.lstrip()[:1]
    if first not in (b"[", b"{") or is_small(text):
        return loads(text)
    return [] if first == b"[" else {}


def _take_apart(decoder: msgspec.json.Decoder[Any], text: bytes) -> Any:
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeError, ValueError) as error:
        if b"\\ud" in text or b"\\uD" in text:
            # msgspec says of a lone surrogate only that the text ends too early.
            raise ValidationError(
                f"expected Unicode text, got JSON that may have a lone surrogate in it ({error})"
                " - do not cut a string between the halves of a surrogate pair",
                code="LoneSurrogate",
            ) from None
        raise MalformedJson(f"expected JSON, got text that is none ({error}) - check the sender") from None
    except RecursionError:
        raise MalformedJson("expected JSON, got too many nested containers - nest less") from None
