"""What becomes of those who refer to a deleted document, in one run and beyond it?"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from inline_app import app_of

import reactivedb as rdb
from reactivedb.engine import usage
from reactivedb.errors import LimitExceededError, RequestError
from reactivedb.functions import ANONYMOUS

from .conftest import Face

FaceOf = Callable[..., Face]


class Channel(rdb.Document, table="channels"):
    name: str = ""


class Message(rdb.Document, table="messages"):
    channel_id: Annotated[rdb.Id[Channel], rdb.OnDelete("cascade")]
    answers: Annotated[rdb.Id[Message] | None, rdb.OnDelete("set_null")] = None
    text: str = ""
    updated_at: float = rdb.updated_at()

    by_channel = rdb.Index("channel_id")
    by_answers = rdb.Index("answers")


class Like(rdb.Document, table="likes"):
    message_id: Annotated[rdb.Id[Message], rdb.OnDelete("cascade")]

    by_message = rdb.Index("message_id")


class Invoice(rdb.Document, table="invoices"):
    channel_id: Annotated[rdb.Id[Channel], rdb.OnDelete("restrict")]

    by_channel = rdb.Index("channel_id")


def test_restrict_refuses_and_names_the_first_who_refers(face_of: FaceOf) -> None:
    face = face_of(Channel, Message, Invoice)
    channel = face.db.insert(Channel())
    face.db.insert(Message(channel_id=channel))
    invoice = face.db.insert(Invoice(channel_id=channel))
    face.db.insert(Invoice(channel_id=channel))
    with pytest.raises(RequestError) as caught:
        face.db.delete(channel)
    assert caught.value.code == "DeleteRestricted"
    assert caught.value.fields == {
        "id": channel,
        "table": "invoices",
        "field": "channelId",
        "referring_id": invoice,
    }
    assert face.db.get(channel) is not None
    assert face.db.query(Message).count() == 1
    for each in face.db.query(Invoice).collect():
        face.db.delete(each.id)
    face.db.delete(channel)
    assert face.db.query(Message).count() == 0


def test_set_null_empties_the_field_and_counts_as_a_write(face_of: FaceOf) -> None:
    face = face_of(Channel, Message)
    channel = face.db.insert(Channel())
    question = face.db.insert(Message(channel_id=channel))
    answer = face.db.insert(Message(channel_id=channel, answers=question))
    written_ms = face.transaction.now_ms
    face.commit()
    face.db.delete(question)
    found = face.db.get(answer)
    assert found is not None
    assert (found.answers, found.updated_at) == (None, written_ms + 1000)
    assert face.db.query(Message.by_answers.eq(None)).first() == found


def test_set_null_stores_null_in_a_nullable_field(face_of: FaceOf) -> None:
    users = rdb.Table("users")
    notes = rdb.Table(
        "notes",
        rdb.v.object({"user": rdb.v.union(rdb.v.id("users"), rdb.v.null()), "at": rdb.v.number()}),
        indexes={"by_user": ["user"]},
        rules={"user": rdb.OnDelete("set_null"), "at": rdb.UpdatedAt()},
    )
    face = face_of(users, notes)
    user = face.db.insert(users, {})
    note = face.db.insert(notes, {"user": user})
    face.db.delete(user)
    assert face.db.query(notes).collect() == [
        {"_id": note, "_creationTime": face.db.query(notes).collect()[0]["_creationTime"], "user": None}
        | {"at": face.transaction.now_ms}
    ]


def test_a_cascade_goes_through_several_tables_and_spares_the_others(face_of: FaceOf) -> None:
    face = face_of(Channel, Message, Like)
    kitchen, lobby = face.db.insert(Channel()), face.db.insert(Channel())
    for channel in (kitchen, kitchen, lobby):
        message = face.db.insert(Message(channel_id=channel))
        for _ in range(3):
            face.db.insert(Like(message_id=message))
    face.commit()
    face.db.delete(kitchen)
    assert [message.channel_id for message in face.db.query(Message)] == [lobby]
    assert face.db.query(Like).count() == 3


def test_a_cascade_sees_what_its_own_transaction_wrote(face_of: FaceOf) -> None:
    face = face_of(Channel, Message, Like)
    channel, other = face.db.insert(Channel()), face.db.insert(Channel())
    moved = face.db.insert(Message(channel_id=channel))
    face.commit()
    face.db.patch(moved, channel_id=other)
    face.db.insert(Message(channel_id=channel))
    face.db.delete(channel)
    assert [message.id for message in face.db.query(Message)] == [moved]


class Node(rdb.Document, table="nodes"):
    next_id: Annotated[rdb.Id[Node] | None, rdb.OnDelete("cascade")] = None

    by_next = rdb.Index("next_id")


def test_a_cycle_ends(face_of: FaceOf) -> None:
    face = face_of(Node)
    first = face.db.insert(Node())
    second = face.db.insert(Node(next_id=first))
    third = face.db.insert(Node(next_id=second))
    face.db.patch(first, next_id=third)
    loop = face.db.insert(Node())
    face.db.patch(loop, next_id=loop)
    face.commit()
    face.db.delete(second)
    assert [node.id for node in face.db.query(Node)] == [loop]
    face.db.delete(loop)
    assert face.db.query(Node).count() == 0


class Post(rdb.Document, table="posts"):
    channel_id: Annotated[rdb.Id[Channel], rdb.OnDelete("cascade")]
    quotes: Annotated[rdb.Id[Post] | None, rdb.OnDelete("restrict")] = None

    by_channel = rdb.Index("channel_id")
    by_quotes = rdb.Index("quotes")


def test_a_restrict_between_documents_that_all_go_restricts_nothing(face_of: FaceOf) -> None:
    face = face_of(Channel, Post)
    channel, other = face.db.insert(Channel()), face.db.insert(Channel())
    quoted = face.db.insert(Post(channel_id=channel))
    face.db.insert(Post(channel_id=channel, quotes=quoted))
    with pytest.raises(RequestError):
        face.db.delete(quoted)
    quoting = face.db.insert(Post(channel_id=other, quotes=quoted))
    with pytest.raises(RequestError) as caught:
        face.db.delete(channel)
    assert caught.value.fields["referring_id"] == quoting
    assert face.db.query(Post).count() == 3
    face.db.delete(quoting)
    face.db.delete(channel)
    assert face.db.query(Post).count() == 0


# Beyond one batch


@rdb.mutation
def fill(ctx: rdb.MutationCtx, messages: int, likes: int) -> rdb.Id[Channel]:
    channel = ctx.db.insert(Channel())
    for _ in range(messages):
        message = ctx.db.insert(Message(channel_id=channel))
        for _ in range(likes):
            ctx.db.insert(Like(message_id=message))
    return channel


@rdb.mutation
def fill_more(ctx: rdb.MutationCtx, channel: rdb.Id[Channel], messages: int) -> None:
    for _ in range(messages):
        ctx.db.insert(Message(channel_id=channel))


@rdb.mutation
def add(ctx: rdb.MutationCtx, channel: rdb.Id[Channel]) -> bool:
    if ctx.db.get(channel) is None:
        return False
    ctx.db.insert(Message(channel_id=channel))
    return True


@rdb.mutation
def remove(ctx: rdb.MutationCtx, id: rdb.Id[Any]) -> None:
    ctx.db.delete(id)


@rdb.mutation
def remove_and_fail(ctx: rdb.MutationCtx, id: rdb.Id[Any]) -> None:
    ctx.db.delete(id)
    raise rdb.ApplicationError("no")


@rdb.mutation
def remove_in_vain(ctx: rdb.MutationCtx, id: rdb.Id[Any]) -> bool:
    try:
        ctx.run_mutation(remove_and_fail, id)
    except rdb.ApplicationError:
        return ctx.db.get(id) is not None
    return False


@rdb.mutation
def cancel_everything(ctx: rdb.MutationCtx) -> int:
    jobs = ctx.db.system.query("_scheduled_functions").collect()
    for job in jobs:
        ctx.scheduler.cancel(job["_id"])
    return len(jobs)


@rdb.query
def counts(ctx: rdb.QueryCtx) -> list[int]:
    return [ctx.db.query(table).count() for table in (Channel, Message, Like)]


@rdb.query
def orphans(ctx: rdb.QueryCtx) -> int:
    return sum(ctx.db.get(message.channel_id) is None for message in ctx.db.query(Message))


def app(**limits: int) -> rdb.App:
    functions = (
        fill,
        fill_more,
        add,
        remove,
        remove_and_fail,
        remove_in_vain,
        cancel_everything,
        counts,
        orphans,
    )
    return app_of(Channel, Message, Like, *functions, limits=rdb.Limits(**limits))


def test_what_exceeds_a_batch_is_carried_on_until_nothing_is_left() -> None:
    with app(cascade_batch_max=7).open() as db:
        kept = db.mutation(fill, 2, 1)
        channel = db.mutation(fill, 20, 3)
        db.mutation(remove, channel)
        db.run_until_idle()
        assert db.query(counts) == [1, 2, 2]
        db.mutation(remove, kept)
        assert db.query(counts) == [0, 0, 0]


def test_the_deletion_and_the_first_batch_are_one_commit_and_the_rest_stays_visible() -> None:
    with app(cascade_batch_max=7).open(jobs=False) as db:
        channel = db.mutation(fill, 20, 0)
        db.mutation(remove, channel)
        assert db.query(counts) == [0, 13, 0]
        assert db.query(orphans) == 13


def test_a_deletion_that_is_carried_on_cannot_be_cancelled(tmp_path: Path) -> None:
    cascading = app(cascade_batch_max=7)
    with cascading.open(tmp_path / "data.db", jobs=False) as db:
        db.mutation(remove, db.mutation(fill, 20, 0))
        assert db.mutation(cancel_everything) == 1
    with cascading.open(tmp_path / "data.db") as db:
        db.run_until_idle()
        assert db.query(counts) == [0, 0, 0]


def test_a_rolled_back_deletion_leaves_no_job_behind() -> None:
    with app(cascade_batch_max=7).open() as db:
        channel = db.mutation(fill, 20, 0)
        with pytest.raises(rdb.ApplicationError):
            db.mutation(remove_and_fail, channel)
        assert db.mutation(remove_in_vain, channel)
        db.run_until_idle()
        assert db.query(counts) == [1, 20, 0]


def test_a_cascade_leaves_room_for_the_mutation_that_began_it() -> None:
    with app(documents_written_max=50, documents_read_max=200).open() as db:
        channel = db.mutation(fill, 49, 0)
        for _ in range(100):
            db.mutation(add, channel)
        db.mutation(remove, channel)
        db.run_until_idle()
        assert db.query(counts) == [0, 0, 0]


@rdb.mutation
def fill_posts(ctx: rdb.MutationCtx, count: int, channel: rdb.Id[Channel] | None = None) -> rdb.Id[Channel]:
    channel = channel or ctx.db.insert(Channel())
    for _ in range(count):
        ctx.db.insert(Post(channel_id=channel))
    return channel


@rdb.query
def posts(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Post).count()


@pytest.mark.parametrize("seed", range(5))
def test_a_cascade_goes_on_where_a_restart_met_it(tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    small_batches = app(cascade_batch_max=generator.randrange(1, 30))
    with small_batches.open(tmp_path / "data.db", jobs=False) as db:
        db.mutation(fill, 3, 1)
        channel = db.mutation(fill, 60, 2)
        db.mutation(remove, channel)
        assert db.query(orphans) > 30
    # Closing meets the jobs somewhere in the middle.
    for _ in range(generator.randrange(3)):
        small_batches.open(tmp_path / "data.db").close()
    with small_batches.open(tmp_path / "data.db") as db:
        db.run_until_idle()
        assert db.query(counts) == [1, 3, 3]


def test_no_child_stays_behind_when_clients_add_while_the_parent_is_deleted() -> None:
    with app(cascade_batch_max=5).open() as db:
        channel = db.mutation(fill, 30, 1)
        start = threading.Barrier(5)

        def client() -> None:
            start.wait()
            while db.mutation(add, channel):
                pass

        clients = [threading.Thread(target=client) for _ in range(4)]
        for each in clients:
            each.start()
        start.wait()
        db.mutation(remove, channel)
        for each in clients:
            each.join()
        db.run_until_idle()
        assert db.query(counts) == [0, 0, 0]


@pytest.mark.slow
def test_ten_thousand_children_go_in_batches_of_bounded_size(tmp_path: Path) -> None:
    with app().open(tmp_path / "data.db") as db:
        channel = db.mutation(fill, 0, 0)
        db.mutation(fill, 5, 0)
        for _ in range(5):
            db.mutation(fill_more, channel, 2_000)
        db.mutation(remove, channel)
        assert db.query(counts)[1] <= 9_005
        db.run_until_idle(timeout_s=60)
        assert db.query(counts) == [1, 5, 0]


def test_a_cascade_that_may_meet_a_restrict_happens_at_once_or_not_at_all() -> None:
    members = (Channel, Post, remove, fill_posts, posts)
    with app_of(*members, limits=rdb.Limits(documents_written_max=30)).open() as db:
        channel = db.mutation(fill_posts, 20)
        db.mutation(fill_posts, 20, channel)
        with pytest.raises(LimitExceededError):
            db.mutation(remove, channel)
        assert db.query(posts) == 40
        small = db.mutation(fill_posts, 20)
        db.mutation(remove, small)
        assert db.query(posts) == 40


class FreeMessage(rdb.Document, table="messages"):
    channel_id: rdb.Id[Channel]
    answers: rdb.Id[FreeMessage] | None = None
    text: str = ""


@rdb.mutation
def fill_freely(ctx: rdb.MutationCtx, messages: int) -> rdb.Id[Channel]:
    channel = ctx.db.insert(Channel())
    for _ in range(messages):
        ctx.db.insert(FreeMessage(channel_id=channel))
    return channel


def test_the_index_of_a_new_rule_is_complete_when_the_database_opens(tmp_path: Path) -> None:
    with app_of(Channel, FreeMessage, fill_freely).open(tmp_path / "data.db") as db:
        channel = db.mutation(fill_freely, 20)
    with app(documents_indexed_at_open_max=5).open(tmp_path / "data.db", jobs=False) as db:
        db.mutation(remove, channel)
        assert db.query(counts) == [0, 0, 0]


def test_a_child_that_another_writer_adds_meanwhile_makes_the_deletion_try_again(face_of: FaceOf) -> None:
    face = face_of(Channel, Message, Invoice)
    channel = face.db.insert(Channel())
    face.commit()
    for child in (Message(channel_id=channel), Invoice(channel_id=channel)):
        late = Face(face.engine, face.clock)
        face.db.insert(child)
        late.db.delete(channel)
        face.commit()
        with pytest.raises(rdb.ConflictError):
            late.commit()


def test_a_writer_that_looked_at_the_parent_cannot_add_a_child_to_it_afterwards(face_of: FaceOf) -> None:
    face = face_of(Channel, Message)
    channel = face.db.insert(Channel())
    face.commit()
    late = Face(face.engine, face.clock)
    assert late.db.get(channel) is not None
    late.db.insert(Message(channel_id=channel))
    face.db.delete(channel)
    face.commit()
    with pytest.raises(rdb.ConflictError):
        late.commit()


@rdb.mutation
def fill_many(ctx: rdb.MutationCtx, channels: int) -> None:
    for _ in range(channels):
        channel = ctx.db.insert(Channel())
        ctx.db.insert(Message(channel_id=channel))
        ctx.db.insert(Message(channel_id=channel))


@rdb.mutation
def remove_all(ctx: rdb.MutationCtx, fail_each: bool) -> None:
    for channel in ctx.db.query(Channel).collect():
        if fail_each:
            with contextlib.suppress(rdb.ApplicationError):
                ctx.run_mutation(remove_and_fail, channel.id)
        else:
            ctx.db.delete(channel.id)


@rdb.query
def jobs(ctx: rdb.QueryCtx) -> list[str]:
    return [job["name"] for job in ctx.db.system.query("_scheduled_functions")]


MANY = (Channel, Message, Like, fill, fill_many, remove_all, remove_and_fail, counts, jobs)


def test_many_deletions_of_one_run_leave_one_job(tmp_path: Path) -> None:
    app = app_of(*MANY, limits=rdb.Limits(documents_written_max=160))
    with app.open(tmp_path / "data.db", jobs=False) as db:
        for _ in range(3):
            db.mutation(fill_many, 30)
        db.mutation(remove_all, fail_each=False)
        assert db.query(counts)[0] == 0
        assert db.query(counts)[1] > 100
        assert db.query(jobs) == ["_system/cascade.js:resume"]
    with app.open(tmp_path / "data.db") as db:
        db.run_until_idle()
        assert db.query(counts) == [0, 0, 0]


def test_deletions_that_are_undone_leave_no_job() -> None:
    with app_of(*MANY, limits=rdb.Limits(cascade_batch_max=1)).open() as db:
        db.mutation(fill_many, 20)
        db.mutation(remove_all, fail_each=True)
        assert (db.query(counts), db.query(jobs)) == ([20, 40, 0], [])


def test_the_job_does_nothing_to_documents_that_exist_and_is_nobody_elses() -> None:
    async def call(path: str, ids: list[str], *, internal: bool) -> str | None:
        result = await db.runtime.call(
            "any", path, {"ids": [str.__str__(id) for id in ids]}, identity=ANONYMOUS, internal=internal
        )
        return None if result.error is None else result.error.message

    def called(path: str, ids: list[str], *, internal: bool) -> str | None:
        future = asyncio.run_coroutine_threadsafe(call(path, ids, internal=internal), db.runtime.loop)
        return future.result()

    with app().open() as db:
        channel = db.mutation(fill, 3, 1)
        assert called("_system/cascade:resume", [channel], internal=True) is None
        refusal = called("_system/cascade:resume", [channel], internal=False)
        assert refusal is not None
        assert "permission" in refusal
        assert db.query(counts) == [1, 3, 3]
        assert all(not known.path.startswith("_system/") for known in db.runtime.runner.registry)


def test_a_cascade_goes_on_where_every_run_is_over_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for allowance in ("_READ_S", "_RANGE_S", "_WRITE_S"):
        monkeypatch.setattr(usage, allowance, 0.0)
    path = tmp_path / "data.db"
    with app(cascade_batch_max=7).open(path, jobs=False) as db:
        db.mutation(remove, db.mutation(fill, 20, 0))
    hurried = app_of(Channel, Message, Like, counts, limits=rdb.Limits(user_time_s_max=1e-9))
    with hurried.open(path) as db:
        with pytest.raises(LimitExceededError):
            db.query(counts)
        db.run_until_idle()
    with app().open(path) as db:
        assert db.query(counts) == [0, 0, 0]


@pytest.mark.parametrize("batch_max", [0, 1])
def test_the_smallest_limits_still_let_a_cascade_end(batch_max: int) -> None:
    limits = rdb.Limits(cascade_batch_max=batch_max, array_length_max=3)
    with app_of(*MANY, fill_five, limits=limits).open() as db:
        db.mutation(fill_five)
        db.mutation(remove_all, fail_each=False)
        db.run_until_idle()
        assert db.query(counts) == [0, 0, 0]


@rdb.mutation
def fill_five(ctx: rdb.MutationCtx) -> None:
    for _ in range(5):
        channel = ctx.db.insert(Channel())
        for _ in range(3):
            ctx.db.insert(Like(message_id=ctx.db.insert(Message(channel_id=channel))))
