"""How much has one run read and written, and is that too much?

What is refused does not count, so that whoever catches the error can go on with less. What a sub-transaction
wrote is given back when it is undone; what it read stays read.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from ..errors import LimitExceededError
from ..limits import DEFAULT_LIMITS, Limits

_UNBOUNDED = Limits(
    documents_read_max=sys.maxsize,
    read_size_bytes_max=sys.maxsize,
    ranges_read_max=sys.maxsize,
    documents_written_max=sys.maxsize,
    written_size_bytes_max=sys.maxsize,
)

# What the engine takes for one of each, in seconds, where other things keep the machine busy too: two to four
# times what was measured.
_READ_S = 50e-6
_RANGE_S = 100e-6
_WRITE_S = 200e-6


class Usage:
    """The counts of one run, each within its bound of `limits`."""

    __slots__ = ("_limits", "_writes_made", "bytes_read", "documents_read", "ranges_read", "written")

    def __init__(self, limits: Limits) -> None:
        self._limits: Limits = limits
        self.documents_read: int = 0
        self.bytes_read: int = 0
        # Reads made for the schema's rules are none of them.
        self.ranges_read: int = 0
        # Documents and bytes: a point that the count returns to when writes are undone.
        self.written: tuple[int, int] = (0, 0)
        # With those that were undone: the time they took does not come back.
        self._writes_made = 0

    def read(self, size: int) -> None:
        """Count one document, or 0 bytes of one that was looked for and is not there.

        Raises:
            LimitExceededError: `TooManyDocumentsRead`, `TooManyBytesRead`.
        """
        documents, size_bytes = self.documents_read + 1, self.bytes_read + size
        limits = self._limits
        if documents > limits.documents_read_max:
            self._check("TooManyDocumentsRead", "documents_read_max", documents, "documents read")
        if size_bytes > limits.read_size_bytes_max:
            self._check("TooManyBytesRead", "read_size_bytes_max", size_bytes, "bytes read")
        self.documents_read, self.bytes_read = documents, size_bytes

    def read_range(self) -> None:
        """Raises: LimitExceededError `TooManyReads`."""
        ranges = self.ranges_read + 1
        self._check("TooManyReads", "ranges_read_max", ranges, "index ranges read")
        self.ranges_read = ranges

    def write(self, size: int) -> None:
        """Count one write of that size.

        Raises:
            LimitExceededError: `TooManyDocumentsWritten`, `TooManyBytesWritten`.
        """
        documents, size_bytes = self.written[0] + 1, self.written[1] + size
        self._check("TooManyDocumentsWritten", "documents_written_max", documents, "documents written")
        self._check("TooManyBytesWritten", "written_size_bytes_max", size_bytes, "bytes written")
        self.written = documents, size_bytes
        self._writes_made += 1

    def share(self) -> float:
        """Which share of its bounds the run has used up, by the one of which it used most."""
        limits = self._limits
        return max(
            self.documents_read / limits.documents_read_max,
            self.bytes_read / limits.read_size_bytes_max,
            self.written[0] / limits.documents_written_max,
            self.written[1] / limits.written_size_bytes_max,
        )

    def engine_time_s(self) -> float:
        """What of the run's time is not the function's own: the engine took it for what was asked of it.

        Bounded, whatever the limits are, so that a function that only asks ends all the same.
        """
        most = DEFAULT_LIMITS
        return (
            min(self.documents_read, most.documents_read_max) * _READ_S
            + min(self.ranges_read, most.ranges_read_max) * _RANGE_S
            + min(self._writes_made, most.documents_written_max) * _WRITE_S
        )

    @contextmanager
    def uncounted(self) -> Generator[None]:
        """For the product's own rows: a function's bounds are no reason to lose a job."""
        kept = self._limits, self.documents_read, self.bytes_read, self.ranges_read, self.written
        self._limits = _UNBOUNDED
        try:
            yield
        finally:
            self._limits, self.documents_read, self.bytes_read, self.ranges_read, self.written = kept

    def _check(self, code: str, limit: str, asked: int, what: str) -> None:
        maximum: int = getattr(self._limits, limit)
        if asked > maximum:
            raise LimitExceededError(
                f"one function run may have at most {maximum} {what}, this one wanted {asked} - "
                "use an index range, take fewer, or split the work over several runs",
                code=code,
                limit=limit,
                maximum=maximum,
                asked=asked,
            )
