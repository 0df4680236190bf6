"""Is this document small and flat enough to be stored?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LimitExceededError
from ..values import Value, depth, size_bytes

if TYPE_CHECKING:
    from ..limits import Limits


def check_document_limits(limits: Limits, table: str, fields: dict[str, Value], json: bytes) -> None:
    """`json` is the text of `fields`.

    Raises:
        LimitExceededError: `DocumentTooLarge`, `DocumentTooDeep`.
    """
    # The size formula never gives more than nine bytes for two of text, so short texts need no count.
    if len(json) * 5 > limits.document_size_bytes_max:
        size = size_bytes(fields)
        if size > limits.document_size_bytes_max:
            raise LimitExceededError(
                f"a document of `{table}` may have {limits.document_size_bytes_max} bytes, "
                f"got {size} - split it over several documents or store it as a file",
                code="DocumentTooLarge",
                limit="document_size_bytes_max",
                maximum=limits.document_size_bytes_max,
                asked=size,
            )
    if any(type(value) in (dict, list) for value in fields.values()):
        levels = depth(fields)
        if levels > limits.document_depth_max:
            raise LimitExceededError(
                f"a document of `{table}` may nest {limits.document_depth_max} levels deep, "
                f"got {levels} - flatten it",
                code="DocumentTooDeep",
                limit="document_depth_max",
                maximum=limits.document_depth_max,
                asked=levels,
            )
