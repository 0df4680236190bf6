"""Do the ways in that are documented for other programs leave a file that opens, with all that is in it?

They write pages without checksums: SQLite's backup into the copy, `sqlite3` when it ends the WAL of a process
that was killed.
"""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from reactivedb.errors import StorageError
from reactivedb.storage import copy_sqlite, examine, open_sqlite
from reactivedb.storage.page_checksums import PAGE_SIZE_BYTES, is_whole

from .commits import INDEX, TABLE, insert, text_of


def backup(path: Path, folder: Path) -> Path:
    """While it is open: some pages come from the file, some from the WAL."""
    copy = folder / "copy.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def end_of_the_wal(path: Path, folder: Path) -> Path:
    """As after a kill, then opened and closed with `sqlite3`."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder / f"copy.db{suffix}")
    with sqlite3.connect(folder / "copy.db") as shell:
        assert shell.execute("SELECT count(*) FROM documents").fetchone()[0] > 0
    shell.close()
    assert not (folder / "copy.db-wal").exists()
    return folder / "copy.db"


def recover(path: Path, folder: Path) -> Path:
    """What `.recover` gives: the tables anew, in a file that has no room for checksums."""
    copy = folder / "copy.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
        target.executescript("\n".join(source.iterdump()))
        for pragma in ("application_id", "user_version"):
            target.execute(f"PRAGMA {pragma} = {source.execute(f'PRAGMA {pragma}').fetchone()[0]}")
    source.close()
    target.close()
    return copy


WAYS = pytest.mark.parametrize("way", [backup, end_of_the_wal, recover])
Way = Callable[[Path, Path], Path]


def copied(way: Way, folder: Path) -> Path:
    path = folder / "data.db"
    first = open_sqlite(path)
    first.put_table(TABLE)
    first.put_index(INDEX)
    first.append(insert(1, *(f"id{number:04}" for number in range(300))))
    first.flush()
    first.close()
    storage = open_sqlite(path, checkpoint_pages=20)
    for ts in range(2, 12):
        storage.append(insert(ts, *(f"more{ts} {number:04}" for number in range(20))))
        storage.flush()
        storage.sync()
    copy = way(path, folder)
    storage.close()
    return copy


@WAYS
def test_what_another_program_wrote_opens_and_is_all_there(tmp_path: Path, way: Way) -> None:
    copy = copied(way, tmp_path)
    storage = open_sqlite(copy)
    assert len(storage.scan_table(TABLE.number, "", None, limit=999)) == 500
    assert storage.check() == []
    storage.append(insert(20, "written since"))
    storage.flush()
    storage.close()
    assert not [problem for problem in examine(copy).problems if "index" not in problem]

    again = open_sqlite(copy)
    assert again.get(TABLE.number, "written since") is not None
    again.close()


@WAYS
def test_damage_to_a_page_with_a_checksum_is_noticed_there_too(tmp_path: Path, way: Way) -> None:
    copy = copied(way, tmp_path)
    open_sqlite(copy).close()
    content = bytearray(copy.read_bytes())
    place = content.index(text_of("id0150", author="ada"))
    page = place // PAGE_SIZE_BYTES * PAGE_SIZE_BYTES
    assert content[page + PAGE_SIZE_BYTES - 8 : page + PAGE_SIZE_BYTES] != bytes(8)
    content[place + 20] ^= 1
    copy.write_bytes(content)
    storage = open_sqlite(copy)
    # The text lies in `documents` and in `log`: one of the two pages is damaged.
    with pytest.raises(StorageError) as raised:
        [storage.get(TABLE.number, "id0150"), storage.log(0, limit=999)]
    assert raised.value.code == "DatabaseCorrupt"
    storage.close()


def test_only_where_another_program_has_written_a_page_may_lack_its_checksum(tmp_path: Path) -> None:
    copy = copied(backup, tmp_path)
    own, other = tmp_path / "data.db", copy
    open_sqlite(own).close()
    for path, whole in ((own, True), (other, False)):
        content = bytearray(path.read_bytes())
        assert is_whole(content[:PAGE_SIZE_BYTES]) == whole
        end = content.index(text_of("id0150", author="ada")) // PAGE_SIZE_BYTES * PAGE_SIZE_BYTES
        content[end + PAGE_SIZE_BYTES - 8 : end + PAGE_SIZE_BYTES] = bytes(8)
        path.write_bytes(content)
        storage = open_sqlite(path)
        damaged = storage.check() != []
        storage.close()
        assert damaged == whole
    # The other has its checksums now.
    assert is_whole(other.read_bytes()[:PAGE_SIZE_BYTES])
    assert other.read_bytes()[PAGE_SIZE_BYTES - 4 :: PAGE_SIZE_BYTES].count(bytes(4)) == 0


def test_every_wal_holds_the_first_page(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path, checkpoint_pages=5)
    for ts in range(1, 20):
        storage.append(insert(ts, f"id{ts}"))
        storage.flush()
        frames = path.with_name("data.db-wal").read_bytes()
        salts = frames[16:24]
        pages = {
            int.from_bytes(frames[start : start + 4])
            for start in range(32, len(frames), 24 + PAGE_SIZE_BYTES)
            if frames[start + 8 : start + 16] == salts
        }
        assert 1 in pages
    storage.close()


def test_a_file_in_which_the_place_of_checksums_is_damaged_is_not_taken_for_another_programs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    storage.append(insert(1, *(f"id{number:04}" for number in range(300))))
    storage.flush()
    storage.close()
    content = bytearray(path.read_bytes())
    assert content[20] == 8
    content[20] = 0
    path.write_bytes(content)
    with pytest.raises(StorageError) as raised:
        open_sqlite(path)
    assert raised.value.code == "DatabaseCorrupt"
    assert apsw.Connection(str(path)).pragma("user_version") == 3


def test_our_own_copy_has_all_checksums_and_does_not_copy_damage(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    storage.put_table(TABLE)
    storage.put_index(INDEX)
    storage.append(insert(1, *(f"id{number:04}" for number in range(300))))
    storage.flush()
    copy_sqlite(path, tmp_path / "copy.db")
    storage.close()
    assert is_whole((tmp_path / "copy.db").read_bytes()[:PAGE_SIZE_BYTES])
    copy = open_sqlite(tmp_path / "copy.db")
    assert copy.check() == []
    copy.close()

    content = bytearray(path.read_bytes())
    content[content.index(text_of("id0150", author="ada")) + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError) as raised:
        copy_sqlite(path, tmp_path / "other.db")
    assert raised.value.code == "DatabaseCorrupt"


def test_every_page_ends_as_the_format_document_says(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    storage = open_sqlite(path)
    storage.append(insert(1, *(f"id{number:04}" for number in range(300))))
    storage.flush()
    storage.close()
    content = path.read_bytes()
    first, rest = content[:PAGE_SIZE_BYTES], range(PAGE_SIZE_BYTES, len(content), PAGE_SIZE_BYTES)
    assert len(rest) > 10
    for start in rest:
        page = content[start : start + PAGE_SIZE_BYTES]
        assert page[4088:4092] == b"CRC3"
        assert page[4092:] == zlib.crc32(page[:4092], start // PAGE_SIZE_BYTES + 1).to_bytes(4, "little")
    counters = [(24, 28), (40, 44), (92, 100)]
    blank = bytearray(first[:4088])
    for begin, end in counters:
        blank[begin:end] = bytes(end - begin)
    mark = zlib.crc32(b"".join(first[begin:end] for begin, end in counters), 1)
    assert first[4088:] == mark.to_bytes(4, "little") + zlib.crc32(blank, 1).to_bytes(4, "little")
