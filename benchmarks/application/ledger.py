"""Accounts with numbered entries, and pages of text: the smallest thing that reads, changes and inserts."""

import reactivedb as rdb


class Account(rdb.Document, table="accounts"):
    name: str
    entry_count: int


class Entry(rdb.Document, table="entries"):
    account_id: rdb.Id[Account]
    number: int
    text: str

    by_account = rdb.Index("account_id", "number")


class Page(rdb.Document, table="pages"):
    text: str


class Topic(rdb.Document, table="topics"):
    number: int
    text: str

    by_number = rdb.Index("number")


@rdb.mutation
def open_account(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Account]:
    return ctx.db.insert(Account(name=name, entry_count=0))


@rdb.mutation
def add(ctx: rdb.MutationCtx, account_id: rdb.Id[Account], text: str) -> int:
    """Read, change, insert: the mutation that most of the figures are about."""
    account = ctx.db.get(account_id)
    assert account is not None
    number = account.entry_count + 1
    ctx.db.patch(account_id, entry_count=number)
    ctx.db.insert(Entry(account_id=account_id, number=number, text=text))
    return number


@rdb.query
def newest(ctx: rdb.QueryCtx, account_id: rdb.Id[Account]) -> Entry | None:
    return ctx.db.query(Entry.by_account.eq(account_id)).order("desc").first()


@rdb.mutation
def write_page(ctx: rdb.MutationCtx, text: str, page_id: rdb.Id[Page] | None = None) -> rdb.Id[Page]:
    if page_id is None:
        return ctx.db.insert(Page(text=text))
    ctx.db.patch(page_id, text=text)
    return page_id


@rdb.query
def read_page(ctx: rdb.QueryCtx, page_id: rdb.Id[Page]) -> Page | None:
    return ctx.db.get(page_id)


@rdb.mutation
def write_topics(ctx: rdb.MutationCtx, first: int, count: int, text: str) -> None:
    for number in range(first, first + count):
        ctx.db.insert(Topic(number=number, text=text))


@rdb.query
def topic(ctx: rdb.QueryCtx, number: int) -> list[Topic]:
    """Reads one equality prefix."""
    return ctx.db.query(Topic.by_number.eq(number)).collect()


@rdb.query
def topics_between(ctx: rdb.QueryCtx, low: int, high: int) -> list[Topic]:
    """Reads one true range."""
    return ctx.db.query(Topic.by_number.gte(low).lt(high)).collect()
