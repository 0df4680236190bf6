"""Is a secret's file whole, and its owner's alone, at every moment?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reactivedb.storage import private_file, write_private


def test_a_private_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    write_private(file, "old")
    seen: list[str] = []

    def watch(descriptor: int) -> None:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
        synced = Path(f"/proc/self/fd/{descriptor}").read_text()
        seen.append(f"{file.read_text()} while {synced} is synced")
        sync_data(descriptor)

    def watch_folder(folder: Path) -> None:
        seen.append(f"{file.read_text()} when {folder.name} is synced")
        sync_folder(folder)

    sync_data, sync_folder = private_file.sync_data, private_file.sync_folder
    monkeypatch.setattr(private_file, "sync_data", watch)
    monkeypatch.setattr(private_file, "sync_folder", watch_folder)
    write_private(file, "new")
    assert seen == ["old while new is synced", f"new when {tmp_path.name} is synced"]
    assert os.listdir(tmp_path) == ["secret"]
