"""The acceptance example of merged ranges: messages of all my channels, newest first."""

from __future__ import annotations

from inline_app import app_of

import reactivedb as rdb

from .things import options


class Channel(rdb.Document, table="channels"):
    name: str


class Member(rdb.Document, table="members"):
    channel_id: rdb.Id[Channel]
    user: str

    by_user = rdb.Index("user")


class Message(rdb.Document, table="messages"):
    channel_id: rdb.Id[Channel]
    body: str

    by_channel = rdb.Index("channel_id")


@rdb.query
def inbox(ctx: rdb.QueryCtx, options: rdb.PaginationOptions, user: str) -> rdb.PaginationResult[Message]:
    mine = [Message.by_channel.eq(member.channel_id) for member in ctx.db.query(Member.by_user.eq(user))]
    return ctx.db.merge(*mine).order("desc").paginate(options)


@rdb.mutation
def create(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Channel]:
    return ctx.db.insert(Channel(name=name))


@rdb.mutation
def join(ctx: rdb.MutationCtx, channel_id: rdb.Id[Channel], user: str) -> None:
    ctx.db.insert(Member(channel_id=channel_id, user=user))


@rdb.mutation
def post(ctx: rdb.MutationCtx, channel_id: rdb.Id[Channel], body: str) -> None:
    ctx.db.insert(Message(channel_id=channel_id, body=body))


app = app_of(Channel, Member, Message, inbox, create, join, post)


def bodies(page: rdb.PaginationResult[Message]) -> str:
    return " ".join(message.body for message in page.page)


def test_a_member_follows_the_newest_messages_of_all_channels_page_by_page() -> None:
    with app.open(":memory:") as db:
        one, two, other = (db.mutation(create, name) for name in ("one", "two", "other"))
        for channel_id in (one, two):
            db.mutation(join, channel_id, "ada")
        for body in "abcdef":
            db.mutation(post, two if body in "bdf" else one, body)
        db.mutation(post, other, "hidden")
        with db.subscribe(inbox, options(2), "ada") as live:
            assert bodies(live.value) == "f e"
            db.mutation(post, other, "unseen")
            db.mutation(post, two, "g")
            page = live.wait_for_change(timeout_s=5)
            assert (bodies(page), live.run_count) == ("g f e", 2)
            # A channel that is joined later leaves the cursors what they are.
            db.mutation(join, other, "ada")
            page = live.wait_for_change(timeout_s=5)
            assert bodies(page) == "g unseen hidden f e"
            rest = db.query(inbox, options(9, page.continue_cursor), "ada")
            assert (bodies(rest), rest.is_done) == ("d c b a", True)
        assert [bodies(page) for page in db.pages(inbox, 4, "ada")] == ["g unseen hidden f", "e d c b", "a"]
