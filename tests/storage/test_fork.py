"""What may a process do with a database that was open when it was forked?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

LONG = os.environ.get("REACTIVEDB_LONG") == "1"

# Forked in a process of its own: pytest's has threads of others.
_COMMON = """
import asyncio, gc, json, os, sys
import reactivedb as rdb

class Note(rdb.Document, table="notes"):
    text: str

@rdb.mutation
def add(ctx: rdb.MutationCtx, text: str) -> None:
    ctx.db.insert(Note(text=text))

@rdb.query
def count(ctx: rdb.QueryCtx) -> int:
    return ctx.db.query(Note).count()

app = rdb.App(sys.modules["__main__"], root="")
path = sys.argv[1]

def code_of(call):
    try:
        call()
    except rdb.ReactiveDBError as error:
        return error.code
    return "nothing"

def in_child(body):
    '''What `body` gives in a forked process, which ends as a program does.'''
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(body()).encode())
        sys.exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return [json.loads(said), status]
"""


def run(tmp_path: Path, program: str) -> Any:
    ended = subprocess.run(
        [sys.executable, "-c", _COMMON + textwrap.dedent(program), str(tmp_path / "notes.db")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_a_child_is_refused_by_name_and_the_parent_loses_nothing(tmp_path: Path) -> None:
    program = """
    with app.open(path) as db:
        db.mutation(add, "before")
        live = db.subscribe(count)

        def use():
            codes = [code_of(call) for call in (
                lambda: db.query(count), lambda: db.mutation(add, "child"), lambda: live.value,
                lambda: db.subscribe(count), lambda: db.at(db.latest_ts), db.run_until_idle,
            )]
            return codes

        answers = []
        for number in range(ROUNDS):
            answers.append(in_child(use))
            gc.collect()
            db.mutation(add, "after")
        counted = db.query(count)
    with app.open(path) as db:
        print(json.dumps([answers, counted, db.query(count)]))
    """
    rounds = 200 if LONG else 5
    answers, counted, stored = run(tmp_path, program.replace("ROUNDS", str(rounds)))
    assert answers == [[["DatabaseForked"] * 6, 0]] * rounds
    assert counted == stored == 1 + rounds


@pytest.mark.slow
def test_the_parent_may_close_and_open_again_while_the_child_lives(tmp_path: Path) -> None:
    program = """
    db = app.open(path)
    db.mutation(add, "one")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        sys.exit(0)
    db.close()
    with app.open(path) as db:
        db.mutation(add, "two")
        counted = db.query(count)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with app.open(path) as db:
        print(json.dumps([counted, db.query(count), status]))
    """
    assert run(tmp_path, program) == [2, 2, 0]


@pytest.mark.slow
def test_a_child_may_open_the_file_once_the_parent_has_closed_it(tmp_path: Path) -> None:
    program = """
    db = app.open(path)
    db.mutation(add, "one")

    def while_open():
        return code_of(lambda: app.open(path))

    def while_closed():
        with app.open(path) as own:
            own.mutation(add, "child")
            return own.query(count)

    first = in_child(while_open)
    db.close()
    second = in_child(while_closed)
    with app.open(path) as db:
        print(json.dumps([first, second, db.query(count)]))
    """
    assert run(tmp_path, program) == [["DatabaseInUse", 0], [2, 0], 2]


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_no_lock_with_its_child(tmp_path: Path) -> None:
    program = """
    import signal
    reading, writing = os.pipe()
    owner = os.fork()
    if owner == 0:
        db = app.open(path)
        db.mutation(add, "one")
        if os.fork() == 0:
            os.write(writing, b"x")
            os.close(writing)
            sys.stdin.read()
            os._exit(0)
        os.close(writing)
        signal.pause()
    os.close(writing)
    os.read(reading, 1)
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    with app.open(path) as db:
        print(json.dumps(db.query(count)))
    """
    assert run(tmp_path, program) == 1


@pytest.mark.slow
def test_an_async_database_is_refused_in_a_child(tmp_path: Path) -> None:
    program = """
    async def main():
        async with app.open_async(path) as db:
            await db.mutation(add, "one")
            child = os.fork()
            if child == 0:
                codes = []
                for call in (lambda: db.query(count), lambda: db.mutation(add, "child")):
                    try:
                        await call()
                        codes.append("nothing")
                    except rdb.StorageError as error:
                        codes.append(error.code)
                os._exit(0 if codes == ["DatabaseForked"] * 2 else 1)
            _, status = os.waitpid(child, 0)
            await db.mutation(add, "two")
            return [status, await db.query(count)]
    print(json.dumps(asyncio.run(main())))
    """
    assert run(tmp_path, program) == [0, 2]


@pytest.mark.slow
def test_a_pool_of_forked_workers_cannot_use_the_parents_database(tmp_path: Path) -> None:
    program = """
    import multiprocessing

    def work(number):
        return code_of(lambda: db.mutation(add, str(number)))

    with app.open(path) as db:
        db.mutation(add, "parent")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            codes = pool.map(work, range(8))
        counted = db.query(count)
    with app.open(path) as db:
        print(json.dumps([codes, counted, db.query(count)]))
    """
    assert run(tmp_path, program) == [["DatabaseForked"] * 8, 1, 1]
