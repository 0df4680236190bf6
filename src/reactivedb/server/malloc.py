"""How does memory go back to the system once it was used?

glibc takes each block above a threshold from the system and gives it back when it is freed, but it raises
the threshold to the largest block that was freed, up to 32 MiB. After one result of 16 MiB all smaller ones
come from the heap, which shrinks only from its end: 40 updates of 36 MiB left 504 MiB behind, and 0 with a
threshold that stays. Other systems' allocators have no such rule and are left as they are.
"""

from __future__ import annotations

import ctypes
import platform
from typing import Final

from ..limits import KIB

# From `malloc.h`.
_M_MMAP_THRESHOLD: Final = -3
# Above what most messages take: for each larger block the system is asked, which takes some microseconds.
_THRESHOLD_BYTES: Final = 256 * KIB


def give_back_large_blocks() -> bool:
    """Keep the threshold where it is, for all of this process; whether the allocator knows it."""
    if platform.libc_ver()[0] != "glibc":
        return False
    return ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES) == 1
