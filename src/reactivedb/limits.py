"""How much is too much?

Every bound of the product as a number, with its unit in the name and its reason beside it. The bounds on
values and on one function run are Convex's, so that an application that fits there fits here.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

# The message of an error, and each text among its fields: several times what any of ours has to say. It holds
# where no application is known, so it is the same in all.
ERROR_TEXT_LENGTH_MAX = 8 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One deployment's bounds; `App(limits=Limits(...))` sets others."""

    # Values (section a.3 of the protocol).
    document_size_bytes_max: int = MIB
    document_depth_max: int = 16
    # Arguments and results may nest deeper than what is stored.
    value_depth_max: int = 64
    array_length_max: int = 8_192
    object_field_count_max: int = 1_024
    field_name_length_max: int = 1_024
    identifier_length_max: int = 64
    args_size_bytes_max: int = 16 * MIB
    result_size_bytes_max: int = 16 * MIB
    # Of one call's arguments, counted before they are read: bytes do not say what reading them costs, and
    # 16 MiB could be eight million empty lists. 16 MiB of numbers (9 bytes each) are 1.9 million values.
    # An array or object costs some 2 microseconds until a function has it, all of them a tenth of a second;
    # so many are four for each document that one mutation may write.
    value_nodes_max: int = 2 * 1024 * 1024
    value_containers_max: int = 64 * 1024

    # One function run (section f.3).
    documents_read_max: int = 32_000
    read_size_bytes_max: int = 16 * MIB
    ranges_read_max: int = 4_096
    # Half of that for one page, so that the function can still read something beside it.
    page_rows_read_max: int = 16_000
    page_read_size_bytes_max: int = 8 * MIB
    page_ranges_read_max: int = 2_048
    documents_written_max: int = 16_000
    written_size_bytes_max: int = 16 * MIB
    scheduled_max: int = 1_000
    scheduled_args_size_bytes_max: int = 16 * MIB
    # Of one job: its arguments are a part of its document, which is read whenever it is.
    scheduled_call_size_bytes_max: int = 4 * MIB
    nested_call_depth_max: int = 8
    # A query's or mutation's own time (`functions/own_time`), beside what the engine takes for what is read
    # and written: while one runs, nobody else does. `math.inf` watches none.
    user_time_s_max: float = 1.0
    # What one run may spend in imports and in the garbage collector, which do not count: the largest
    # libraries take ten seconds from a slow disk.
    uncounted_time_s_max: float = 60.0
    # Of an action that runs as a job: one that hangs must not hold its job, and its cron job, for ever.
    # Convex gives actions 10 to 30 minutes.
    action_time_s_max: float = 1_800.0
    # A turn of the event loop that takes longer is logged with the stack that blocks it: by then everybody
    # else waits noticeably. `math.inf` looks at none.
    loop_blocked_s: float = 1.0
    # Threads of actions with `thread=True` at once, those that were left behind included; others wait. Each
    # takes some 100 KiB, and a share of the interpreter's lock.
    action_threads_max: int = 64
    # How long an action in a thread that was cancelled, or whose database closes, may take to end before it
    # is left behind: what a server gives its requests when it ends.
    action_thread_stop_s: float = 5.0
    # Actions that run as jobs at once; others that are due wait. Each costs some 10 KiB, and what it holds
    # outside.
    running_jobs_max: int = 1_000
    # A deletion that cascades further is carried on in jobs of this size, so that it never holds the lock
    # for long.
    cascade_batch_max: int = 1_000
    # Of a function, as callers write it, `folder/module:function`: several folders of the longest names. Like
    # the length of identifiers, it can be lowered and not raised.
    function_path_length_max: int = 1_024
    # What a client gives back of the ends of its pages: some hundred cursors. A longer one counts as none.
    journal_length_max: int = 256 * KIB
    log_line_count_max: int = 256
    log_line_length_max: int = 32 * KIB
    # A conflict is rare in one process; four tries are what Convex gives.
    conflict_retry_count_max: int = 4

    # Schema (section e.1); these three, like the length of identifiers, can be lowered and not raised.
    indexes_per_table_max: int = 32
    fields_per_index_max: int = 16
    # A new index of a larger table is built while the database serves: up to here it takes under a second.
    documents_indexed_at_open_max: int = 10_000
    # Documents that one batch of a back-fill or a migration deals with: it holds the lock some 10 ms.
    schema_batch_documents_max: int = 200

    # Environment variables, as Convex has them: configuration and keys, not data.
    environment_variables_max: int = 1_000
    environment_name_length_max: int = 40
    environment_value_size_bytes_max: int = 8 * KIB

    # A text of an erased document is looked for in recorded answers and in jobs if it is as long: a shorter
    # one is no content but a state, such as `open`, and stands in answers that have nothing to do with it.
    erased_text_length_min: int = 8

    # Files. Larger than what people film with their phones; it bounds what one upload can take of the disk.
    file_size_bytes_max: int = 1024 * MIB
    # Two words of 127 characters, as RFC 6838 has it.
    file_content_type_length_max: int = 255
    # Convex gives its URLs an hour; here it bounds how long one can be used by whoever found it.
    upload_url_lifetime_s: float = 3600.0
    # Each holds a connection and two pieces of its file.
    uploads_max: int = 1_000

    # Decoded documents kept in memory: bounds resident size, not correctness.
    document_cache_size_bytes_max: int = 64 * MIB
    # Results of queries that nobody subscribes to any more, kept in case somebody asks again.
    idle_result_size_bytes_max: int = 16 * MIB
    # Results of all live queries, each once, whoever follows it. Some ten thousand clients with 25 KiB of
    # their own each; without a bound, one client could follow thousands of the largest results.
    live_results_size_bytes_max: int = 256 * MIB

    # A live query that was stopped for its time is run again after 1, 4, 16 and 64 s: by then a machine that
    # was busy for a moment is so no more. Each run may hold up everybody for `user_time_s_max`.
    live_query_retry_delay_s: float = 1.0
    live_query_retry_count_max: int = 4

    # The newest commits, kept for consumers of the log that lag behind and for checking conflicts.
    commit_history_size_bytes_max: int = 16 * MIB

    # The past. A day, so that what went wrong at night can be looked at in the morning.
    # `math.inf`: however old it is.
    log_retention_s: float = 24 * 3600.0
    # As far as callers without the admin key can read it, by `query_at_ts`: Convex's service keeps some 30 s,
    # enough for its client's `consistentQuery`.
    public_history_s: float = 60.0
    # A view of the past costs time in proportion to what was written since: for 64 MiB, some 200,000 small
    # documents, a few seconds. It also bounds what replaced versions take on the disk.
    log_retention_size_bytes_max: int = 64 * MIB

    # One client connection.
    pending_mutations_max: int = 1_000
    running_actions_max: int = 1_000
    queries_per_client_max: int = 4_096
    # 16 MiB of arguments plus the envelope around them.
    message_size_bytes_max: int = 17 * MIB
    # An HTTP action's request, as Convex has it.
    http_body_size_bytes_max: int = 20 * MIB
    # The head of a request: a token of the largest size and, beside it, what browsers and proxies add.
    http_head_size_bytes_max: int = 64 * KIB
    # Who has not sent the head of a request by then holds a connection for nothing.
    http_head_s: float = 20.0
    # A body may stand still for this long, and moves on average at this pace, as the slowest phones do.
    http_body_idle_s: float = 20.0
    http_body_rate_bytes_per_s_min: int = 4 * KIB
    # As Convex's actions in Node: by then nobody waits for the answer any more.
    http_action_s_max: float = 600.0
    # One request for many queries: more than a page needs, and few enough to be answered in a breath.
    queries_per_batch_max: int = 1_000
    # Larger transitions are split: as TransitionChunk for npm, in continuation frames for the others.
    chunk_size_bytes: int = 5_000_000
    frame_size_bytes_max: int = 15 * MIB
    # Convex's client reconnects after 60 s without a message, PyPI's after 30 s.
    ping_interval_s: float = 15.0
    # A client that comes back repeats what it got no answer to in its first breath.
    replay_s_max: float = 2.0
    # A peer that takes nothing for this long is aborted, so that it cannot hold memory.
    blocked_receiver_s: float = 30.0

    # Everybody's share (`app/admission`): of one user, of one address (IPv6: one site's /64), of the server.
    # Tabs and devices of one person; of a school or an office behind one address; an idle one takes 20 KiB.
    sockets_per_identity_max: int = 100
    sockets_per_address_max: int = 2_000
    sockets_max: int = 10_000
    # A page follows some dozens; a small one takes 5 KiB beside its result.
    queries_per_identity_max: int = 10_000
    queries_per_address_max: int = 40_000
    queries_max: int = 200_000
    # Calls and HTTP requests that are not answered yet. Short ones are never many; these are waiting actions.
    requests_per_identity_max: int = 2_000
    requests_per_address_max: int = 4_000
    requests_max: int = 10_000
    # Bytes of messages that are not whole, of requests that are not answered, of answers that are not taken.
    # The largest update that npm's client was seen to take, for one connection; in total, what can be spared.
    held_size_bytes_per_client_max: int = 128 * MIB
    held_size_bytes_per_identity_max: int = 256 * MIB
    held_size_bytes_per_address_max: int = 384 * MIB
    held_size_bytes_max: int = 512 * MIB
    # Answers that are not taken can only be taken back with their connection, so these get a moment first.
    relief_s: float = 1.0
    # What a turn of the loop admits while the server is overloaded, and how long only slow turns make it so.
    turn_s_max: float = 0.5
    overload_patience_s: float = 5.0
    # A client whose queries take longer than commits leave time for: better closed than left with old ones.
    behind_s_max: float = 60.0

    # A user's token. Providers put groups and roles into it, yet it has to fit into one HTTP header.
    token_size_bytes_max: int = 32 * KIB
    # What a client says while its token is verified waits, up to one message of the largest size.
    unread_messages_max: int = 1_000

    # Our own sign-in (`sign_in`). The shortest password is NIST's; the longest is above any passphrase, and
    # quickly hashed.
    password_length_min: int = 8
    password_size_bytes_max: int = KIB
    sign_in_name_length_max: int = 128
    # Failures on one account, or from one known device, in a row; one is forgotten every minute. A million
    # guesses take two years.
    sign_in_failures_max: int = 10
    sign_in_failure_recovery_s: float = 60.0
    # Failures of unknown devices on all accounts together: slows down who tries one password on all names.
    # Ten a second are a quarter of what one core can hash, so that not every trickle keeps all others out.
    sign_in_failures_total_max: int = 600
    sign_in_failure_total_recovery_s: float = 0.1
    # New accounts and new anonymous users, of which each is a row for good.
    sign_ups_max: int = 100
    sign_up_recovery_s: float = 1.0
    anonymous_users_max: int = 500
    anonymous_user_recovery_s: float = 0.1
    # Beyond, a caller would wait for seconds.
    password_hashes_waiting_max: int = 64
    # One person's devices; the one that was idle longest makes room.
    sign_in_sessions_per_user_max: int = 100

    # The answer to a client's mutation is kept this long for replays (two weeks, as Convex does).
    outcome_retention_s: float = 14 * 24 * 3600.0
    # A finished job can be looked at for a week.
    finished_job_retention_s: float = 7 * 24 * 3600.0


DEFAULT_LIMITS = Limits()

_active: ContextVar[Limits] = ContextVar("reactivedb_limits", default=DEFAULT_LIMITS)


def active_limits() -> Limits:
    """The bounds on values where this code runs: those of the application whose function it is."""
    return _active.get()


def activate(limits: Limits) -> Token[Limits]:
    """Make these the bounds of what runs from here on, until `deactivate`."""
    return _active.set(limits)


def deactivate(token: Token[Limits]) -> None:
    _active.reset(token)
