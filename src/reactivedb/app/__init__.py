"""An application as declared, and as a running database."""

from .calls import CallResult, RunLog, args_of
from .database import AsyncDatabase, Database
from .declaration import App
from .delivery import Subscriber
from .live import AsyncLive, Live
from .past import AsyncPast, Past, Version
from .runtime import Runtime
from .schema_work import check_schema, dry_run, migrate

__all__ = [
    "App",
    "AsyncDatabase",
    "AsyncLive",
    "AsyncPast",
    "CallResult",
    "Database",
    "Live",
    "Past",
    "RunLog",
    "Runtime",
    "Subscriber",
    "Version",
    "args_of",
    "check_schema",
    "dry_run",
    "migrate",
]
