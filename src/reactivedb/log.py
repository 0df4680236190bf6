"""The library's loggers, which never raise.

Handlers, filters and formatters are the program's own, so a line of the library's log may run user code. What
that raises must not become the failure of what was logged.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .user_code import contained, name_of, say, text_of


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger of that name, whose methods never raise."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            super().log(level, msg, *args, **kwargs)
        except BaseException as broken:
            contained(broken)
            say(f"{self.name}: a handler of the program's log raised `{name_of(broken)}`: {text_of(broken)}")
