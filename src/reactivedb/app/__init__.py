"""An application as declared, and as a running database."""

from .admission import Admission, Caller, Pending, Resource
from .calls import CallResult, ReadArgs, RunLog, args_of
from .database import AsyncDatabase, Database
from .declaration import App
from .delivery import Subscriber
from .live import AsyncLive, Live
from .load import Load
from .loop import end_if_from_signal, loop_factory
from .meters import Histogram, Meters
from .past import AsyncPast, Past, Version
from .reading import read_large
from .relief import Relief, Unsent
from .runtime import Runtime
from .schema_work import check_schema, dry_run, migrate
from .turns import Turns, Work

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
    "ReadArgs",
    "Relief",
    "Resource",
    "RunLog",
    "Runtime",
    "Subscriber",
    "Turns",
    "Unsent",
    "Version",
    "Work",
    "args_of",
    "check_schema",
    "dry_run",
    "end_if_from_signal",
    "loop_factory",
    "migrate",
    "read_large",
]
