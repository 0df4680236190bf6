"""A process that is killed while it compacts or backs up. A program for the tests beside it.

`compact FILE SEED` compacts and writes, prints what was acknowledged, and is killed after a random time;
`backup FILE FOLDER STEP` and `restore FOLDER FILE STEP` are killed when that step begins.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from reactivedb.storage import back_up, restore
from upkeep import diary


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def compact(path: Path, seed: int) -> None:
    with diary.diary().open(path) as db:
        threading.Timer(random.Random(seed).uniform(0, 0.3), die).start()

        def write() -> None:
            for number in range(10**9):
                db.mutation(diary.write, 0, f"beside-{number}")
                print(f"beside-{number}", flush=True)

        threading.Thread(target=write, daemon=True).start()
        while True:
            db.compact()


def die_at(wanted: str, step: str) -> None:
    if step == wanted:
        die()


def main(task: str, *words: str) -> None:
    match task:
        case "compact":
            compact(Path(words[0]), int(words[1]))
        case "backup":
            back_up(Path(words[0]), Path(words[1]), on_step=lambda step: die_at(words[2], step))
        case "restore":
            restore(words[0], words[1], overwrite=True, on_step=lambda step: die_at(words[2], step))
        case "backup again and again":
            threading.Timer(random.Random(int(words[2])).uniform(0, 0.6), die).start()
            while True:
                back_up(Path(words[0]), Path(words[1]))
        case _:
            raise AssertionError(task)


if __name__ == "__main__":
    main(*sys.argv[1:])
