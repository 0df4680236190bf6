"""An application as declared, and as a running database."""

from .database import AsyncDatabase, Database
from .declaration import App
from .live import AsyncLive, Live
from .runtime import CallResult, RunLog, Runtime, Subscriber, args_of

__all__ = [
    "App",
    "AsyncDatabase",
    "AsyncLive",
    "CallResult",
    "Database",
    "Live",
    "RunLog",
    "Runtime",
    "Subscriber",
    "args_of",
]
