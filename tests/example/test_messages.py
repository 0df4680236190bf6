"""Does the chat keep its tasks and messages in order?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_streaming import messages, streaming, tasks, users

import reactivedb as rdb


def new_task(chat: rdb.Database, *, request_id: str = "r1", prompt: str = "hello") -> tasks.CreatedTask:
    return chat.mutation(tasks.create, prompt, client_request_id=request_id)


def test_creating_a_task_stores_its_prompt_and_opens_its_answer_at_once(still: rdb.Database) -> None:
    created = new_task(still, prompt="What is a\nlog?")
    task = still.query(tasks.get, created.task_id)
    prompt, answer = still.query(messages.by_task, created.task_id)
    assert task is not None
    assert (task.title, task.status) == ("What is a", "running")
    assert (prompt.id, prompt.role, prompt.content) == (created.prompt_message_id, "user", "What is a\nlog?")
    assert (answer.role, answer.status, answer.content) == ("assistant", "streaming", "")
    assert (answer.prompt_message_id, answer.attempt) == (prompt.id, 1)


def test_creating_a_task_twice_under_one_request_id_changes_nothing(still: rdb.Database) -> None:
    first = new_task(still)
    assert new_task(still) == first
    assert len(still.query(tasks.list_)) == 1
    assert len(still.query(messages.by_task, first.task_id)) == 2


def test_sequences_have_no_gap_however_many_write_at_once(still: rdb.Database) -> None:
    task_id = new_task(still).task_id
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: still.mutation(messages.append, task_id, f"message {n}"), range(40)))
    assert [m.sequence for m in still.query(messages.by_task, task_id)] == list(range(1, 43))


def test_the_same_client_message_id_gives_the_same_message(still: rdb.Database) -> None:
    task_id = new_task(still).task_id
    first = still.mutation(messages.append, task_id, "once", client_message_id="c1")
    assert still.mutation(messages.append, task_id, "once", client_message_id="c1") == first
    other = new_task(still, request_id="r2").task_id
    assert still.mutation(messages.append, other, "once", client_message_id="c1") != first


def test_removing_a_message_leaves_the_numbers_of_the_others(still: rdb.Database) -> None:
    task_id = new_task(still).task_id
    ids = [still.mutation(messages.append, task_id, text) for text in "abc"]
    still.mutation(messages.remove, ids[0])
    assert [m.sequence for m in still.query(messages.by_task, task_id)] == [1, 2, 4, 5]
    still.mutation(messages.append, task_id, "d")
    assert [m.sequence for m in still.query(messages.by_task, task_id)][-1] == 6


def test_only_a_users_words_can_be_edited(still: rdb.Database) -> None:
    created = new_task(still)
    still.mutation(messages.edit, created.prompt_message_id, "hello again")
    prompt, answer = still.query(messages.by_task, created.task_id)
    assert prompt.content == "hello again"
    assert prompt.edited_at_ms is not None
    with pytest.raises(rdb.ApplicationError) as refused:
        still.mutation(messages.edit, answer.id, "mine")
    assert refused.value.data["code"] == "NotEditable"


def test_a_streaming_message_is_updated_by_its_run_alone(still: rdb.Database) -> None:
    created = new_task(still)
    _, answer = still.query(messages.by_task, created.task_id)
    with pytest.raises(rdb.ApplicationError) as refused:
        still.mutation(messages.update, answer.id, content="mine")
    assert refused.value.data["code"] == "StillStreaming"
    still.mutation(streaming.stop, created.task_id)
    still.mutation(messages.update, answer.id, content="mine")
    assert still.query(messages.by_task, created.task_id)[1].content == "mine"


def test_tasks_are_listed_newest_first_without_the_archived(still: rdb.Database) -> None:
    old, new = (new_task(still, request_id=r).task_id for r in ("r1", "r2"))
    assert [task.id for task in still.query(tasks.list_)] == [new, old]
    still.mutation(tasks.update, new, archived=True, title="Put away")
    assert [task.id for task in still.query(tasks.list_)] == [old]
    (archived,) = still.query(tasks.list_, archived=True)
    assert (archived.id, archived.title) == (new, "Put away")
    still.mutation(tasks.update, new, archived=False)
    restored = still.query(tasks.get, new)
    assert restored is not None
    assert restored.status == "stopped"


def test_a_browser_is_one_user_under_its_newest_name(still: rdb.Database) -> None:
    first = still.mutation(users.ensure, "browser", "Ada")
    assert still.mutation(users.ensure, "browser", "Ada L.") == first
    assert [user.name for user in still.query(users.list_)] == ["Ada L."]
