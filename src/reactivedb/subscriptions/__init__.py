"""Live queries: who reads what, which commit touches it, and what each client has been told."""

from .query_cache import Cause, LiveQuery, QueryCache
from .query_set import QueryChange, QuerySet
from .result import Result
from .tracker import Tracker

__all__ = ["Cause", "LiveQuery", "QueryCache", "QueryChange", "QuerySet", "Result", "Tracker"]
