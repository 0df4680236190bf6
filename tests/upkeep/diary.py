"""An application whose documents are erased, backed up and restored."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated

from inline_app import app_of

import reactivedb as rdb

MARKER = "the words that nobody may find"


class Writer(rdb.Document, table="writers"):
    name: str


class Entry(rdb.Document, table="entries"):
    day: int
    text: str
    writer: Annotated[rdb.Id[Writer] | None, rdb.OnDelete("cascade")] = None

    by_day = rdb.Index("day")
    by_text = rdb.Index("text")
    by_writer = rdb.Index("writer")


class Seal(rdb.Document, table="seals"):
    entry: Annotated[rdb.Id[Entry], rdb.OnDelete("restrict")]

    by_entry = rdb.Index("entry")


@rdb.mutation
def enroll(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Writer]:
    return ctx.db.insert(Writer(name=name))


@rdb.mutation
def write(ctx: rdb.MutationCtx, day: int, text: str, writer: rdb.Id[Writer] | None = None) -> rdb.Id[Entry]:
    return ctx.db.insert(Entry(day=day, text=text, writer=writer))


@rdb.mutation
def rewrite(ctx: rdb.MutationCtx, id: rdb.Id[Entry], text: str) -> str:
    print("it says", text)
    ctx.db.patch(id, text=text)
    return text


@rdb.mutation
def tear_out(ctx: rdb.MutationCtx, id: rdb.Id[Entry]) -> None:
    ctx.db.delete(id)


@rdb.mutation
def seal(ctx: rdb.MutationCtx, id: rdb.Id[Entry]) -> None:
    ctx.db.insert(Seal(entry=id))


@rdb.mutation
def publish(ctx: rdb.MutationCtx, text: str) -> None:
    pass


@rdb.mutation
def publish_later(ctx: rdb.MutationCtx, text: str, delay_s: float) -> str:
    return ctx.scheduler.run_after(delay_s, publish, text)


@rdb.query
def entries(ctx: rdb.QueryCtx) -> list[str]:
    return [f"{entry.day} {entry.text}" for entry in ctx.db.query(Entry.by_day)]


@rdb.query
def texts(ctx: rdb.QueryCtx) -> list[str]:
    return sorted(entry.text for entry in ctx.db.query(Entry))


@rdb.query
def jobs(ctx: rdb.QueryCtx) -> int:
    return len(ctx.db.system.query("_scheduled_functions").collect())


@rdb.action
async def attach(ctx: rdb.ActionCtx, data: bytes) -> rdb.Id[rdb.StoredFile]:
    return await ctx.storage.store(data)


@rdb.mutation
def detach(ctx: rdb.MutationCtx, id: rdb.Id[rdb.StoredFile]) -> None:
    ctx.storage.delete(id)


@rdb.action
async def attached(ctx: rdb.ActionCtx, id: rdb.Id[rdb.StoredFile]) -> bytes | None:
    blob = await ctx.storage.get(id)
    return None if blob is None else await blob.read()


@cache
def diary(**limits: float) -> rdb.App:
    bounds = rdb.Limits(**limits)  # pyright: ignore[reportArgumentType]
    return app_of(
        *(Writer, Entry, Seal, enroll, write, rewrite, tear_out, seal, publish, publish_later),
        *(entries, texts, jobs, attach, detach, attached),
        limits=bounds,
    )


def files_with(text: str, *folders: Path) -> list[Path]:
    """The files below those folders that have the text somewhere in their bytes."""
    marker = text.encode()
    return [
        file
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file() and marker in file.read_bytes()
    ]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """No file of this process may become larger: the disk is full there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
