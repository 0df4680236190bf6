"""An application as declared, and as a running database."""

from .admission import Admission, Caller, Pending, Resource
from .calls import CallResult, RunLog, args_of
from .database import AsyncDatabase, Database
from .declaration import App
from .delivery import Subscriber
from .live import AsyncLive, Live
from .load import Load
from .loop import end_if_from_signal, loop_factory
from .meters import Histogram, Meters
from .past import AsyncPast, Past, Version
from .relief import Relief, Unsent
from .runtime import Runtime
from .schema_work import check_schema, dry_run, migrate

__all__ = [
    "Admission",
    "App",
    "AsyncDatabase",
    "AsyncLive",
    "AsyncPast",
    "CallResult",
    "Caller",
    "Database",
    "Histogram",
    "Live",
    "Load",
    "Meters",
    "Past",
    "Pending",
    "Relief",
    "Resource",
    "RunLog",
    "Runtime",
    "Subscriber",
    "Unsent",
    "Version",
    "args_of",
    "check_schema",
    "dry_run",
    "end_if_from_signal",
    "loop_factory",
    "migrate",
]
