"""May a table, an index or a field of a document be called that?"""

from __future__ import annotations

import re

from reactivedb.errors import SchemaError
from reactivedb.limits import DEFAULT_LIMITS

_IDENTIFIER = re.compile(r"_*[A-Za-z0-9][A-Za-z0-9_]*\Z", re.ASCII)


def is_identifier(name: str) -> bool:
    """Letters, digits and `_`, no digit first, not only underscores, not too long (section a.3)."""
    return (
        len(name) <= DEFAULT_LIMITS.identifier_length_max
        and _IDENTIFIER.match(name) is not None
        and not name[0].isdigit()
    )


def check_identifier(what: str, name: str) -> None:
    """Raises: SchemaError `InvalidIdentifier`."""
    if not is_identifier(name):
        raise SchemaError(
            f"`{name[:80]}` cannot name a {what}: expected a letter or `_`, then letters, digits and `_`, at"
            f" most {DEFAULT_LIMITS.identifier_length_max} characters and not only `_` - rename it",
            code="InvalidIdentifier",
            name=name,
        )
