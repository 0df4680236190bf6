"""A process that is killed at a chosen point of storing or deleting a file. A program for `test_crash`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from files import application as files
from files.application import file_app
from reactivedb.storage import FileStore, PartialFile


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(path: Path, point: str) -> None:
    finish, rename = PartialFile.finish, os.rename

    def finish_and_die(part: PartialFile) -> None:
        finish(part)
        die()

    def rename_and_die(source: Path, target: Path) -> None:
        rename(source, target)
        die()

    with file_app().open(path) as db:
        kept = db.action(files.store, b"kept")
        removed = db.action(files.store, b"removed")
        print(kept, removed, flush=True)
        match point:
            case "before the name":
                os.rename = die
            case "after the name":
                os.rename = rename_and_die
            case "before the row":
                PartialFile.finish = finish_and_die
            case "before the removal":
                FileStore.remove_later = die
                db.mutation(files.remove, removed)
            case _:
                raise AssertionError(point)
        db.action(files.store, b"new")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
