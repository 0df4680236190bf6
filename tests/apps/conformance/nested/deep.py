"""Is `nested/deep:greet` found, and is `nested/deep` its default export?"""

import reactivedb as rdb


@rdb.query
def greet(ctx: rdb.QueryCtx, name: str) -> str:
    return f"hello {name}"


@rdb.query
def default(ctx: rdb.QueryCtx) -> str:
    return "the default export"
