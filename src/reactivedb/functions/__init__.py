"""Queries, mutations and actions: how they are declared, found, run and scheduled."""

from .context import ActionCtx, ActionHost, MutationCtx, QueryCtx
from .crons import BoundCron, Cron, Crons
from .deployment import URL_NAMES, Deployment
from .environment import Environment, declared_environment, stored_value
from .erasure import Durable, Erasure, ErasureReport, Pause, Step
from .failure import CallError, code_of, describe, kept_text
from .far_host import FarHost
from .file_links import Ticket
from .file_storage import FILES_PATH, UPLOAD_PATH, AsyncFiles, Blob, FileReader, FileWriter
from .file_transfer import FileHost, FileTransfer, OpenFile
from .http_router import HttpRoute, HttpRouter
from .identity import ADMIN, ANONYMOUS, IN_PROCESS, Identity, UserIdentity
from .jobs import JobHost, Jobs
from .log_lines import without_surrogates
from .moment import now_ms, random
from .own_task import in_own_task
from .own_time import OwnTime, is_debugger, measure_collections, now_s
from .ownership import own
from .pagination import PaginationOptions, PaginationResult
from .query import OrderedQuery, Query, range_of
from .registration import (
    Kind,
    RegisteredAction,
    RegisteredFunction,
    RegisteredMutation,
    RegisteredQuery,
    action,
    internal_action,
    internal_mutation,
    internal_query,
    mutation,
    query,
)
from .registry import FunctionDefinition, Registry
from .retry import Retry
from .runner import (
    RequestKey,
    Run,
    Runner,
    RunResult,
    call_action,
    encoded_result,
    request_id_of,
    run_outside,
)
from .scheduler import Scheduler
from .stacks import frame_of, place_of, stack_of, user_frame
from .system import JOBS, SYSTEM_TABLES
from .system_api import SCHEMAS_PATH
from .system_environment import LIST_VARIABLES, UPDATE_VARIABLES
from .thread_run import ThreadRun
from .thread_run import current as current_thread_run
from .upsert import Upserted

__all__ = [
    "ADMIN",
    "ANONYMOUS",
    "FILES_PATH",
    "IN_PROCESS",
    "JOBS",
    "LIST_VARIABLES",
    "SCHEMAS_PATH",
    "SYSTEM_TABLES",
    "UPDATE_VARIABLES",
    "UPLOAD_PATH",
    "URL_NAMES",
    "ActionCtx",
    "ActionHost",
    "AsyncFiles",
    "Blob",
    "BoundCron",
    "CallError",
    "Cron",
    "Crons",
    "Deployment",
    "Durable",
    "Environment",
    "Erasure",
    "ErasureReport",
    "FarHost",
    "FileHost",
    "FileReader",
    "FileTransfer",
    "FileWriter",
    "FunctionDefinition",
    "HttpRoute",
    "HttpRouter",
    "Identity",
    "JobHost",
    "Jobs",
    "Kind",
    "MutationCtx",
    "OpenFile",
    "OrderedQuery",
    "OwnTime",
    "PaginationOptions",
    "PaginationResult",
    "Pause",
    "Query",
    "QueryCtx",
    "RegisteredAction",
    "RegisteredFunction",
    "RegisteredMutation",
    "RegisteredQuery",
    "Registry",
    "RequestKey",
    "Retry",
    "Run",
    "RunResult",
    "Runner",
    "Scheduler",
    "Step",
    "ThreadRun",
    "Ticket",
    "Upserted",
    "UserIdentity",
    "action",
    "call_action",
    "code_of",
    "current_thread_run",
    "declared_environment",
    "describe",
    "encoded_result",
    "frame_of",
    "in_own_task",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "is_debugger",
    "kept_text",
    "measure_collections",
    "mutation",
    "now_ms",
    "now_s",
    "own",
    "place_of",
    "query",
    "random",
    "range_of",
    "request_id_of",
    "run_outside",
    "stack_of",
    "stored_value",
    "user_frame",
    "without_surrogates",
]
