"""Which conversations are there, and how does one begin?"""

import reactivedb as rdb

from . import messages, streaming
from .tables import Message, Task, TaskStatus, User

LISTED_COUNT_MAX = 100
TITLE_LENGTH_MAX = 60


class CreatedTask(rdb.Model):
    task_id: rdb.Id[Task]
    prompt_message_id: rdb.Id[Message]


@rdb.mutation
def create(
    ctx: rdb.MutationCtx,
    prompt: str,
    *,
    client_request_id: str | None = None,
    title: str | None = None,
    user_id: rdb.Id[User] | None = None,
    model: str | None = None,
) -> CreatedTask:
    """Open a conversation with its first prompt and start the answer, all in this one transaction.

    Called again with the same `client_request_id` it changes nothing and starts nothing: it returns what
    the first call made.
    """
    request_id = client_request_id or messages.random_token(ctx)
    if task := ctx.db.query(Task.by_client_request_id.eq(request_id)).unique():
        first = ctx.db.query(Message.by_client_message_id.eq(task.id, request_id)).unique()
        if first is None:
            raise rdb.ApplicationError({"code": "PromptRemoved", "taskId": task.id})
        return CreatedTask(task_id=task.id, prompt_message_id=first.id)
    task_id = ctx.db.insert(
        Task(
            title=title or title_of(prompt),
            status="running",
            client_request_id=request_id,
            user_id=user_id,
            model=model,
        )
    )
    sent = streaming.send_prompt(ctx, task_id, prompt, client_message_id=request_id)
    return CreatedTask(task_id=task_id, prompt_message_id=sent.prompt_message_id)


def title_of(prompt: str) -> str:
    """The prompt's first line, cut to a length that fits a list."""
    first_line = prompt.strip().partition("\n")[0]
    if len(first_line) <= TITLE_LENGTH_MAX:
        return first_line or "New chat"
    return first_line[: TITLE_LENGTH_MAX - 1].rstrip() + "…"


@rdb.query
def list_(ctx: rdb.QueryCtx, archived: bool = False) -> list[Task]:
    """The newest tasks, newest first: the archived ones, or all others."""
    newest = ctx.db.query(Task).order("desc")
    return newest.filter(lambda task: (task.status == "archived") == archived).take(LISTED_COUNT_MAX)


@rdb.query
def get(ctx: rdb.QueryCtx, task_id: rdb.Id[Task]) -> Task | None:
    return ctx.db.get(task_id)


@rdb.mutation
def update(
    ctx: rdb.MutationCtx, task_id: rdb.Id[Task], *, title: str | None = None, archived: bool | None = None
) -> None:
    """Rename a task, put it away or take it out again. Putting it away stops the answer in progress."""
    task = messages.require_task(ctx, task_id)
    if title is not None:
        ctx.db.patch(task_id, title=title)
    if archived is None or archived == (task.status == "archived"):
        return
    if archived:
        streaming.stop_streams(ctx, task_id)
        ctx.db.patch(task_id, status="archived")
    else:
        ctx.db.patch(task_id, status=status_of_newest_answer(ctx, task_id))


def status_of_newest_answer(ctx: rdb.QueryCtx, task_id: rdb.Id[Task]) -> TaskStatus:
    newest = ctx.db.query(Message.by_task.eq(task_id)).order("desc")
    answer = newest.filter(lambda message: message.role == "assistant").first()
    return "completed" if answer is None else messages.TASK_STATUS_AFTER[answer.status]
