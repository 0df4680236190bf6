"""Where is a thread, in words?"""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

PACKAGE: Final = str(Path(__file__).parent.parent) + os.sep
LIBRARIES: Final = (
    "<frozen ",
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
# Of a deep stack, the part that is shown: what blocks is at its end.
_FRAMES_SHOWN: Final = 20
_LOOP: Final = ("asyncio/events.py", "asyncio/runners.py")


def place_of(frame: FrameType | None) -> str:
    """File, line and function of the innermost frame."""
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in `{frame.f_code.co_qualname}`"


def stack_of(frame: FrameType | None) -> str:
    """What a loop calls, without the frames of this package, innermost last, one frame a line."""
    lines: list[str] = []
    for each in traceback.extract_stack(frame):
        if each.filename.endswith(_LOOP):
            lines.clear()
        elif not each.filename.startswith(PACKAGE):
            lines.append(f"    {each.filename}:{each.lineno} in {each.name}")
    return "\n".join(lines[-_FRAMES_SHOWN:])


def user_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the application's own code, or of all where there is none."""
    found = frame
    while found is not None and found.f_code.co_filename.startswith((PACKAGE, *LIBRARIES)):
        found = found.f_back
    return frame if found is None else found
