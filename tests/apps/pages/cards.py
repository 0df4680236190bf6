"""What does an application with long lists do? Pages over an index, a filter, a merge."""

import reactivedb as rdb


class Card(rdb.Document, table="cards"):
    board: str
    rank: float

    by_rank = rdb.Index("board", "rank")
    by_any_rank = rdb.Index("rank")


@rdb.mutation
def add(ctx: rdb.MutationCtx, board: str, ranks: list[float]) -> list[rdb.Id[Card]]:
    return [ctx.db.insert(Card(board=board, rank=rank)) for rank in ranks]


@rdb.mutation
def move(ctx: rdb.MutationCtx, id: rdb.Id[Card], rank: float) -> None:
    ctx.db.patch(id, rank=rank)


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Card]) -> None:
    ctx.db.delete(id)


@rdb.query
def everything(ctx: rdb.QueryCtx, board: str) -> list[Card]:
    return ctx.db.query(Card.by_rank.eq(board)).collect()


@rdb.query
def page_of(ctx: rdb.QueryCtx, options: rdb.PaginationOptions, board: str) -> rdb.PaginationResult[Card]:
    return ctx.db.query(Card.by_rank.eq(board)).paginate(options)


@rdb.query
def page_of_lit(ctx: rdb.QueryCtx, options: rdb.PaginationOptions, board: str) -> rdb.PaginationResult[Card]:
    """Stretches of the list are left out, so that pages end where no card is shown."""
    cards = ctx.db.query(Card.by_rank.eq(board)).filter(lambda card: card.rank % 8 < 6)
    return cards.paginate(options)


@rdb.query
def page_of_many(
    ctx: rdb.QueryCtx, options: rdb.PaginationOptions, boards: list[str]
) -> rdb.PaginationResult[Card]:
    """The cards of several boards, the highest rank first."""
    return ctx.db.merge(*(Card.by_rank.eq(board) for board in boards)).order("desc").paginate(options)


class Order(rdb.Document, table="orders"):
    """How a board is shown, so that a test can change the query under a client's cursors."""

    board: str
    direction: str

    by_board = rdb.Index("board")


@rdb.mutation
def turn(ctx: rdb.MutationCtx, board: str, direction: str) -> None:
    known = ctx.db.query(Order.by_board.eq(board)).unique()
    if known is None:
        ctx.db.insert(Order(board=board, direction=direction))
    else:
        ctx.db.patch(known.id, direction=direction)


@rdb.query
def page_in_order(
    ctx: rdb.QueryCtx, options: rdb.PaginationOptions, board: str
) -> rdb.PaginationResult[Card]:
    known = ctx.db.query(Order.by_board.eq(board)).unique()
    cards = ctx.db.query(Card.by_rank.eq(board))
    return cards.order("desc" if known and known.direction == "desc" else "asc").paginate(options)
