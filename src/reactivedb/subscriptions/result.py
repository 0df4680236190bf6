"""What is kept of a live query's newest run?

One form: the JSON text that all its holders are sent. The function's own objects take up to fifty times as
much, so they are kept for holders in this process only, and then they count.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace
from sys import getsizeof
from typing import Any

from ..functions import CallError
from ..values import decoded_size_bytes


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Result:
    """One result of a live query, shared by all its holders. `json` or `error` is what counts."""

    json: bytes | None
    error: CallError | None
    log_lines: tuple[str, ...]
    # The ends of its pages, which a client gives back when it asks again.
    journal: str | None = None
    # What the function returned or raised, for holders in this process.
    value: Any = field(default=None, repr=False, compare=False)
    raised: BaseException | None = field(default=None, repr=False, compare=False)
    # Of the text and the value; and of the rest. Worked out once, for they are asked for at each run.
    size_bytes: int = field(init=False, compare=False)
    beside_size_bytes: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        beside = [*self.log_lines, *([] if self.journal is None else [self.journal])]
        beside += [] if self.error is None else [self.error.message]
        beside_bytes = sum(map(getsizeof, beside))
        if self.error is not None:
            beside_bytes += len(self.error.data or b"")
        object.__setattr__(self, "size_bytes", len(self.json or b""))
        object.__setattr__(self, "beside_size_bytes", beside_bytes)

    def with_value(self, value: Any) -> Result:
        """The same with what the function returned."""
        assert self.json is not None
        result = replace(self, value=value)
        object.__setattr__(result, "size_bytes", self.size_bytes + decoded_size_bytes(self.json))
        return result

    def with_raised(self, error: BaseException) -> Result:
        """The same with what the function raised: with its lines, without what its variables held."""
        traceback.clear_frames(error.__traceback__)
        return replace(self, raised=error)

    def same_as(self, other: Result | None) -> bool:
        return (
            other is not None
            and self.json == other.json
            and self.error == other.error
            and self.log_lines == other.log_lines
            and self.journal == other.journal
        )
