"""How are functions declared, found, called, nested, refused and logged?"""

from __future__ import annotations

import asyncio
import functools
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import anyio
import pydantic
import pytest
from inline_app import app_of, module_of

import reactivedb as rdb
from reactivedb.functions import ADMIN, ANONYMOUS, Registry, describe, log_lines
from reactivedb.storage import MemoryStorage
from reactivedb.testing import FakeClock


class Note(rdb.Document, table="notes"):
    text: str


class Other(rdb.Document, table="others"):
    text: str


# Declaring


async def coroutine(ctx: Any) -> None: ...


def plain(ctx: Any) -> None: ...


def generator(ctx: Any) -> Any:
    yield 1


def without_context() -> None: ...


@pytest.mark.parametrize(
    ("decorate", "handler", "code"),
    [
        (rdb.query, coroutine, "TransactionAsync"),
        (rdb.mutation, coroutine, "TransactionAsync"),
        (rdb.action, plain, "ActionNotAsync"),
        (rdb.query, generator, "TransactionGenerator"),
        (rdb.internal_mutation, generator, "TransactionGenerator"),
        (rdb.query, without_context, "NoContextParameter"),
    ],
)
def test_a_handler_of_the_wrong_shape_is_refused(decorate: Any, handler: Any, code: str) -> None:
    with pytest.raises(rdb.SchemaError) as caught:
        decorate(handler)
    assert caught.value.code == code


def takes_text(author: str) -> None: ...


def takes_writer(ctx: rdb.MutationCtx) -> None: ...


def takes_reader(ctx: rdb.QueryCtx) -> None: ...


class Named(TypedDict):
    name: str


def takes_fields(ctx: Named) -> None: ...


def takes_unknown(ctx: Any) -> None: ...


# As of a class that is imported for type checkers only.
takes_unknown.__annotations__["ctx"] = "TypeCheckersOnly"


@pytest.mark.parametrize(
    ("decorate", "handler", "refused"),
    [
        (rdb.query, takes_text, True),
        (rdb.query, takes_writer, True),
        (rdb.query, takes_fields, True),
        (rdb.mutation, takes_writer, False),
        (rdb.mutation, takes_reader, False),
        (rdb.query, takes_unknown, False),
        (rdb.query, plain, False),
    ],
)
def test_a_first_parameter_that_cannot_be_the_context_is_refused(
    decorate: Any, handler: Any, refused: bool
) -> None:
    registered: Any = decorate(handler)
    if not refused:
        assert app_of(registered)
        return
    with pytest.raises(rdb.SchemaError) as caught:
        app_of(registered)
    assert caught.value.code == "WrongContext"
    assert "expected `ctx: rdb.QueryCtx`" in caught.value.message


class Signed:
    """What a decorator hands on in the place of the context."""

    def __init__(self, ctx: rdb.QueryCtx) -> None:
        self.db = ctx.db
        self.author = "ada"


def signed(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def call(ctx: rdb.QueryCtx, *args: Any, **kwargs: Any) -> str:
        return function(Signed(ctx), *args, **kwargs)

    return call


def test_a_decorator_may_hand_on_a_context_of_its_own() -> None:
    @rdb.query
    @signed
    def greet(ctx: Signed, word: str) -> str:
        return f"{word}, {ctx.author}"

    with app_of(greet).open() as db:
        assert db.query(greet, word="hello") == "hello, ada"


def test_arguments_that_are_one_on_the_wire_are_refused_before_anything_runs() -> None:
    @rdb.query
    def twice(ctx: rdb.QueryCtx, a_b: int, aB: int) -> None: ...  # noqa: N803 - that is what is tested

    with pytest.raises(rdb.SchemaError) as caught:
        app_of(twice)
    assert caught.value.code == "AmbiguousWireName"


def test_a_registered_function_cannot_be_called_directly() -> None:
    with pytest.raises(rdb.ReactiveDBError) as caught:
        rdb.query(plain)()
    assert caught.value.code == "DirectCall"


@rdb.query
def list_recent(ctx: rdb.QueryCtx, page_size: int = 10) -> float:
    return float(page_size)


@rdb.internal_query
def hidden(ctx: rdb.QueryCtx) -> str:
    return "secret"


def test_a_path_has_one_canonical_spelling_and_python_is_understood() -> None:
    module = module_of(list_recent, name="pkg.deep_folder.my_notes")
    registry = Registry([module], root="pkg")
    assert [entry.path for entry in registry] == ["deepFolder/myNotes:listRecent"]
    for spelling in (
        "deepFolder/myNotes:listRecent",
        "deep_folder/my_notes:list_recent",
        "deepFolder/myNotes.js:listRecent",
        "deepFolder/myNotes:list_recent",
        "deep_folder/my_notes:listRecent",
        "deep_folder/myNotes:listRecent",
    ):
        assert registry.find(spelling, None, internal=False).reference is list_recent


@pytest.mark.parametrize("path", ["", ":", "a:b:c", "a b:c", "../a:b", "a:1 b", "a//b:c", "é:f"])
def test_a_path_outside_of_the_grammar_is_refused(path: str) -> None:
    registry = Registry([module_of(list_recent)], root="")
    with pytest.raises(rdb.RequestError):
        registry.find(path, None, internal=False)


def test_two_functions_of_one_path_are_refused() -> None:
    module = module_of(list_recent)
    module.listRecent = list_recent  # type: ignore[attr-defined]  # the other spelling of the same path
    with pytest.raises(rdb.SchemaError) as caught:
        Registry([module], root="")
    assert caught.value.code == "DuplicateFunction"


def test_an_internal_function_answers_exactly_like_a_missing_one() -> None:
    registry = app_of(list_recent, hidden).registry

    def refusal(name: str) -> str:
        with pytest.raises(rdb.FunctionNotFoundError) as caught:
            registry.find(f"notes:{name}", None, internal=False)
        return str(caught.value).replace(name, "NAME")

    assert refusal("hidden") == refusal("absent")
    assert registry.find("notes:hidden", None, internal=True).reference is hidden


def test_a_function_of_another_application_is_refused() -> None:
    with app_of(list_recent).open() as db, pytest.raises(rdb.SchemaError) as caught:
        db.query(hidden)
    assert caught.value.code == "UnknownFunction"


def test_a_function_called_as_another_kind_is_refused() -> None:
    with app_of(list_recent).open() as db, pytest.raises(rdb.RequestError) as caught:
        db.mutation(list_recent)  # type: ignore[arg-type]  # that is what is tested
    assert caught.value.code == "WrongKind"


# Calling


@pytest.fixture
def call() -> Callable[..., Any]:
    """Run a function by path as the wire does; gives the `RunResult`."""

    def run(*members: Any, path: str, args: Any, clock: FakeClock | None = None) -> Any:
        log_lines.install()
        runtime = app_of(*members).runtime(MemoryStorage(), clock=clock or FakeClock())
        definition = runtime.runner.registry.find(f"notes:{path}", None, internal=True)
        named = runtime.runner.parse(definition, args)
        run_kind = runtime.runner.query if definition.kind.value == "query" else runtime.runner.mutation
        return run_kind(definition, named, ANONYMOUS)

    return run


@pytest.mark.parametrize("args", [{"pageSize": 3.0}, {"page_size": 3.0}])
def test_arguments_are_understood_in_both_spellings(call: Callable[..., Any], args: Any) -> None:
    assert call(list_recent, path="listRecent", args=args).unwrap() == 3


@pytest.mark.parametrize("args", [{"pageSize": "x"}, {"pageSize": 1.5}, {"size": 1.0}])
def test_arguments_that_do_not_fit_are_refused_with_their_path(call: Callable[..., Any], args: Any) -> None:
    with pytest.raises(rdb.ValidationError) as caught:
        call(list_recent, path="listRecent", args=args)
    assert caught.value.code == "ArgumentValidationError"
    assert caught.value.path in (".pageSize", ".size")


def test_an_id_of_another_table_is_no_argument() -> None:
    @rdb.mutation
    def add(ctx: rdb.MutationCtx) -> rdb.Id[Note]:
        return ctx.db.insert(Note(text="x"))

    @rdb.query
    def read(ctx: rdb.QueryCtx, id: rdb.Id[Other]) -> str | None:
        found = ctx.db.get(id)
        return found.text if found else None

    with app_of(Note, Other, add, read).open() as db:
        id: Any = db.mutation(add)
        with pytest.raises(rdb.ValidationError) as caught:
            db.query(read, id)
    assert (caught.value.code, caught.value.path) == ("ArgumentValidationError", ".id")


def test_a_result_that_does_not_fit_its_annotation_undoes_the_mutation() -> None:
    @rdb.mutation
    def add(ctx: rdb.MutationCtx) -> str:
        ctx.db.insert(Note(text="x"))
        return 5  # type: ignore[return-value]  # that is what is tested

    @rdb.query
    def count(ctx: rdb.QueryCtx) -> int:
        return ctx.db.query(Note).count()

    with app_of(Note, add, count).open() as db:
        with pytest.raises(rdb.ValidationError) as caught:
            db.mutation(add)
        assert caught.value.code == "ReturnsValidationError"
        assert db.query(count) == 0


@pytest.mark.parametrize("wrong", ["mutation", "action"])
def test_a_query_can_only_run_queries(call: Callable[..., Any], wrong: str) -> None:
    @rdb.mutation
    def mutation(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Note(text="x"))

    @rdb.action
    async def action(ctx: rdb.ActionCtx) -> None: ...

    @rdb.query
    def outer(ctx: rdb.QueryCtx) -> None:
        ctx.run_query({"mutation": mutation, "action": action}[wrong])  # type: ignore[arg-type]

    error = call(Note, mutation, action, outer, path="outer", args={}).error
    assert isinstance(error, rdb.RequestError)
    assert error.code == "WrongKind"


def test_a_nested_mutation_that_raises_undoes_its_own_writes_alone(call: Callable[..., Any]) -> None:
    @rdb.internal_mutation
    def inner(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Note(text="inner"))
        ctx.scheduler.run_after(0, inner)
        raise ValueError("no")

    @rdb.internal_query
    def texts(ctx: rdb.QueryCtx) -> list[str]:
        return [note.text for note in ctx.db.query(Note)]

    @rdb.mutation
    def outer(ctx: rdb.MutationCtx) -> list[str]:
        ctx.db.insert(Note(text="before"))
        with pytest.raises(ValueError, match="no"):
            ctx.run_mutation(inner)
        ctx.db.insert(Note(text="after"))
        return ctx.run_query(texts)

    assert call(Note, inner, texts, outer, path="outer", args={}).unwrap() == ["before", "after"]


def test_calls_that_nest_without_end_are_stopped(call: Callable[..., Any]) -> None:
    @rdb.query
    def again(ctx: rdb.QueryCtx) -> None:
        ctx.run_query(again)

    assert call(again, path="again", args={}).error.code == "NestedCallsTooDeep"


# What the caller is told


@dataclass
class Secret:
    text: str = "password"


@pytest.mark.parametrize(
    ("error", "message", "data"),
    [
        (rdb.ApplicationError({"code": "No"}), 'Uncaught ConvexError: {"code":"No"}', b'{"code":"No"}'),
        (rdb.ApplicationError("no"), "Uncaught ConvexError: no", b'"no"'),
        (rdb.ValidationError("bad", code="Bad"), "Bad: bad", None),
        (rdb.FunctionNotFoundError("Could not find it"), "Could not find it", None),
        (ValueError("password"), "[Request ID: 0] Server Error", None),
        (rdb.SchemaError("password"), "[Request ID: 0] Server Error", None),
        (rdb.StorageError("password"), "[Request ID: 0] Server Error", None),
        (rdb.ApplicationError(Secret()), "[Request ID: 0] Server Error", None),
        (rdb.ApplicationError({"left": 2**60}), "[Request ID: 0] Server Error", None),
    ],
)
def test_in_production_only_errors_meant_for_the_caller_are_told(
    error: Exception, message: str, data: bytes | None
) -> None:
    told = describe(error, request_id="0", production=True)
    assert (told.message, told.data) == (message, data)


class Refusal(rdb.Model):
    delay: float


def test_a_model_as_data_of_an_error_is_told_its_way_out() -> None:
    told = describe(rdb.ApplicationError({"no": Refusal(delay=1)}), request_id="0", production=False)
    assert "got `Refusal` - pass what its `model_dump()` gives" in told.message


def test_what_a_models_constructor_refused_is_told_in_ascii() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Refusal(delay="\ud800")  # type: ignore[arg-type]
    told = describe(caught.value, request_id="0", production=True)
    assert told.message.isascii()


def test_in_development_an_unexpected_error_says_where() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        told = describe(error, request_id="0", production=False)
    assert "Uncaught ValueError: why" in told.message
    assert "test_calls.py" in told.message


# Logging and determinism


def test_prints_and_logging_become_the_lines_of_their_run(call: Callable[..., Any]) -> None:
    @rdb.query
    def talk(ctx: rdb.QueryCtx) -> None:
        print("hello", 1, [2])
        logging.getLogger("app").warning("careful %s", "now")
        logging.getLogger("app").error("bad")

    assert call(talk, path="talk", args={}).log_lines == [
        "[LOG] 'hello' 1 [2]",
        "[WARN] careful now",
        "[ERROR] bad",
    ]


def test_what_is_printed_is_seen_where_nobody_shows_the_runs(capfd: pytest.CaptureFixture[str]) -> None:
    @rdb.query
    def look(ctx: rdb.QueryCtx) -> None:
        print("looking", 1)

    @rdb.mutation
    def write(ctx: rdb.MutationCtx) -> None:
        print("writing", 2, sep="-")

    @rdb.action
    async def act(ctx: rdb.ActionCtx) -> None:
        print("acting", 3)
        await ctx.run_query(look)

    with app_of(look, write, act).open() as db:
        db.query(look)
        db.mutation(write)
        db.action(act)
        assert capfd.readouterr().out == "looking 1\nwriting-2\nacting 3\nlooking 1\n"
        db.runtime.report.on_run = lambda _: None
        db.query(look)
        assert capfd.readouterr().out == ""


# What the interpreter writes of a logger without handlers, and of one with its own, with no database open.
LOGGING = """
import logging, sys
import reactivedb as rdb

rdb.App().open().close()
own = logging.getLogger("own")
own.addHandler(logging.StreamHandler(sys.stdout))
for logger in own, logging.getLogger("other"):
    logger.setLevel("INFO")
    logger.info("%s: for information", logger.name)
    logger.warning("%s: a warning", logger.name)
"""


def test_what_a_program_logs_is_written_as_if_no_database_were_open() -> None:
    shown = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True)
    assert shown.stdout == "own: for information\nown: a warning\n"
    assert shown.stderr == "other: a warning\n"


def test_log_lines_are_bounded_in_number_and_length(call: Callable[..., Any]) -> None:
    @rdb.query
    def talk(ctx: rdb.QueryCtx) -> None:
        print("x" * 100_000)
        for number in range(1000):
            print(number)

    lines = call(talk, path="talk", args={}).log_lines
    limits = rdb.Limits()
    assert len(lines) == limits.log_line_count_max + 1
    assert len(lines[0]) < limits.log_line_length_max + 100
    assert "truncated" in lines[-1]


def test_a_failed_run_keeps_its_lines(call: Callable[..., Any]) -> None:
    @rdb.mutation
    def fail(ctx: rdb.MutationCtx) -> None:
        print("before")
        raise ValueError("no")

    result = call(fail, path="fail", args={})
    assert isinstance(result.error, ValueError)
    assert result.log_lines == ["[LOG] 'before'"]


def test_time_stands_still_within_a_run(call: Callable[..., Any]) -> None:
    clock = FakeClock()

    @rdb.query
    def twice(ctx: rdb.QueryCtx) -> bool:
        before = ctx.now_ms
        clock.advance(5)
        return before == ctx.now_ms

    assert call(twice, path="twice", args={}, clock=clock).unwrap() is True


def test_an_administrator_reaches_internal_functions_by_path() -> None:
    app = app_of(list_recent, hidden)
    assert app.registry.find("notes:hidden", None, internal=ADMIN.is_admin)


# Side effects


def test_a_file_opened_in_a_transaction_is_a_clear_error(call: Callable[..., Any], tmp_path: Any) -> None:
    @rdb.query
    def peek(ctx: rdb.QueryCtx) -> None:
        (tmp_path / "x.txt").write_text("side effect")

    assert call(peek, path="peek", args={}).error.code == "SideEffectInTransaction"


# What an action and the process are kept from


def test_an_action_calls_each_function_as_what_it_is() -> None:
    @rdb.mutation
    def add(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Note(text="written"))

    @rdb.query
    def count(ctx: rdb.QueryCtx) -> int:
        return ctx.db.query(Note).count()

    @rdb.action
    async def confuse(ctx: rdb.ActionCtx) -> list[str]:
        codes: list[str] = []
        wrong: list[tuple[Any, Any]] = [
            (ctx.run_query, add),
            (ctx.run_mutation, count),
            (ctx.run_action, add),
        ]
        for run, function in wrong:
            with pytest.raises(rdb.ValidationError) as caught:
                await run(function)
            codes.append(caught.value.code)
        return codes

    async def main() -> None:
        async with app_of(Note, add, count, confuse).open_async() as db:
            assert await db.action(confuse) == ["WrongKind"] * 3
            assert await db.query(count) == 0

    anyio.run(main)


def test_a_function_that_ends_the_process_only_fails() -> None:
    @rdb.mutation
    def leave(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(Note(text="written"))
        sys.exit(3)

    @rdb.query
    def count(ctx: rdb.QueryCtx) -> int:
        return ctx.db.query(Note).count()

    @rdb.query
    def look(ctx: rdb.QueryCtx) -> None:
        raise SystemExit

    @rdb.action
    async def act(ctx: rdb.ActionCtx) -> None:
        sys.exit("done")

    async def main() -> None:
        async with app_of(Note, leave, count, look, act).open_async() as db:
            for call in (db.mutation(leave), db.query(look), db.action(act)):
                with pytest.raises(SystemExit):
                    await call
            for kind, name in (("mutation", "leave"), ("query", "look"), ("action", "act")):
                called = await db.runtime.call(kind, f"notes:{name}", {})
                assert called.error is not None
                assert "Uncaught ExitInFunction: a function cannot end the process" in called.error.message
            with pytest.raises(SystemExit):
                async with db.subscribe(look) as results:
                    await anext(aiter(results))
            assert await db.query(count) == 0

    anyio.run(main)


def test_an_action_that_awaits_what_was_cancelled_fails() -> None:
    @rdb.action
    async def act(ctx: rdb.ActionCtx) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async def main() -> None:
        async with app_of(act).open_async() as db:
            called = await db.runtime.call("action", "notes:act", {})
            assert called.error is not None
            assert (
                "Uncaught AwaitedCancelled: an action awaited what had been cancelled" in called.error.message
            )

    anyio.run(main)


def test_the_traceback_of_an_endless_recursion_is_told_in_short() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as caught:
        deeper()
    lines = describe(caught.value, request_id="r", production=False).message.splitlines()
    assert len(lines) == 23
    assert lines[1].startswith("Uncaught RecursionError: ")
    assert lines[12].startswith("    ... ")


# What people write first


def reads(write: Callable[[Any], object]) -> str:
    """What a query is told that does what only others may, or asks for what is not there."""

    @rdb.query
    def attempt(ctx: rdb.QueryCtx) -> None:
        write(ctx)

    with app_of(Note, attempt).open() as db, pytest.raises(Exception) as caught:  # noqa: PT011
        db.query(attempt)
    return str(caught.value)


BEYOND_A_QUERY: list[tuple[Callable[[Any], object], str]] = [
    (lambda ctx: ctx.db.insert(Note(text="a")), "`ctx.db.insert` writes, and a query only reads"),
    (lambda ctx: ctx.run_mutation(1), "`QueryCtx` has no `run_mutation`, because a query only reads"),
    (lambda ctx: ctx.run_action(1), "let a mutation schedule it"),
    (lambda ctx: ctx.db.nothing, "`ctx.db` has no `nothing`"),
    (
        lambda _: cast(Any, Note).by_txt,
        "`Note` has no `by_txt` - its indexes are `by_creation_time`, `by_id`",
    ),
    (lambda ctx: ctx.db.get(None), "expected a document id, got null"),
    (lambda ctx: ctx.db.get(Note(text="a")), "expected a document id, got an object of type `Note`"),
]


@pytest.mark.parametrize(("write", "text"), BEYOND_A_QUERY)
def test_what_a_query_cannot_do_is_said_with_the_way_out(write: Any, text: str) -> None:
    assert text in reads(write)


@pytest.mark.parametrize("document", [{"text": "a"}, "notes", Note, None])
def test_what_is_no_document_is_not_inserted(document: Any) -> None:
    @rdb.mutation
    def add(ctx: rdb.MutationCtx) -> None:
        ctx.db.insert(document)

    with app_of(Note, add).open() as db, pytest.raises(rdb.SchemaError) as caught:
        db.mutation(add)
    assert caught.value.code == "NotATable"
    assert f"got `{document!r}`" in caught.value.message


def test_a_query_that_is_returned_unread_is_told_to_become_a_list() -> None:
    @rdb.query
    def unread(ctx: rdb.QueryCtx) -> Any:
        return ctx.db.query(Note)

    @rdb.action
    async def unawaited(ctx: rdb.ActionCtx) -> Any:
        return asyncio.get_running_loop().create_future()

    with app_of(Note, unread, unawaited).open() as db:
        with pytest.raises(rdb.ValidationError, match="turn it into a list"):
            db.query(unread)
        with pytest.raises(rdb.ValidationError, match="put `await` before"):
            db.action(unawaited)
