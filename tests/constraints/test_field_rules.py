"""Do transitions, the time of the last write and default factories hold on every write?"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.errors import RequestError, SchemaError
from reactivedb.functions import ANONYMOUS
from reactivedb.schema import Table, table_definition, v
from reactivedb.testing import FakeClock

from .conftest import Face

FaceOf = Callable[..., Face]


class Task(rdb.Document, table="tasks"):
    status: Annotated[
        Literal["open", "running", "done", "failed"],
        rdb.Transitions({"open": ["running"], "running": ["done", "failed"], "failed": ["open"]}),
    ] = "open"
    review: Annotated[Literal["good", "bad"] | None, rdb.Transitions({None: ["bad"], "bad": ["good"]})] = None
    title: Annotated[str, pydantic.Field(min_length=1)] = "t"
    updated_at: float = rdb.updated_at()


def test_a_move_that_is_allowed_passes_and_another_is_refused(face_of: FaceOf) -> None:
    face = face_of(Task)
    task = face.db.insert(Task())
    face.db.patch(task, status="running")
    face.db.patch(task, status="running", title="same state")
    with pytest.raises(RequestError) as caught:
        face.db.patch(task, status="open")
    assert caught.value.code == "TransitionNotAllowed"
    assert {name: caught.value.fields[name] for name in ("field", "id", "before", "after", "allowed")} == {
        "field": "status",
        "id": task,
        "before": "running",
        "after": "open",
        "allowed": ["done", "failed"],
    }
    with pytest.raises(RequestError, match="may go from `'running'` to `'done'` or `'failed'`, got `'open'`"):
        face.db.replace(task, Task(status="open"))
    face.db.replace(task, Task(status="done"))
    with pytest.raises(RequestError, match="the state is final"):
        face.db.patch(task, status="running")


def test_a_document_is_inserted_in_any_state(face_of: FaceOf) -> None:
    face = face_of(Task)
    face.db.insert(Task(status="done", review="good"))


def test_an_absent_state_is_left_and_entered_as_declared(face_of: FaceOf) -> None:
    face = face_of(Task)
    task = face.db.insert(Task())
    with pytest.raises(RequestError):
        face.db.patch(task, review="good")
    face.db.patch(task, review="bad")
    with pytest.raises(RequestError) as caught:
        face.db.patch(task, review=None)
    assert "may go from `'bad'` to `'good'`, got absent" in caught.value.message


class Phase(enum.Enum):
    DRAFT = "draft"
    LIVE = "live"


class Page(rdb.Document, table="pages"):
    phase: Annotated[Phase, rdb.Transitions({Phase.DRAFT: [Phase.LIVE]})]
    level: Annotated[Literal[1, 2, 3] | None, rdb.Transitions({1: [2], 2: [3]})]


def test_states_may_be_members_of_an_enum_numbers_and_null(face_of: FaceOf) -> None:
    face = face_of(Page)
    page = face.db.insert(Page(phase=Phase.DRAFT, level=None))
    face.db.patch(page, phase=Phase.LIVE, level=2)
    for change in ({"phase": Phase.DRAFT}, {"level": 1}, {"level": None}):
        with pytest.raises(RequestError) as caught:
            face.db.patch(page, change)
        assert caught.value.code == "TransitionNotAllowed"


def test_every_write_sets_the_time_and_what_the_caller_says_is_overwritten(face_of: FaceOf) -> None:
    face = face_of(Task)
    assert Task().updated_at == 0
    task = face.db.insert(Task(updated_at=5))
    made_ms = face.transaction.now_ms
    assert stored(face, task).updated_at == made_ms
    face.commit()
    for write in (
        lambda: face.db.patch(task, title="new"),
        lambda: face.db.patch(task, updated_at=7),
        lambda: face.db.replace(task, Task()),
    ):
        write()
        assert stored(face, task).updated_at == face.transaction.now_ms > made_ms
        face.commit()


def stored(face: Face, task: rdb.Id[Task]) -> Task:
    found = face.db.get(task)
    assert found is not None
    return found


def test_a_document_older_than_the_field_reads_zero(face_of: FaceOf) -> None:
    definition = table_definition(Task)
    assert (
        definition.load({"_id": "x", "_creationTime": 1.0, "status": "open", "title": "t"}, None).updated_at
        == 0
    )
    definition.check({"status": "open", "title": "t"})


def test_constraints_of_pydantic_hold_on_every_kind_of_write(face_of: FaceOf) -> None:
    class Account(rdb.Document, table="accounts"):
        name: Annotated[str, pydantic.Field(min_length=1, pattern="^[a-z]+$")]
        balance: float = pydantic.Field(default=0, ge=0)
        limit: float = 10

        by_name = rdb.Index("name", unique=True)

        @pydantic.model_validator(mode="after")
        def within(self) -> Account:
            if self.balance > self.limit:
                raise ValueError("more than the limit")
            return self

    face = face_of(Account)
    account = face.db.insert(Account(name="ada"))
    broken: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "A"},
        {"balance": -1},
        {"balance": 11},
        {"limit": -1},
    ]
    for change in broken:
        fields = {"name": "ada", **change}
        for write in (
            lambda f: face.db.insert(Account(**f)),
            lambda f: face.db.insert(rdb.Table("accounts"), {**f, "name": f["name"] or ""}),
            lambda f: face.db.replace(account, Account(**f)),
            lambda f: face.db.replace(account, f),
            lambda f: face.db.patch(account, **f),
            lambda f: face.db.upsert(Account.by_name.eq("ada"), f),
            lambda f: face.db.upsert(
                Account.by_name.eq("bob"), {**f, "name": "bob"} if f["name"] == "ada" else f
            ),
        ):
            with pytest.raises((pydantic.ValidationError, rdb.ValidationError)):
                write(fields)
    assert face.db.query(Account).collect() == [face.db.get(account)]


def test_constraints_hold_for_what_was_changed_after_a_document_was_made(face_of: FaceOf) -> None:
    class Bag(rdb.Document, table="bags"):
        label: str
        items: Annotated[list[str], pydantic.Field(max_length=2)]

        @pydantic.field_validator("label")
        @classmethod
        def marked(cls, label: str) -> str:
            return f"*{label}"

    face = face_of(Bag)
    bag = Bag(label="a", items=["x", "y"])
    id = face.db.insert(bag)
    bag.items.append("z")
    around = Bag.model_construct(label="a", items=["x", "y", "z"])
    for write in (
        lambda: face.db.insert(bag),
        lambda: face.db.insert(around),
        lambda: face.db.replace(id, around),
    ):
        with pytest.raises(rdb.ValidationError) as caught:
            write()
        assert caught.value.path == ".items"
    (kept,) = face.db.query(Bag).collect()
    assert (kept.label, kept.items) == ("*a", ["x", "y"])


# Default factories


class Ticket(rdb.Document, table="tickets"):
    opened_at: float = pydantic.Field(default_factory=rdb.now_ms)
    code: int = pydantic.Field(default_factory=lambda: rdb.random().randrange(10**9))
    tags: list[str] = pydantic.Field(default_factory=list)


@rdb.mutation
def open_ticket(ctx: rdb.MutationCtx) -> list[float]:
    ticket = Ticket()
    ctx.db.insert(ticket)
    assert ticket.opened_at == ctx.now_ms == rdb.now_ms()
    return [ticket.code, ticket.opened_at]


@rdb.query
def recent_count(ctx: rdb.QueryCtx) -> int:
    recent = ctx.db.query(Ticket).filter(lambda ticket: ticket.opened_at > rdb.now_ms() - 1000)
    return len(recent.collect())


@rdb.action
async def outside(ctx: rdb.ActionCtx) -> float:
    return Ticket().opened_at


def test_a_default_factory_has_the_clock_and_the_random_numbers_of_its_transaction() -> None:
    clock = FakeClock()
    with app_of(Ticket, open_ticket, outside).open(clock=clock) as db:
        db.runtime.engine.entropy = lambda: b"one seed........"
        first = db.mutation(open_ticket)
        clock.advance(1)
        db.runtime.engine.entropy = lambda: b"another seed...."
        other = db.mutation(open_ticket)
        assert other[0] != first[0]
        assert other[1] == first[1] + 1000
        assert abs(db.action(outside) - time.time() * 1000) < 60_000


@rdb.mutation
def draft(ctx: rdb.MutationCtx) -> int:
    return Ticket().code


def test_the_same_seed_makes_the_same_document() -> None:
    with app_of(Ticket, draft).open() as db:
        db.runtime.engine.entropy = lambda: b"one seed........"
        assert db.mutation(draft) == db.mutation(draft)


def test_a_filter_that_looks_at_the_clock_is_not_asked_outside_of_its_run() -> None:
    with app_of(Ticket, open_ticket, recent_count).open() as db:
        db.mutation(open_ticket)
        runner = db.runtime.runner
        run = runner.query(runner.registry.of(recent_count), {}, ANONYMOUS)
        assert run.read_set is not None
        assert [read.predicates for read in run.read_set.ranges] == [None]


# What cannot hold is refused when it is declared.

CHANNELS = Table("channels")


def broken(field: Any, *, default: Any = ..., index: rdb.Index | None = None) -> type[rdb.Document]:
    body: dict[str, Any] = {"__annotations__": {"x": field}, "__module__": __name__}
    if default is not ...:
        body["x"] = default
    if index is not None:
        body["by_x"] = index
    return type("Broken", (rdb.Document,), body, table="broken")


class Room(rdb.Document, table="rooms"):
    pass


ROOM = rdb.Id[Room]


@pytest.mark.parametrize(
    ("code", "declare"),
    [
        ("ReferenceWithoutIndex", lambda: broken(Annotated[ROOM, rdb.OnDelete("cascade")])),
        (
            "ReferenceWithoutIndex",
            lambda: broken(Annotated[ROOM, rdb.OnDelete("cascade")], index=rdb.Index("x", staged=True)),
        ),
        (
            "SetNullNotNullable",
            lambda: broken(Annotated[ROOM, rdb.OnDelete("set_null")], index=rdb.Index("x")),
        ),
        (
            "SetNullInUniqueIndex",
            lambda: broken(
                Annotated[ROOM | None, rdb.OnDelete("set_null")], index=rdb.Index("x", unique=True)
            ),
        ),
        ("MisplacedRule", lambda: broken(Annotated[str, rdb.OnDelete("cascade")], index=rdb.Index("x"))),
        ("MisplacedRule", lambda: broken(Annotated[rdb.Id[Any], rdb.OnDelete("cascade")])),
        ("MisplacedRule", lambda: broken(list[Annotated[ROOM, rdb.OnDelete("cascade")]])),
        ("MisplacedRule", lambda: broken(Annotated[ROOM, rdb.OnDelete("cascade")] | None, default=None)),
        ("MisplacedRule", lambda: broken(Annotated[str, rdb.Transitions({"a": ["b"]})])),
        ("MisplacedRule", lambda: broken(Annotated[int, rdb.UpdatedAt()], default=0)),
        ("MisplacedRule", lambda: broken(Annotated[ROOM, rdb.OnDelete], index=rdb.Index("x"))),
        ("MisplacedRule", lambda: broken(Annotated[Literal["a"], rdb.Transitions])),
        (
            "MisplacedRule",
            lambda: broken(
                Annotated[ROOM, rdb.OnDelete("cascade"), rdb.OnDelete("restrict")], index=rdb.Index("x")
            ),
        ),
        ("InvalidTransitions", lambda: rdb.Transitions(["a", "b"])),  # pyright: ignore[reportArgumentType]
        ("MisplacedRule", lambda: broken(Annotated[ROOM, rdb.OnDelete("drop")], index=rdb.Index("x"))),  # pyright: ignore[reportArgumentType]
        ("UnknownState", lambda: broken(Annotated[Literal["a", "b"], rdb.Transitions({"a": ["c"]})])),
        ("UnknownState", lambda: broken(Annotated[Literal["a", "b"], rdb.Transitions({"c": ["a"]})])),
        ("UnknownState", lambda: broken(Annotated[Literal["a", "b"], rdb.Transitions({None: ["a"]})])),
        (
            "UnsupportedDefaultFactory",
            lambda: broken(str, default=pydantic.Field(default_factory=lambda data: str(data))),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        ),
        ("MisplacedRule", lambda: Table("dicts", rules={"x": rdb.OnDelete("cascade")}).definition),
        (
            "MisplacedRule",
            lambda: (
                Table(
                    "dicts", v.object({"x": v.id("rooms")}), rules={"y": rdb.OnDelete("restrict")}
                ).definition
            ),
        ),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_with_its_code(code: str, declare: Callable[[], Any]) -> None:
    with pytest.raises(SchemaError) as caught:
        app_of(declare())
    assert caught.value.code == code


def test_a_rule_for_a_table_that_the_application_lacks_is_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        app_of(broken(Annotated[ROOM, rdb.OnDelete("cascade")], index=rdb.Index("x")))
    assert caught.value.code == "UnknownTable"


def test_a_rule_has_no_place_in_a_model_or_a_parameter() -> None:
    class Part(rdb.Model):
        status: Annotated[Literal["a", "b"], rdb.Transitions({"a": ["b"]})]

    with pytest.raises(SchemaError) as caught:
        table_definition(broken(Part))
    assert caught.value.code == "MisplacedRule"

    @rdb.mutation
    def change(ctx: rdb.MutationCtx, status: Annotated[Literal["a"], rdb.Transitions({"a": []})]) -> None: ...

    with pytest.raises(SchemaError) as caught:
        app_of(change)
    assert caught.value.code == "MisplacedRule"
