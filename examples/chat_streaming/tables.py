"""What does the chat keep?

A task is one conversation. Its messages are numbered by `sequence`, from 1: a new message gets the newest
number plus one, inside the mutation that stores it, so that however many callers write at once no number
is given twice and none is left out. Removing a message changes no other number, because clients hold
them; so a hole is where something was removed, and nowhere else.

An answer that is being typed keeps its text in `stream_chunks`, a few rows of bounded size, and only its
lease and length in the message itself. So a delta costs the same however long the answer has become. When
the stream ends the chunks are folded into the message and deleted.
"""

from typing import Literal

import reactivedb as rdb

TaskStatus = Literal["running", "completed", "stopped", "failed", "archived"]
Role = Literal["system", "user", "assistant"]
MessageStatus = Literal["streaming", "complete", "stopped", "failed"]
# The first four are the model's words, the last three ours: stopped by a user, broken, and gone silent.
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "stopped", "error", "lost"]


class User(rdb.Document, table="users"):
    # Made and kept by the browser. It says who somebody claims to be; it proves nothing.
    client_user_id: str
    name: str

    by_client_user_id = rdb.Index("client_user_id", unique=True)


class Task(rdb.Document, table="tasks"):
    title: str
    status: TaskStatus
    client_request_id: str
    user_id: rdb.Id[User] | None = None
    model: str | None = None

    by_client_request_id = rdb.Index("client_request_id", unique=True)


class Usage(rdb.Model):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Part(rdb.Model):
    """A piece of an answer that is not its plain text."""

    type: Literal["reasoning", "tool-call", "tool-result", "error"]
    text: str = ""
    call_id: str | None = None
    name: str | None = None


class Message(rdb.Document, table="messages"):
    task_id: rdb.Id[Task]
    sequence: int
    role: Role
    content: str
    status: MessageStatus
    client_message_id: str
    parts: list[Part] | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None
    edited_at_ms: float | None = None
    # An answer names the prompt it answers and which try this is; a prompt has neither.
    prompt_message_id: "rdb.Id[Message] | None" = None
    attempt: int | None = None
    # Only while streaming. Whoever shows this token may write; a new run has a new token, so an old run is
    # locked out for good. It never leaves the server except to the caller who started the run.
    run_token: str | None = None
    # Only while streaming: past this moment the stream counts as dead. Every delta moves it on.
    lease_until_ms: float | None = None
    # Only while streaming: how many characters the chunks hold together.
    streamed_length: int | None = None

    by_task = rdb.Index("task_id", "sequence", unique=True)
    by_task_status = rdb.Index("task_id", "status")
    by_client_message_id = rdb.Index("task_id", "client_message_id", unique=True)
    by_prompt = rdb.Index("prompt_message_id", "attempt", unique=True)


class StreamChunk(rdb.Document, table="stream_chunks"):
    message_id: rdb.Id[Message]
    position: int
    text: str
    parts: list[Part] | None = None

    by_message = rdb.Index("message_id", "position", unique=True)
