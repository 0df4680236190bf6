"""What does an everyday application do: add, list, change and remove documents of a list?"""

import reactivedb as rdb


class Task(rdb.Document, table="tasks"):
    list_name: str
    text: str

    by_list = rdb.Index("list_name")


@rdb.mutation
def add(ctx: rdb.MutationCtx, list_name: str, text: str) -> rdb.Id[Task]:
    return ctx.db.insert(Task(list_name=list_name, text=text))


@rdb.mutation
def rename(ctx: rdb.MutationCtx, id: rdb.Id[Task], text: str) -> None:
    ctx.db.patch(id, text=text)


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Task]) -> None:
    ctx.db.delete(id)


@rdb.query
def all_of(ctx: rdb.QueryCtx, list_name: str) -> list[Task]:
    return ctx.db.query(Task.by_list.eq(list_name)).collect()


@rdb.query
def texts(ctx: rdb.QueryCtx, list_name: str) -> list[str]:
    return [task.text for task in ctx.db.query(Task.by_list.eq(list_name)).collect()]


@rdb.query
def is_empty(ctx: rdb.QueryCtx, list_name: str) -> bool:
    """Reads every task of the list, though its result seldom changes."""
    return not ctx.db.query(Task.by_list.eq(list_name)).collect()


@rdb.action
async def add_through_action(ctx: rdb.ActionCtx, list_name: str, text: str) -> int:
    await ctx.run_mutation(add, list_name, text)
    return len(await ctx.run_query(texts, list_name))
