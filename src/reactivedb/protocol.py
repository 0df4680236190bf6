"""How do names, paths and timestamps look on Convex's wire?

The only home, beside pydantic's alias generator, of what is camelCase; and of the grammar of function
paths (section d of the protocol) and of timestamps (b.2). Messages themselves: see `sync/messages`.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Final

from .errors import ProtocolError, ValidationError
from .limits import DEFAULT_LIMITS
from .text import quoted

_SEGMENT: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.]{1,64}")
_EXPORT: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z_][A-Za-z0-9_]{0,63}")
TS_MAX: Final = 2**64 - 1


def to_wire_name(name: str) -> str:
    """`list_recent` -> `listRecent`; leading underscores and names without any stay as they are."""
    head = name.lstrip("_")
    words = head.split("_")
    camel = words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])
    return name[: len(name) - len(head)] + camel


PATH_LENGTH_MAX: Final = DEFAULT_LIMITS.function_path_length_max
# Eight bytes in base64.
_TS_LENGTH: Final = 12


def normalize_path(path: str) -> str:
    """Give the one spelling of a function path that lookups use: `m.js:f` -> `m:f`, `m` -> `m:default`.

    Raises:
        ValidationError: `InvalidFunctionPath`, for anything outside the grammar.
    """
    if len(path) > PATH_LENGTH_MAX:
        raise _invalid_path(path, f"it has at most {PATH_LENGTH_MAX} characters")
    return _normalized(path)


# Holds only what fits the grammar and the length above: 8 MiB at most.
@lru_cache(maxsize=4096)
def _normalized(path: str) -> str:
    module, colon, export = path.rpartition(":")
    if not colon:
        module, export = path, "default"
    module = module.removesuffix(".js")
    segments = module.split("/")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or "." in segment:
            raise _invalid_path(path, f"`{segment[:80]}` is no name of a module")
    if not _EXPORT.fullmatch(export):
        raise _invalid_path(path, f"`{export[:80]}` is no name of a function")
    return f"{module}:{export}"


def _invalid_path(path: str, why: str) -> ValidationError:
    return ValidationError(
        f"a function path looks like `folder/module:function`, got `{path[:200]}` - {why}",
        code="InvalidFunctionPath",
    )


def canonical_path(module: str, name: str) -> str:
    """The canonical path of `name` in dotted `module`: camelCase per segment and name."""
    return "/".join(to_wire_name(part) for part in module.split(".")) + ":" + to_wire_name(name)


def identifier_of(path: str) -> str:
    """The spelling that specifications, logs and jobs show: `dir/mod.js:fn`."""
    module, _, export = path.rpartition(":")
    return f"{module}.js:{export}"


def encode_ts(ts: int) -> str:
    """Eight little-endian bytes as base64."""
    return base64.b64encode(ts.to_bytes(8, "little")).decode()


def decode_ts(text: object) -> int:
    """The inverse of `encode_ts`.

    Raises:
        ProtocolError: `InvalidTimestamp`.
    """
    if isinstance(text, str) and len(text) == _TS_LENGTH:
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) == 8:
            return int.from_bytes(raw, "little")
    raise ProtocolError(
        f"a timestamp is base64 of 8 bytes, got `{quoted(text, 40)}`", code="InvalidTimestamp"
    )
