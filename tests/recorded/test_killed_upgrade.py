"""Is a recorded file whole after the power went, or it was killed, while it was brought up to date?"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest
from storage.power_cut_vfs import Disk, DiskWalSync, PowerCutVFS

from reactivedb.storage import examine, open_sqlite
from reactivedb.storage.sqlite_schema import FORMAT_VERSION

COUNT = 200 if os.environ.get("REACTIVEDB_LONG") == "1" else 15


def content_of(path: Path) -> list[list[tuple[object, ...]]]:
    with sqlite3.connect(path) as shell:
        found = [
            shell.execute(statement).fetchall()
            for statement in (
                "SELECT table_number, id, ts, value FROM documents ORDER BY table_number, id",
                "SELECT index_number, key, id FROM index_entries ORDER BY index_number, key",
                "SELECT * FROM log ORDER BY ts, position",
                "SELECT * FROM outcomes ORDER BY ts",
                "SELECT * FROM meta WHERE key NOT LIKE 'storage.%' ORDER BY key",
            )
        ]
    shell.close()
    return found


def open_and_close(path: Path, disk: Disk, vfs: PowerCutVFS) -> None:
    open_sqlite(path, vfs=vfs.vfs_name, open_wal=lambda wal: DiskWalSync(wal, disk)).close()


def operations_of_opening(whole: Path, folder: Path) -> int:
    folder = Path(os.path.realpath(folder))
    shutil.copytree(whole, folder)
    disk = Disk(folder)
    disk.cut_after(limit := 10**9)
    open_and_close(folder / "data.db", disk, PowerCutVFS(f"power cut {folder}", disk))
    return limit - disk.operations_left


@pytest.mark.slow
@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_a_file_of_any_format_survives_a_power_cut_at_any_point_of_its_opening(
    tmp_path: Path, version: int
) -> None:
    seed = int(os.environ.get("REACTIVEDB_SEED", random.SystemRandom().randrange(2**32)))
    print(f"REACTIVEDB_SEED={seed}")
    rng = random.Random(seed)
    whole = tmp_path / "whole"
    with tarfile.open(Path(__file__).parent / f"format_{version}.tar.xz") as archive:
        archive.extractall(whole, filter="data")
    shutil.rmtree(whole / "data.db.files")
    (whole / "expected.json").unlink()
    shutil.copytree(whole, tmp_path / "sound")
    expected = content_of(tmp_path / "sound" / "data.db")
    operation_count = operations_of_opening(whole, tmp_path / "counted")
    cut_count = 0
    for number in range(COUNT):
        folder = Path(os.path.realpath(tmp_path)) / str(number)
        shutil.copytree(whole, folder)
        path = folder / "data.db"
        disk = Disk(folder)
        vfs = PowerCutVFS(f"power cut {path}", disk)
        for _ in range(3):
            # The first opening does as many operations as the counted one, and so is always cut.
            disk.cut_after(rng.randrange(operation_count))
            open_and_close(path, disk, vfs)
            cut_count += disk.is_off
            disk.cut_and_restart(rng)
        open_sqlite(path).close()
        assert content_of(path) == expected
        assert examine(path).problems == []
        with sqlite3.connect(path) as shell:
            assert shell.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
        shell.close()
        shutil.rmtree(folder)
    assert cut_count >= COUNT
