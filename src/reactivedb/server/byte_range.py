"""Which part of a file does a `Range` header ask for? (RFC 9110, section 14)"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from .replies import Refusal

# Nineteen digits hold any size there is; a range with more is none. Possessive, so that each blank is read
# once: two runs of blanks with nothing between them could share them out in as many ways as there are.
_ONE_RANGE: Final = re.compile(
    r"\s*+bytes\s*+=\s*+([0-9]{0,19}+)\s*+-\s*+([0-9]{0,19}+)\s*+", re.ASCII | re.IGNORECASE
)


def requested_range(header: str | None, size_bytes: int) -> range | None:
    """The bytes that are asked for; None for all, also where the header is not one range of bytes.

    Raises:
        Refusal: 416, for a range with nothing in it.
    """
    found = _ONE_RANGE.fullmatch(header or "")
    if found is None or not (found[1] or found[2]):
        return None
    first, last = found[1], found[2]
    if not first:
        part = range(max(0, size_bytes - int(last)), size_bytes)
    elif last and int(last) < int(first):
        return None
    else:
        part = range(int(first), min(int(last) + 1, size_bytes) if last else size_bytes)
    if not part:
        raise Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "RangeNotSatisfiable",
            f"expected a range within the {size_bytes} bytes of the file, got `{(header or '')[:80]}`",
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return part
