"""Where is a thread, in words?"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import FrameType
from typing import Final

_PACKAGE: Final = str(Path(__file__).parent.parent)
# Of a deep stack, the part that is shown: what blocks is at its end.
_FRAMES_SHOWN: Final = 20


def place_of(frame: FrameType | None) -> str:
    """File, line and function of the innermost frame."""
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in `{frame.f_code.co_qualname}`"


def stack_of(frame: FrameType | None) -> str:
    """The stack without the frames of this package, innermost last, one frame a line."""
    lines = [
        f"    {each.filename}:{each.lineno} in {each.name}"
        for each in traceback.extract_stack(frame)
        if not each.filename.startswith(_PACKAGE)
    ]
    return "\n".join(lines[-_FRAMES_SHOWN:])
