"""How does a prompt become an answer that grows before everybody's eyes?

`send` (and `tasks:create`) store the prompt, open its answer and schedule `answer` in one transaction;
`stream_chat` does the same and waits for the end. Stopping is a plain mutation: it ends the message at
once, and the run learns of it from its next delta.
"""

import reactivedb as rdb

from . import messages, model
from .messages import StreamHandle
from .stream_writer import StreamWriter
from .tables import Message, MessageStatus, Task

REMEMBERED_COUNT = 40


class SentPrompt(rdb.Model):
    prompt_message_id: rdb.Id[Message]
    message_id: rdb.Id[Message] | None = None


class StreamResult(rdb.Model):
    prompt_message_id: rdb.Id[Message]
    message_id: rdb.Id[Message]
    status: MessageStatus


class BegunStream(rdb.Model):
    prompt_message_id: rdb.Id[Message]
    handle: StreamHandle


@rdb.mutation
def send(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], content: str, *, client_message_id: str | None = None
) -> SentPrompt:
    """Store a prompt and start its answer; the same `client_message_id` again starts nothing."""
    return send_prompt(ctx, task_id, content, client_message_id=client_message_id)


def send_prompt(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], content: str, *, client_message_id: str | None
) -> SentPrompt:
    client_message_id = client_message_id or messages.random_token(ctx)
    if known := ctx.db.query(Message.by_client_message_id.eq(task_id, client_message_id)).unique():
        answer_message = messages.newest_answer(ctx, known.id)
        return SentPrompt(prompt_message_id=known.id, message_id=answer_message and answer_message.id)
    prompt = messages.store_message(ctx, task_id, content, client_message_id=client_message_id)
    return SentPrompt(prompt_message_id=prompt.id, message_id=start_answer(ctx, prompt.id))


def start_answer(ctx: rdb.MutationCtx, prompt_message_id: rdb.Id[Message]) -> rdb.Id[Message]:
    handle = messages.begin_stream(ctx, prompt_message_id)
    if handle.run_token is not None:
        ctx.scheduler.run_after(0, answer, handle.message_id, handle.run_token)
    return handle.message_id


@rdb.mutation
def retry(ctx: rdb.MutationCtx, prompt_message_id: rdb.Id[Message]) -> SentPrompt:
    """Try again after a stop or a failure; an answer that is complete or under way is left alone."""
    return SentPrompt(prompt_message_id=prompt_message_id, message_id=start_answer(ctx, prompt_message_id))


@rdb.mutation
def stop(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], message_id: rdb.Id[Message] | None = None
) -> list[rdb.Id[Message]]:
    """End what streams in the task, or that one message, as `stopped`; gives what it ended."""
    messages.require_task(ctx, task_id)
    return stop_streams(ctx, task_id, message_id)


def stop_streams(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], message_id: rdb.Id[Message] | None = None
) -> list[rdb.Id[Message]]:
    live = [m for m in messages.streaming_in(ctx, task_id) if message_id in (None, m.id)]
    for message in live:
        messages.end_stream(ctx, message, finish_reason="stopped")
    return [message.id for message in live]


@rdb.action
async def stream_chat(
    ctx: rdb.ActionCtx,
    task_id: rdb.Id[Task],
    prompt: str,
    *,
    client_message_id: str | None = None,
) -> StreamResult:
    """Store the prompt, stream the answer, and return when it has ended.

    A second call with the same `client_message_id` finds the first one's answer and returns its status; only
    if that was stopped or has failed does it make another attempt.
    """
    begun = await ctx.run_mutation(begin, task_id, prompt, client_message_id=client_message_id)
    handle = begun.handle
    status: MessageStatus | None = handle.status
    if handle.run_token is not None:
        status = await type_answer(ctx, handle.message_id, handle.run_token)
    return StreamResult(
        prompt_message_id=begun.prompt_message_id, message_id=handle.message_id, status=status or "stopped"
    )


@rdb.internal_mutation
def begin(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], prompt: str, *, client_message_id: str | None = None
) -> BegunStream:
    message = messages.store_message(ctx, task_id, prompt, client_message_id=client_message_id)
    return BegunStream(prompt_message_id=message.id, handle=messages.begin_stream(ctx, message.id))


@rdb.internal_action
async def answer(ctx: rdb.ActionCtx, message_id: rdb.Id[Message], run_token: str) -> None:
    await type_answer(ctx, message_id, run_token)


class Turn(rdb.Model):
    role: str
    content: str


class Conversation(rdb.Model):
    turns: list[Turn]
    model: str | None = None


@rdb.internal_query
def conversation_before(ctx: rdb.QueryCtx, message_id: rdb.Id[Message]) -> Conversation:
    """What the model is told before it writes `message_id`: the talk up to its prompt."""
    answer_message = messages.require_message(ctx, message_id)
    earlier = Message.by_task.eq(answer_message.task_id).lt(answer_message.sequence)
    remembered = (
        ctx.db.query(earlier)
        .order("desc")
        # What an earlier attempt at this prompt said is no part of the talk.
        .filter(lambda m: bool(m.content) and m.prompt_message_id != answer_message.prompt_message_id)
        .take(REMEMBERED_COUNT)
    )
    task = messages.require_task(ctx, answer_message.task_id)
    turns = [Turn(role=message.role, content=message.content) for message in reversed(remembered)]
    return Conversation(turns=turns, model=task.model)


async def type_answer(
    ctx: rdb.ActionCtx, message_id: rdb.Id[Message], run_token: str
) -> MessageStatus | None:
    """Stream the model's answer into the message; gives the status it ended with, None if it is gone."""
    async with StreamWriter(ctx, message_id, run_token) as writer:
        if await writer.still_wanted():
            talk = await ctx.run_query(conversation_before, message_id)
            turns = [(turn.role, turn.content) for turn in talk.turns]
            await writer.type_all(model.stream_answer(turns, model=talk.model, silence_s=messages.LEASE_S))
    return writer.status
