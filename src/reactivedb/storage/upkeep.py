"""What does a storage offer for erasing documents and for giving room back?

The part of the contract (`contract`) that no function run needs. Its rules hold here too: writes go into the
open group, and a method that raises leaves the storage as it was at the last `flush`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .contract import Outcome


@dataclass(frozen=True, slots=True)
class Room:
    """What a database takes on its disk; `free_pages` are pages of the file that hold nothing."""

    size_bytes: int = 0
    page_count: int = 0
    free_pages: int = 0


class Upkeep(Protocol):
    def outcomes(self, after_ts: int, *, limit: int) -> list[Outcome]:
        """Recorded outcomes with `ts > after_ts`, in that order."""
        ...

    def replace_outcome(self, ts: int, result: bytes) -> None:
        """Put another result in the place of the outcome at `ts`, without log lines."""
        ...

    def erase_writes(self, id: str, timestamps: Sequence[int]) -> None:
        """Take the writes of a document out of the log, wherever the horizon is; it is not stored any more.

        The log no longer explains a later write that names one of them, so the caller appends a tombstone
        without a previous version.
        """
        ...

    def check_keeps_no_old_bytes(self) -> None:
        """Refuse a file in which deleted bytes may still be found and cannot shrink; see `compact_file`.

        Raises: StorageError `RewriteNeeded`.
        """
        ...

    def room(self) -> Room: ...

    def release(self, page_count: int) -> int:
        """Take up to that many free pages out of the file; how many there were. Without an open group.

        The file itself becomes shorter when the WAL is moved into it.

        Raises: StorageError `RewriteNeeded`, and what `flush` raises.
        """
        ...

    def empty_wal(self) -> bool:
        """Move the WAL into the file and cut it to nothing; False: a reader is in the way. Waits for none.

        Without an open group. What was flushed is durable then.
        """
        ...
