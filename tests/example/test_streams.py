"""Does an answer end exactly once, and is nobody but its run able to type it?"""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from chat_streaming import messages, streaming, tasks, transcript
from chat_streaming.messages import MessageView, StreamHandle
from chat_streaming.tables import FinishReason, Message, Part, Task, Usage

import reactivedb as rdb

from .probe import chunk_count


class Prompt:
    """A task with a prompt and nobody who answers it yet."""

    def __init__(self, chat: rdb.Database) -> None:
        self.chat = chat
        self.task_id: rdb.Id[Task] = chat.mutation(tasks.create, "first").task_id
        chat.mutation(streaming.stop, self.task_id)
        self.id: rdb.Id[Message] = chat.mutation(messages.append, self.task_id, "prompt")

    def start(self) -> Run:
        handle = self.chat.mutation(messages.start_streaming, self.id)
        assert handle.run_token is not None
        return Run(self.chat, handle)

    def again(self) -> StreamHandle:
        return self.chat.mutation(messages.start_streaming, self.id)

    def answers(self) -> list[MessageView]:
        seen = self.chat.query(messages.by_task, self.task_id)
        return [message for message in seen if message.prompt_message_id == self.id]


class Run:
    def __init__(self, chat: rdb.Database, handle: StreamHandle) -> None:
        self.chat, self.message_id, self.token = chat, handle.message_id, handle.run_token or ""

    def type(self, text: str, *, parts: list[Part] | None = None) -> messages.DeltaOutcome:
        return self.chat.mutation(
            messages.append_stream_delta, self.message_id, self.token, delta_text=text, parts=parts
        )

    def end(self, reason: FinishReason = "stop", *, text: str = "") -> messages.DeltaOutcome:
        return self.chat.mutation(
            messages.append_stream_delta,
            self.message_id,
            self.token,
            delta_text=text,
            finish_reason=reason,
            is_final=True,
            usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        )


@pytest.fixture
def prompt(still: rdb.Database) -> Prompt:
    return Prompt(still)


def test_deltas_are_read_as_one_text_and_folded_at_the_end(prompt: Prompt) -> None:
    run = prompt.start()
    words = [f"word{n} " for n in range(300)]
    for word in words:
        assert run.type(word).accepted
    (answer,) = prompt.answers()
    assert (answer.content, answer.status) == ("".join(words), "streaming")
    assert (
        3
        <= prompt.chat.query(chunk_count, run.message_id)
        <= len(answer.content) // transcript.CHUNK_LENGTH + 1
    )
    run.end(text="end")
    (answer,) = prompt.answers()
    assert (answer.content, answer.status) == ("".join(words) + "end", "complete")
    assert answer.usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    assert prompt.chat.query(chunk_count, run.message_id) == 0


def test_parts_keep_their_order_and_outlive_the_stream(prompt: Prompt) -> None:
    run = prompt.start()
    parts = [Part(type="reasoning", text="hm"), Part(type="tool-call", name="read", call_id="1")]
    run.type("a", parts=parts[:1])
    run.type("b", parts=parts[1:])
    assert prompt.answers()[0].parts == parts
    run.end()
    assert (prompt.answers()[0].parts, prompt.answers()[0].content) == (parts, "ab")


@pytest.mark.parametrize(
    ("reason", "status", "task_status"),
    [("stop", "complete", "completed"), ("length", "complete", "completed"),
     ("stopped", "stopped", "stopped"), ("error", "failed", "failed"), ("lost", "failed", "failed")],
)  # fmt: skip
def test_each_reason_ends_in_its_status(
    prompt: Prompt, reason: FinishReason, status: str, task_status: str
) -> None:
    assert prompt.start().end(reason).status == status
    (answer,) = prompt.answers()
    task = prompt.chat.query(tasks.get, prompt.task_id)
    assert task is not None
    assert (answer.status, answer.finish_reason, task.status) == (status, reason, task_status)


def test_a_stopped_run_can_write_nothing_more(prompt: Prompt) -> None:
    run = prompt.start()
    run.type("before")
    assert prompt.chat.mutation(streaming.stop, prompt.task_id) == [run.message_id]
    assert run.type(" after") == messages.DeltaOutcome(accepted=False, status="stopped")
    assert not run.end(text=" after").accepted
    (answer,) = prompt.answers()
    assert (answer.content, answer.status) == ("before", "stopped")
    assert prompt.chat.mutation(streaming.stop, prompt.task_id) == []


def test_stopping_one_message_leaves_another_run_alone(prompt: Prompt) -> None:
    run = prompt.start()
    other = prompt.chat.query(messages.by_task, prompt.task_id)[1].id
    assert prompt.chat.mutation(streaming.stop, prompt.task_id, other) == []
    assert run.type("on").accepted


def test_a_quick_follow_up_does_not_revive_the_old_run(prompt: Prompt) -> None:
    old = prompt.start()
    old.type("old")
    prompt.chat.mutation(streaming.stop, prompt.task_id)
    sent = prompt.chat.mutation(streaming.send, prompt.task_id, "follow-up")
    assert not old.type(" again").accepted
    assert prompt.answers()[0].content == "old"
    newest = prompt.chat.query(messages.by_task, prompt.task_id)[-1]
    assert (newest.id, newest.status) == (sent.message_id, "streaming")


def test_a_new_run_of_the_task_ends_the_old_one(prompt: Prompt) -> None:
    old = prompt.start()
    prompt.chat.mutation(streaming.send, prompt.task_id, "follow-up")
    assert not old.type("late").accepted
    task = prompt.chat.query(tasks.get, prompt.task_id)
    assert task is not None
    assert (prompt.answers()[0].status, task.status) == ("stopped", "running")


def test_sending_twice_under_one_id_starts_one_run_even_after_a_stop(prompt: Prompt) -> None:
    first = prompt.chat.mutation(streaming.send, prompt.task_id, "x", client_message_id="c")
    prompt.chat.mutation(streaming.stop, prompt.task_id)
    assert prompt.chat.mutation(streaming.send, prompt.task_id, "x", client_message_id="c") == first
    assert prompt.chat.query(messages.by_task, prompt.task_id)[-1].status == "stopped"


def test_who_starts_a_stream_that_runs_gets_no_token(prompt: Prompt) -> None:
    run = prompt.start()
    assert prompt.again() == StreamHandle(message_id=run.message_id, attempt=1, status="streaming")
    run.end()
    assert prompt.again() == StreamHandle(message_id=run.message_id, attempt=1, status="complete")
    assert len(prompt.answers()) == 1


@pytest.mark.parametrize("reason", ["error", "stopped"])
def test_a_failed_attempt_is_followed_by_one_other(prompt: Prompt, reason: FinishReason) -> None:
    first = prompt.start()
    first.end(reason)
    second = prompt.start()
    assert second.message_id != first.message_id
    assert prompt.again().run_token is None
    assert [answer.attempt for answer in prompt.answers()] == [1, 2]
    assert not first.type("late").accepted
    assert second.type("fine").accepted


def test_an_answer_cannot_be_answered(prompt: Prompt) -> None:
    run = prompt.start()
    with pytest.raises(rdb.ApplicationError) as refused:
        prompt.chat.mutation(messages.start_streaming, run.message_id)
    assert refused.value.data["code"] == "NotAPrompt"


def test_a_run_whose_message_was_removed_is_told_so(prompt: Prompt) -> None:
    run = prompt.start()
    run.type("text")
    prompt.chat.mutation(messages.remove, run.message_id)
    assert run.type("more") == messages.DeltaOutcome(accepted=False)
    assert prompt.answers() == []
    assert prompt.chat.query(chunk_count, run.message_id) == 0


def test_an_endless_answer_ends_before_it_outgrows_its_document(prompt: Prompt) -> None:
    run = prompt.start()
    piece = "😀" * 20_000
    while run.type(piece).accepted:
        pass
    (answer,) = prompt.answers()
    assert (answer.status, answer.finish_reason) == ("complete", "length")
    assert len(answer.content) == transcript.STREAMED_LENGTH_MAX


def test_archiving_a_task_stops_its_answer(prompt: Prompt) -> None:
    run = prompt.start()
    prompt.chat.mutation(tasks.update, prompt.task_id, archived=True)
    assert not run.type("late").accepted


class StillClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.ns = 1_800_000_000 * 10**9

    def now_ns(self) -> int:
        return self.ns

    async def sleep_until_ns(self, deadline_ns: int) -> None:
        await anyio.sleep_forever()

    def move(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def timed_prompt(app: rdb.App, clock: StillClock) -> Iterator[Prompt]:
    with app.open(":memory:", jobs=False, clock=clock) as chat:
        yield Prompt(chat)


def look_after(run: Run) -> None:
    run.chat.mutation(messages.fail_silent_stream, run.message_id, run.token)


def test_a_stream_fails_when_its_lease_runs_out(timed_prompt: Prompt, clock: StillClock) -> None:
    run = timed_prompt.start()
    run.type("so far")
    clock.move(messages.LEASE_S - 0.1)
    look_after(run)
    assert timed_prompt.answers()[0].status == "streaming"
    clock.move(0.2)
    look_after(run)
    (answer,) = timed_prompt.answers()
    assert (answer.status, answer.finish_reason, answer.content) == ("failed", "lost", "so far")
    assert not run.type("late").accepted


def test_each_delta_renews_the_lease(timed_prompt: Prompt, clock: StillClock) -> None:
    run = timed_prompt.start()
    for _ in range(3):
        clock.move(messages.LEASE_S - 0.1)
        assert run.type("word ").accepted
        look_after(run)
    assert timed_prompt.answers()[0].status == "streaming"


def test_a_dead_stream_does_not_keep_the_next_attempt_waiting(
    timed_prompt: Prompt, clock: StillClock
) -> None:
    dead = timed_prompt.start()
    clock.move(messages.LEASE_S + 0.1)
    timed_prompt.start()
    assert [answer.status for answer in timed_prompt.answers()] == ["failed", "streaming"]
    assert not dead.type("late").accepted
