"""Does an answer come over the model's socket into the database, and always to an end?"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_streaming import messages, streaming, tasks
from chat_streaming.messages import MessageView
from chat_streaming.stream_writer import FLUSH_INTERVAL_S
from chat_streaming.tables import Message, Task

import reactivedb as rdb

from .scripted_model import Model, broken_off, endless, refusing_model, silent_after_a_word

pytestmark = pytest.mark.slow
PATIENCE_S = 15.0


@pytest.fixture
def ask_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda url: monkeypatch.setenv("OPENAI_BASE_URL", url)


def wait_for_answer(
    chat: rdb.Database, task_id: rdb.Id[Task], is_right: Callable[[MessageView], bool]
) -> MessageView:
    """The newest answer of the task, once it is as wanted."""
    deadline = time.monotonic() + PATIENCE_S
    with chat.subscribe(messages.by_task, task_id) as live:
        seen = live.value
        while not is_right(seen[-1]):
            seen = live.wait_for_change(timeout_s=deadline - time.monotonic())
        return seen[-1]


def ended(answer: MessageView) -> bool:
    return answer.status != "streaming"


def test_a_prompt_is_answered_over_the_socket_to_its_end(chat: rdb.Database) -> None:
    task_id = chat.mutation(tasks.create, "count to 30").task_id
    answer = wait_for_answer(chat, task_id, ended)
    assert (answer.status, answer.finish_reason) == ("complete", "stop")
    assert answer.content == " ".join(str(n) for n in range(1, 31))
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 30


def test_readers_see_the_answer_grow(chat: rdb.Database) -> None:
    task_id = chat.mutation(tasks.create, "count to 100").task_id
    lengths: list[int] = []
    with chat.subscribe(messages.by_task, task_id) as live:
        while live.value[-1].status == "streaming":
            lengths.append(len(live.wait_for_change(timeout_s=PATIENCE_S)[-1].content))
    assert lengths == sorted(lengths)
    assert len(set(lengths)) >= 4


def test_the_number_of_commits_follows_the_time_and_not_the_tokens(app: rdb.App, tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    with app.open(str(file)) as chat:
        task_id = chat.mutation(tasks.create, "nothing").task_id
        chat.mutation(streaming.stop, task_id)
        began = time.monotonic()
        result = chat.action(streaming.stream_chat, task_id, "count to 200")
        took_s = time.monotonic() - began
    assert result.status == "complete"
    count = "SELECT count(DISTINCT ts) FROM log WHERE id = ?"
    with sqlite3.connect(file) as shell:
        ((commits,),) = shell.execute(count, (result.message_id,)).fetchall()
    # One more for the placeholder that `begin` stores.
    assert 4 <= commits <= math.ceil(took_s / FLUSH_INTERVAL_S) + 3


def test_calling_the_action_again_finds_the_first_answer(chat: rdb.Database) -> None:
    task_id = chat.mutation(tasks.create, "count to 1").task_id
    wait_for_answer(chat, task_id, ended)
    first = chat.action(streaming.stream_chat, task_id, "count to 3", client_message_id="c")
    assert chat.action(streaming.stream_chat, task_id, "count to 3", client_message_id="c") == first
    assert len(chat.query(messages.by_task, task_id)) == 4


def test_the_model_is_told_the_talk_so_far(chat: rdb.Database, ask_model: Callable[[str], None]) -> None:
    model = Model(broken_off)
    ask_model(model.url)
    created = chat.mutation(tasks.create, "first")
    wait_for_answer(chat, created.task_id, ended)
    chat.mutation(streaming.retry, created.prompt_message_id)
    wait_for_answer(chat, created.task_id, lambda answer: answer.attempt == 2 and ended(answer))
    chat.action(streaming.stream_chat, created.task_id, "second")
    told = [[(turn["role"], turn["content"]) for turn in request["messages"]] for request in model.requests]
    first, half = ("user", "first"), ("assistant", "half an ans")
    assert told == [[first], [first], [first, half, half, ("user", "second")]]


def test_stop_ends_the_message_at_once_and_the_run_soon(
    chat: rdb.Database, ask_model: Callable[[str], None]
) -> None:
    model = Model(endless)
    ask_model(model.url)
    task_id = chat.mutation(tasks.create, "go").task_id
    wait_for_answer(chat, task_id, lambda answer: len(answer.content) > 100)
    chat.mutation(streaming.stop, task_id)
    stopped = chat.query(messages.by_task, task_id)[-1]
    assert stopped.status == "stopped"
    assert model.hung_up.wait(FLUSH_INTERVAL_S * 10)
    assert chat.query(messages.by_task, task_id)[-1] == stopped


def test_stop_reaches_a_run_whose_model_is_silent(
    chat: rdb.Database, ask_model: Callable[[str], None]
) -> None:
    model = Model(silent_after_a_word)
    ask_model(model.url)
    task_id = chat.mutation(tasks.create, "go").task_id
    wait_for_answer(chat, task_id, lambda answer: answer.content == "word")
    chat.mutation(streaming.stop, task_id)
    assert model.hung_up.wait(3)


def test_a_model_that_falls_silent_fails_its_answer(
    chat: rdb.Database, ask_model: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "LEASE_S", 0.6)
    ask_model(Model(silent_after_a_word).url)
    task_id = chat.mutation(tasks.create, "go").task_id
    answer = wait_for_answer(chat, task_id, ended)
    assert (answer.content, answer.status) == ("word", "failed")


def test_an_answer_that_breaks_off_is_failed_and_keeps_its_words(
    chat: rdb.Database, ask_model: Callable[[str], None]
) -> None:
    ask_model(Model(broken_off).url)
    task_id = chat.mutation(tasks.create, "go").task_id
    answer = wait_for_answer(chat, task_id, ended)
    assert (answer.content, answer.status, answer.finish_reason) == ("half an ans", "failed", "error")


def test_a_model_that_refuses_is_named_at_the_message(
    chat: rdb.Database, ask_model: Callable[[str], None]
) -> None:
    ask_model(refusing_model())
    task_id = chat.mutation(tasks.create, "go").task_id
    answer = wait_for_answer(chat, task_id, ended)
    assert answer.status == "failed"
    assert "no such key" in (answer.error or "")


def test_closing_the_database_in_the_middle_ends_the_answer(
    app: rdb.App, tmp_path: Path, ask_model: Callable[[str], None]
) -> None:
    ask_model(Model(endless).url)
    file = str(tmp_path / "chat.db")
    with app.open(file) as chat:
        task_id = chat.mutation(tasks.create, "go").task_id
        wait_for_answer(chat, task_id, lambda answer: len(answer.content) > 20)
    with app.open(file, jobs=False) as chat:
        answer = chat.query(messages.by_task, task_id)[-1]
    assert (answer.status, answer.finish_reason) == ("failed", "error")


def test_a_follow_up_while_the_answer_streams_leaves_one_run(
    chat: rdb.Database, ask_model: Callable[[str], None]
) -> None:
    first_model = Model(endless)
    ask_model(first_model.url)
    task_id = chat.mutation(tasks.create, "go").task_id
    first: rdb.Id[Message] = wait_for_answer(chat, task_id, lambda answer: bool(answer.content)).id
    ask_model(Model(endless).url)
    chat.mutation(streaming.send, task_id, "and this")
    wait_for_answer(chat, task_id, lambda answer: answer.id != first and bool(answer.content))
    assert first_model.hung_up.wait(FLUSH_INTERVAL_S * 10)
    streaming_now = [m for m in chat.query(messages.by_task, task_id) if m.status == "streaming"]
    assert len(streaming_now) == 1
    chat.mutation(streaming.stop, task_id)
