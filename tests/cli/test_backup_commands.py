"""What do `backup`, `restore` and `compact` say and do at the command line?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from upkeep import diary
from upkeep.diary import files_with

from .conftest import StartServer, finished

NOTE_IDS = """

@rdb.internal_query
def ids(ctx: rdb.QueryCtx) -> list[str]:
    return [note.id for note in ctx.db.query(Note)]
"""


@pytest.mark.slow
def test_the_file_of_a_running_server_is_backed_up_and_restored(
    folder: Path, start: StartServer, tmp_path: Path
) -> None:
    server = start("dev", folder)
    server.call("mutation", "notes:add", text="kept")
    data = server.data / "data.db"
    first = finished("backup", data, tmp_path / "backup")
    assert first.returncode == 0, first.stderr
    assert "backed up all of it" in first.stdout
    server.call("mutation", "notes:add", text="later")
    second = finished("backup", data, tmp_path / "backup")
    assert "backed up what has changed: 1 writes" in second.stdout
    in_use = finished("restore", tmp_path / "backup", data, "--overwrite")
    assert in_use.returncode == 1
    assert "has it open" in in_use.stderr
    assert finished("compact", data).returncode == 1
    server.end()
    ts = re.findall(r"as of \d+ to (\d+)", first.stdout)[0]
    there = finished("restore", tmp_path / "backup", data, "--at", ts)
    assert there.returncode == 1
    assert "--overwrite" in there.stderr
    done = finished("restore", tmp_path / "backup", data, "--at", ts, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert f"restored as of {ts}" in done.stdout
    again = start("dev", folder)
    counted = finished("run", "notes:count", cwd=folder)
    assert counted.stdout.strip() == "1", counted.stderr
    again.end()


@pytest.mark.slow
def test_a_running_server_erases_and_gives_room_back(folder: Path, start: StartServer) -> None:
    (folder / "notes.py").write_text((folder / "notes.py").read_text() + NOTE_IDS)
    server = start("dev", folder)
    server.call("mutation", "notes:add", text="words that nobody may find")
    found = finished("run", "notes:ids", cwd=folder)
    [id] = json.loads(found.stdout)
    assert files_with("words that nobody may find", server.data)
    done = finished("erase", id, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"erased `{id}`: 1 versions" in done.stdout
    assert files_with("words that nobody may find", server.data) == []
    assert "bytes now" in finished("compact", cwd=folder).stdout
    refused = finished("erase", "no id", cwd=folder)
    assert refused.returncode == 1
    assert "no id" in refused.stderr
    stranger = finished("erase", id, "--url", server.url, "--admin-key", "wrong|key", cwd=folder)
    assert stranger.returncode == 1
    server.end()


@pytest.mark.slow
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path) -> None:
    missing = finished("backup", tmp_path / "none.db", tmp_path / "backup")
    assert missing.returncode != 0
    assert "there is no database" in missing.stderr
    no_backup = finished("restore", tmp_path / "backup", tmp_path / "data.db")
    assert no_backup.returncode == 1
    assert "there is no backup" in no_backup.stderr
    assert finished("compact", tmp_path / "none.db").returncode != 0
    assert not (tmp_path / "none.db").exists()


@pytest.mark.slow
def test_a_closed_file_is_made_small(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    with diary.diary(log_retention_size_bytes_max=1).open(path, durability="relaxed") as db:
        ids = [db.mutation(diary.write, day, "x" * 9000) for day in range(80)]
        for id in ids:
            db.mutation(diary.tear_out, id)
        for day in range(10):
            db.mutation(diary.write, day, "stays")
    before = path.stat().st_size
    done = finished("compact", path)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size < before // 2
    with diary.diary().open(path) as db:
        assert len(db.query(diary.texts)) == 10
