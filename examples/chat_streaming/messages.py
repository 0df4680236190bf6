"""What was said in a task, and who may still type into it?

An answer belongs to one run, told by its token. It streams until it ends, and it ends exactly once, as
`complete`, `stopped` or `failed`: by its run, by a user, by a newer run of the same task, or by
`fail_silent_stream` when its run has died. From then on the token opens nothing: whoever still shows it is
told so by `append_stream_delta` and writes nothing.
"""

import os
from typing import Final

from pydantic import Field

import reactivedb as rdb

from . import transcript
from .tables import FinishReason, Message, MessageStatus, Part, Role, Task, TaskStatus, Usage

# How long a stream may stay silent before it counts as dead.
LEASE_S: Final = float(os.environ.get("CHAT_LEASE_S", "10"))
LISTED_COUNT_MAX = 500

TASK_STATUS_AFTER: Final[dict[MessageStatus, TaskStatus]] = {
    "streaming": "running",
    "complete": "completed",
    "stopped": "stopped",
    "failed": "failed",
}


class MessageView(rdb.Model):
    """A message as readers see it: its text whole, and nothing of the run that types it."""

    id: rdb.Id[Message] = Field(alias="_id")
    creation_time: float = Field(alias="_creationTime")
    task_id: rdb.Id[Task]
    sequence: int
    role: Role
    content: str
    status: MessageStatus
    client_message_id: str
    parts: list[Part]
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None
    edited_at_ms: float | None = None
    prompt_message_id: rdb.Id[Message] | None = None
    attempt: int | None = None


class StreamHandle(rdb.Model):
    """An answer, and the token to type it if this call began it; somebody else types it otherwise."""

    message_id: rdb.Id[Message]
    attempt: int
    status: MessageStatus
    run_token: str | None = None


class DeltaOutcome(rdb.Model):
    """Whether the delta was taken. If not, the run is over: nothing it sends will be."""

    accepted: bool
    status: MessageStatus | None = None


@rdb.query
def by_task(ctx: rdb.QueryCtx, task_id: rdb.Id[Task], limit: int = LISTED_COUNT_MAX) -> list[MessageView]:
    """The newest `limit` messages in their order, those in progress with all they say so far."""
    newest = ctx.db.query(Message.by_task.eq(task_id)).order("desc").take(limit)
    return [view_of(ctx, message) for message in reversed(newest)]


def view_of(ctx: rdb.QueryCtx, message: Message) -> MessageView:
    content, parts = transcript.whole_text(ctx, message)
    return MessageView(
        _id=message.id,
        _creationTime=message.creation_time,
        task_id=message.task_id,
        sequence=message.sequence,
        role=message.role,
        content=content,
        status=message.status,
        client_message_id=message.client_message_id,
        parts=parts,
        usage=message.usage,
        finish_reason=message.finish_reason,
        error=message.error,
        edited_at_ms=message.edited_at_ms,
        prompt_message_id=message.prompt_message_id,
        attempt=message.attempt,
    )


@rdb.mutation
def append(
    ctx: rdb.MutationCtx,
    task_id: rdb.Id[Task],
    content: str,
    *,
    client_message_id: str | None = None,
    role: Role = "user",
) -> rdb.Id[Message]:
    """Store a message and start nothing. The same `client_message_id` again gives the same message."""
    return store_message(ctx, task_id, content, client_message_id=client_message_id, role=role).id


def store_message(
    ctx: rdb.MutationCtx,
    task_id: rdb.Id[Task],
    content: str,
    *,
    client_message_id: str | None,
    role: Role = "user",
) -> Message:
    require_task(ctx, task_id)
    client_message_id = client_message_id or random_token(ctx)
    if known := ctx.db.query(Message.by_client_message_id.eq(task_id, client_message_id)).unique():
        return known
    message_id = ctx.db.insert(
        Message(
            task_id=task_id,
            sequence=transcript.next_sequence(ctx, task_id),
            role=role,
            content=content,
            status="complete",
            client_message_id=client_message_id,
        )
    )
    return require_message(ctx, message_id)


@rdb.mutation
def start_streaming(ctx: rdb.MutationCtx, prompt_message_id: rdb.Id[Message]) -> StreamHandle:
    """Begin an answer, unless one is there or under way: then that one is returned, without a token.

    A prompt whose newest answer was stopped or has failed gets the next attempt. Any other answer that
    streams in the task is stopped: a task has one run at a time.
    """
    return begin_stream(ctx, prompt_message_id)


def begin_stream(ctx: rdb.MutationCtx, prompt_message_id: rdb.Id[Message]) -> StreamHandle:
    prompt = require_message(ctx, prompt_message_id)
    if prompt.role != "user":
        raise rdb.ApplicationError({"code": "NotAPrompt", "messageId": prompt.id, "role": prompt.role})
    newest = newest_answer(ctx, prompt.id)
    if newest is not None:
        if newest.status == "streaming" and lease_ran_out(ctx, newest):
            end_stream(ctx, newest, finish_reason="lost")
        elif newest.status in ("streaming", "complete"):
            return handle_of(newest)
    for other in streaming_in(ctx, prompt.task_id):
        end_stream(ctx, other, finish_reason="stopped")
    attempt = 1 if newest is None else (newest.attempt or 0) + 1
    run_token = random_token(ctx)
    message_id = ctx.db.insert(
        Message(
            task_id=prompt.task_id,
            sequence=transcript.next_sequence(ctx, prompt.task_id),
            role="assistant",
            content="",
            status="streaming",
            client_message_id=f"answer:{prompt.id}:{attempt}",
            prompt_message_id=prompt.id,
            attempt=attempt,
            run_token=run_token,
            lease_until_ms=ctx.now_ms + LEASE_S * 1000,
            streamed_length=0,
        )
    )
    set_task_status(ctx, prompt.task_id, "running")
    ctx.scheduler.run_after(LEASE_S, fail_silent_stream, message_id, run_token)
    return StreamHandle(message_id=message_id, attempt=attempt, status="streaming", run_token=run_token)


def handle_of(answer: Message) -> StreamHandle:
    return StreamHandle(message_id=answer.id, attempt=answer.attempt or 1, status=answer.status)


def newest_answer(ctx: rdb.QueryCtx, prompt_message_id: rdb.Id[Message]) -> Message | None:
    return ctx.db.query(Message.by_prompt.eq(prompt_message_id)).order("desc").first()


def streaming_in(ctx: rdb.QueryCtx, task_id: rdb.Id[Task]) -> list[Message]:
    return ctx.db.query(Message.by_task_status.eq(task_id, "streaming")).collect()


def lease_ran_out(ctx: rdb.QueryCtx, message: Message) -> bool:
    return message.lease_until_ms is not None and message.lease_until_ms <= ctx.now_ms


@rdb.mutation
def append_stream_delta(  # More than five parameters: these are the names the callers of this wire know.
    ctx: rdb.MutationCtx,
    message_id: rdb.Id[Message],
    run_token: str,
    *,
    delta_text: str = "",
    parts: list[Part] | None = None,
    usage: Usage | None = None,
    finish_reason: FinishReason | None = None,
    is_final: bool = False,
    error: str | None = None,
) -> DeltaOutcome:
    """Type more of an answer and renew its lease; with `is_final` the answer ends.

    The outcome tells the run whether to go on. Checking the token and writing are one transaction, so a
    run that was stopped or overtaken cannot slip in another word.
    """
    message = ctx.db.get(message_id)
    if message is None:
        return DeltaOutcome(accepted=False)
    if message.status != "streaming" or message.run_token != run_token:
        return DeltaOutcome(accepted=False, status=message.status)
    parts = parts or []
    added = len(delta_text) + sum(len(part.text) for part in parts)
    length = (message.streamed_length or 0) + added
    if length > transcript.STREAMED_LENGTH_MAX:
        ended = end_stream(ctx, message, finish_reason="length", usage=usage)
        return DeltaOutcome(accepted=False, status=ended)
    if delta_text or parts:
        transcript.add_to_stream(ctx, message.id, delta_text, parts)
    if is_final:
        ended = end_stream(ctx, message, finish_reason=finish_reason or "stop", usage=usage, error=error)
        return DeltaOutcome(accepted=True, status=ended)
    ctx.db.patch(message.id, lease_until_ms=ctx.now_ms + LEASE_S * 1000, streamed_length=length)
    return DeltaOutcome(accepted=True, status="streaming")


def end_stream(
    ctx: rdb.MutationCtx,
    message: Message,
    *,
    finish_reason: FinishReason,
    usage: Usage | None = None,
    error: str | None = None,
) -> MessageStatus:
    """Fold the chunks into a streaming message, take its token away and give it its last status."""
    status = status_after(finish_reason)
    content, parts = transcript.whole_text(ctx, message)
    transcript.remove_chunks(ctx, message.id)
    ctx.db.patch(
        message.id,
        status=status,
        content=content,
        parts=parts or None,
        usage=usage,
        finish_reason=finish_reason,
        error=error,
        run_token=None,
        lease_until_ms=None,
        streamed_length=None,
    )
    set_task_status(ctx, message.task_id, TASK_STATUS_AFTER[status])
    return status


def status_after(finish_reason: FinishReason) -> MessageStatus:
    match finish_reason:
        case "stop" | "length" | "content_filter" | "tool_calls":
            return "complete"
        case "stopped":
            return "stopped"
        case "error" | "lost":
            return "failed"


@rdb.internal_query
def status_of(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> MessageStatus | None:
    message = ctx.db.get(message_id)
    return None if message is None else message.status


@rdb.internal_mutation
def fail_silent_stream(ctx: rdb.MutationCtx, message_id: rdb.Id[Message], run_token: str) -> None:
    """Fail the stream if its lease has run out, else come back when it would.

    A scheduled mutation runs even if the process died in between, so no stream outlives its run.
    """
    message = ctx.db.get(message_id)
    if message is None or message.status != "streaming" or message.run_token != run_token:
        return
    if lease_ran_out(ctx, message):
        end_stream(ctx, message, finish_reason="lost", error="the answer fell silent and was given up")
    elif message.lease_until_ms is not None:
        remaining_s = (message.lease_until_ms - ctx.now_ms) / 1000
        ctx.scheduler.run_after(remaining_s, fail_silent_stream, message_id, run_token)


@rdb.mutation
def update(
    ctx: rdb.MutationCtx,
    message_id: rdb.Id[Message],
    *,
    content: str | None = None,
    parts: list[Part] | None = None,
    usage: Usage | None = None,
) -> None:
    """Set fields of a finished message. A streaming one belongs to its run alone."""
    message = require_finished(ctx, message_id)
    ctx.db.patch(
        message.id,
        content=message.content if content is None else content,
        parts=message.parts if parts is None else parts or None,
        usage=usage or message.usage,
    )


@rdb.mutation
def edit(ctx: rdb.MutationCtx, message_id: rdb.Id[Message], content: str) -> None:
    """Change the words of a user's message. Answers to the old words stay as they are."""
    message = require_message(ctx, message_id)
    if message.role != "user":
        raise rdb.ApplicationError({"code": "NotEditable", "messageId": message.id, "role": message.role})
    if message.content != content:
        ctx.db.patch(message.id, content=content, edited_at_ms=ctx.now_ms)


@rdb.mutation
def remove(ctx: rdb.MutationCtx, message_id: rdb.Id[Message]) -> None:
    """Take a message away; a run that still types into it finds it gone and ends."""
    message = require_message(ctx, message_id)
    if message.status == "streaming":
        end_stream(ctx, message, finish_reason="stopped")
    ctx.db.delete(message.id)


def require_task(ctx: rdb.QueryCtx, task_id: rdb.Id[Task]) -> Task:
    task = ctx.db.get(task_id)
    if task is None:
        raise rdb.ApplicationError({"code": "NoSuchTask", "taskId": task_id})
    return task


def require_message(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> Message:
    message = ctx.db.get(message_id)
    if message is None:
        raise rdb.ApplicationError({"code": "NoSuchMessage", "messageId": message_id})
    return message


def require_finished(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> Message:
    message = require_message(ctx, message_id)
    if message.status == "streaming":
        raise rdb.ApplicationError({"code": "StillStreaming", "messageId": message_id})
    return message


def set_task_status(ctx: rdb.MutationCtx, task_id: rdb.Id[Task], status: TaskStatus) -> None:
    task = ctx.db.get(task_id)
    if task is not None and task.status not in (status, "archived"):
        ctx.db.patch(task_id, status=status)


def random_token(ctx: rdb.MutationCtx) -> str:
    return f"{ctx.random.getrandbits(128):032x}"
