"""A counter and one row per call, changed together: after any crash the two agree."""

import reactivedb as rdb


class Counter(rdb.Document, table="counters"):
    value: int


class Entry(rdb.Document, table="entries"):
    name: str
    number: int

    by_name = rdb.Index("name")
    by_number = rdb.Index("number")


@rdb.mutation
def add(ctx: rdb.MutationCtx, name: str) -> int:
    """Count one up and store a row under the new number; never idempotent by itself."""
    counter = ctx.db.query(Counter).unique()
    if counter is None:
        counter_id = ctx.db.insert(Counter(value=0))
        number = 1
    else:
        counter_id, number = counter.id, counter.value + 1
    ctx.db.patch(counter_id, value=number)
    ctx.db.insert(Entry(name=name, number=number))
    return number


@rdb.mutation
def add_later(ctx: rdb.MutationCtx, name: str, delay_s: float) -> None:
    """Schedule `add`: the job runs once, whatever happens in between."""
    ctx.scheduler.run_after(delay_s, add, name)


@rdb.query
def names(ctx: rdb.QueryCtx) -> list[str]:
    """The names of all rows in the order of their numbers."""
    return [entry.name for entry in sorted(ctx.db.query(Entry), key=lambda entry: entry.number)]


@rdb.query
def names_after(ctx: rdb.QueryCtx, number: int) -> list[str]:
    """The names of up to 5,000 rows with higher numbers: a result's array has a bound."""
    return [entry.name for entry in ctx.db.query(Entry.by_number.gt(number)).take(5_000)]


@rdb.query
def total(ctx: rdb.QueryCtx) -> int:
    counter = ctx.db.query(Counter).unique()
    return 0 if counter is None else counter.value
