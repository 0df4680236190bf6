"""Does each limit hold where it says, and does reaching it leave nothing behind?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.testing import FakeClock
from reactivedb.values import encode, size_bytes

rows = rdb.Table("rows", indexes={"by_group": ["group"]})
ID_AND_TIME = {"_id": "x" * 32, "_creationTime": 1.0}


@rdb.mutation
def put(ctx: rdb.MutationCtx, fields: Any) -> rdb.Id[Any]:
    return ctx.db.insert(rows, fields)


@rdb.mutation
def put_many(ctx: rdb.MutationCtx, count: int, text: str = "") -> list[Any]:
    # What went before a limit was reached must go with it.
    ctx.scheduler.run_after(1000, nothing)
    return [ctx.db.insert(rows, {"group": "many", "text": text}) for _ in range(count)]


@rdb.mutation
def rewrite(ctx: rdb.MutationCtx, id: rdb.Id[Any], times: int) -> None:
    for number in range(times):
        ctx.db.patch(id, {"number": float(number)})


@rdb.mutation
def read_after_writing(ctx: rdb.MutationCtx, take: int) -> int:
    ctx.db.insert(rows, {"group": "left"})
    return len(ctx.db.query(rows.index("by_group").eq("many")).take(take))


@rdb.query
def get(ctx: rdb.QueryCtx, id: rdb.Id[Any]) -> Any:
    return ctx.db.get(id)


@rdb.query
def get_missing(ctx: rdb.QueryCtx, id: rdb.Id[Any], times: int) -> None:
    for _ in range(times):
        ctx.db.get(id)


@rdb.mutation
def read_ranges(ctx: rdb.MutationCtx, count: int) -> None:
    ctx.db.insert(rows, {"group": "left"})
    for number in range(count):
        ctx.db.query(rows.index("by_group").eq(f"group{number}")).first()


@rdb.mutation
def schedule(ctx: rdb.MutationCtx, count: int, text: str = "") -> None:
    ctx.db.insert(rows, {"group": "left"})
    for _ in range(count):
        ctx.scheduler.run_after(1000, nothing, text)


@rdb.mutation
def nothing(ctx: rdb.MutationCtx, text: str = "") -> None:
    pass


@rdb.mutation
def nest(ctx: rdb.MutationCtx, levels: int) -> None:
    ctx.db.insert(rows, {"group": "left"})
    if levels:
        ctx.run_mutation(nest, levels - 1)


@rdb.mutation
def echo_after_writing(ctx: rdb.MutationCtx, value: Any) -> Any:
    ctx.db.insert(rows, {"group": "left"})
    return value


@rdb.mutation
def repeated(ctx: rdb.MutationCtx, length: int) -> str:
    ctx.db.insert(rows, {"group": "left"})
    return "x" * length


@rdb.mutation
def listed(ctx: rdb.MutationCtx, length: int) -> list[str]:
    ctx.db.insert(rows, {"group": "left"})
    return ["x"] * length


@rdb.query
def long_text(ctx: rdb.QueryCtx, length: int) -> str:
    return "x" * length


@rdb.query
def chatty(ctx: rdb.QueryCtx, count: int, length: int) -> None:
    for _ in range(count):
        print("x" * length, sep="")


@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(rows).count() + ctx.db.system.query("_scheduled_functions").count()


FUNCTIONS = (
    *(put, put_many, rewrite, read_after_writing, get, get_missing, read_ranges, schedule, nothing, nest),
    *(echo_after_writing, repeated, listed, long_text, chatty, count),
)


def app(**limits: int) -> rdb.App:
    return app_of(rows, *FUNCTIONS, limits=rdb.Limits(**limits))


def nested(levels: int) -> Any:
    """A value of so many containers within each other."""
    value: Any = 1.0
    for _ in range(levels):
        value = [value]
    return value


def text_for(size: int, make: Callable[[str], Any], measure: Callable[[Any], int]) -> Any:
    """What `make` gives for the text with which it measures `size`."""
    made = make("x" * (size - measure(make(""))))
    assert measure(made) == size
    return made


def document_of(size: int) -> dict[str, Any]:
    return text_for(size, lambda text: {"text": text}, lambda made: size_bytes(ID_AND_TIME | made))


def stored_text_size(fields: dict[str, Any]) -> int:
    """The size of a document's JSON, which is what reading and writing count."""
    return len(encode({"_id": "x" * 32, "_creationTime": 1767225600000.0, **fields}))


def sized(size: int) -> dict[str, Any]:
    """The fields of the first document of a database, whose JSON then has that size."""
    return text_for(size, lambda text: {"text": text}, stored_text_size)


def args_of(size: int) -> dict[str, Any]:
    return text_for(size, lambda text: {"value": text}, size_bytes)


def prepare(db: rdb.Database) -> rdb.Id[Any]:
    """Ten documents to read."""
    return db.mutation(put_many, 10)[0]


def deleted_id() -> rdb.Id[Any]:
    with app().open() as other:
        return other.mutation(put, {})


Ask = Callable[[rdb.Database, int], object]


@dataclass(frozen=True)
class Case:
    limit: str
    maximum: int
    code: str
    ask: Ask
    # What can be asked for comes in such steps.
    step: int = 1


CASES = [
    Case("document_size_bytes_max", 200, "DocumentTooLarge", lambda db, n: db.mutation(put, document_of(n))),
    Case("document_depth_max", 5, "DocumentTooDeep", lambda db, n: db.mutation(put, {"a": nested(n - 1)})),
    # The object of the arguments is a level too.
    Case("value_depth_max", 6, "ValueTooDeep", lambda db, n: db.mutation(echo_after_writing, nested(n - 1))),
    Case("array_length_max", 7, "ArrayTooLong", lambda db, n: db.mutation(echo_after_writing, [1.0] * n)),
    Case("array_length_max", 7, "ArrayTooLong", lambda db, n: db.mutation(listed, n)),
    Case(
        "object_field_count_max",
        7,
        "TooManyFields",
        lambda db, n: db.mutation(echo_after_writing, {f"f{i}": 1.0 for i in range(n)}),
    ),
    Case(
        "field_name_length_max",
        20,
        "InvalidFieldName",
        lambda db, n: db.mutation(echo_after_writing, {"x" * n: 1.0}),
    ),
    Case("identifier_length_max", 20, "InvalidFieldName", lambda db, n: db.mutation(put, {"x" * n: 1.0})),
    Case(
        "args_size_bytes_max",
        300,
        "ArgumentsTooLarge",
        lambda db, n: db.mutation(echo_after_writing, **args_of(n)),
    ),
    Case("result_size_bytes_max", 60, "ResultTooLarge", lambda db, n: db.mutation(repeated, n - 2)),
    Case(
        "documents_read_max",
        8,
        "TooManyDocumentsRead",
        lambda db, n: prepare(db) and db.mutation(read_after_writing, n),
    ),
    Case(
        "documents_read_max",
        8,
        "TooManyDocumentsRead",
        lambda db, n: db.query(get_missing, deleted_id(), n),
    ),
    Case(
        "read_size_bytes_max",
        400,
        "TooManyBytesRead",
        lambda db, n: db.query(get, db.mutation(put, sized(n))),
    ),
    Case("ranges_read_max", 5, "TooManyReads", lambda db, n: db.mutation(read_ranges, n)),
    # The job of `put_many` is a document too.
    Case("documents_written_max", 6, "TooManyDocumentsWritten", lambda db, n: db.mutation(put_many, n - 1)),
    Case(
        "documents_written_max",
        6,
        "TooManyDocumentsWritten",
        lambda db, n: db.mutation(rewrite, db.mutation(put, {}), n),
    ),
    Case(
        "written_size_bytes_max",
        400,
        "TooManyBytesWritten",
        lambda db, n: db.mutation(put, sized(n)),
    ),
    Case("scheduled_max", 5, "TooManyFunctionsScheduled", lambda db, n: db.mutation(schedule, n)),
    Case(
        "scheduled_call_size_bytes_max",
        100,
        "ScheduledFunctionArgumentsTooLarge",
        lambda db, n: db.mutation(schedule, 1, text_for(n, lambda t: {"text": t}, size_bytes)["text"]),
    ),
    Case(
        "scheduled_args_size_bytes_max",
        1000,
        "ScheduledFunctionsArgumentsTooLarge",
        lambda db, n: db.mutation(schedule, 5, text_for(n // 5, lambda t: {"text": t}, size_bytes)["text"]),
        step=5,
    ),
    Case("nested_call_depth_max", 4, "NestedCallsTooDeep", lambda db, n: db.mutation(nest, n)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.limit}-{case.code}")
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_limit_holds_exactly_and_leaves_nothing_behind(case: Case, over: int) -> None:
    asked = case.maximum + over * case.step
    with app(**{case.limit: case.maximum}).open(clock=FakeClock(), jobs=False) as db:
        if over <= 0:
            case.ask(db, asked)
            return
        mutation = db.mutation
        succeeded: list[tuple[int, int]] = [(0, db.latest_ts)]

        def watched(function: Any, *args: Any, **kwargs: Any) -> Any:
            value = mutation(function, *args, **kwargs)
            succeeded.append((db.query(count), db.latest_ts))
            return value

        db.mutation = watched  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(rdb.LimitExceededError) as caught:
            case.ask(db, asked)
        error = caught.value
        assert (error.code, error.limit) == (case.code, case.limit)
        assert (error.maximum, error.asked) == (case.maximum, asked)
        assert str(case.maximum) in error.message
        assert str(asked) in error.message
        assert (db.query(count), db.latest_ts) == succeeded[-1]
        # Whoever ran into the limit can go on.
        assert mutation(nest, 0) is None


def test_the_result_of_a_query_is_bounded_where_it_leaves_the_process() -> None:
    async def run() -> None:
        async with app(result_size_bytes_max=60).open_async() as db:
            for length, fits in [(57, True), (58, True), (59, False)]:
                result = await db.runtime.call("query", "notes:longText", {"length": length})
                assert (result.error is None) is fits
                if result.error is not None:
                    assert result.error.message.startswith("ResultTooLarge")
            # In this process the object itself is handed over.
            assert len(await db.query(long_text, 1000)) == 1000

    asyncio.run(run())


def test_arguments_from_the_wire_have_the_same_limits() -> None:
    async def run() -> None:
        async with app(array_length_max=7, args_size_bytes_max=100).open_async() as db:
            for value, code in [([1] * 8, "ArrayTooLong"), ("x" * 100, "ArgumentsTooLarge"), ([1] * 7, "")]:
                result = await db.runtime.call("mutation", "notes:echoAfterWriting", {"value": value})
                assert (result.error.message.partition(":")[0] if result.error else "") == code
            assert await db.query(count) == 1

    asyncio.run(run())


def test_a_run_that_logs_too_much_says_so_once_and_goes_on() -> None:
    async def run() -> None:
        async with app(log_line_count_max=5, log_line_length_max=30).open_async() as db:
            for lines, kept in [(4, 4), (5, 5), (6, 6), (50, 6)]:
                result = await db.runtime.call("query", "notes:chatty", {"count": lines, "length": 1})
                assert result.error is None
                assert len(result.log_lines) == kept
            assert result.log_lines[-1] == "[WARN] log truncated: a run may log 5 lines"
            # The quotes around a text count.
            for length, cut in [(27, False), (28, False), (29, True)]:
                result = await db.runtime.call("query", "notes:chatty", {"count": 1, "length": length})
                assert result.log_lines[0].endswith("(truncated)") is cut

    asyncio.run(run())


def declared(kind: str, size: int) -> tuple[Any, ...]:
    match kind:
        case "table":
            return (rdb.Table("t" * size),)
        case "index":
            return (rdb.Table("t", indexes={"i" * size: ["x"]}),)
        case "field":
            return (rdb.Table("t", rdb.v.object({"f" * size: rdb.v.string()})),)
        case "indexes":
            return (rdb.Table("t", indexes={f"i{n}": ["x"] for n in range(size)}),)
        case "fields":
            return (rdb.Table("t", indexes={"i": [f"f{n}" for n in range(size)]}),)
        case _:
            raise AssertionError(kind)


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize(
    ("kind", "limit", "maximum", "code"),
    [
        ("table", "identifier_length_max", 10, "IdentifierTooLong"),
        ("index", "identifier_length_max", 10, "IdentifierTooLong"),
        ("field", "identifier_length_max", 10, "IdentifierTooLong"),
        ("indexes", "indexes_per_table_max", 3, "TooManyIndexes"),
        ("fields", "fields_per_index_max", 3, "TooManyIndexFields"),
    ],
)
def test_what_is_declared_has_limits_too(kind: str, limit: str, maximum: int, code: str, over: int) -> None:
    members = declared(kind, maximum + over)
    limits = rdb.Limits(**{limit: maximum})
    if over <= 0:
        app_of(*members, limits=limits)
        return
    with pytest.raises(rdb.LimitExceededError) as caught:
        app_of(*members, limits=limits)
    error = caught.value
    assert (error.code, error.limit, error.maximum, error.asked) == (code, limit, maximum, maximum + 1)


def test_a_limit_of_one_application_is_not_that_of_another() -> None:
    with app(array_length_max=20_000).open() as wide, app(array_length_max=3).open() as narrow:
        assert len(wide.mutation(echo_after_writing, [1.0] * 20_000)) == 20_000
        with pytest.raises(rdb.LimitExceededError):
            narrow.mutation(echo_after_writing, [1.0] * 4)
        wide.mutation(echo_after_writing, [1.0] * 4)


def test_more_jobs_than_a_run_may_read_are_taken_up_at_opening(tmp_path: Any) -> None:
    clock = FakeClock()
    path = tmp_path / "data.db"
    with app().open(path, clock=clock, jobs=False) as db:
        db.mutation(schedule, 30)
    with app(documents_read_max=10).open(path, clock=clock) as db:
        clock.advance(2000)
        db.run_until_idle()
        states = db.query(count)
        assert states == 31


@pytest.mark.parametrize(("count", "state"), [(4, "success"), (5, "success"), (6, "failed")])
def test_a_job_may_write_what_a_call_may(count: int, state: str) -> None:
    """Its own row, which says how it ended, is none of it."""
    clock = FakeClock()
    with app_of(rows, fill, later, states, limits=rdb.Limits(documents_written_max=5)).open(
        clock=clock
    ) as db:
        db.mutation(later, count)
        clock.advance(2)
        db.run_until_idle()
        assert db.query(states) == [state]


@rdb.mutation
def fill(ctx: rdb.MutationCtx, count: int) -> None:
    for _ in range(count):
        ctx.db.insert(rows, {})


@rdb.mutation
def later(ctx: rdb.MutationCtx, count: int) -> None:
    ctx.scheduler.run_after(1, fill, count)


@rdb.query
def states(ctx: rdb.QueryCtx) -> list[str]:
    return [job["state"]["kind"] for job in ctx.db.system.query("_scheduled_functions")]
