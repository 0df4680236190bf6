"""Does `serve` start on a disk without room, and serve what there is?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .conftest import StartServer


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_serve_starts_on_a_full_disk_serves_reads_and_refuses_writes(
    folder: Path, start: StartServer
) -> None:
    (folder / "notes.py").write_text((folder / "notes.py").read_text().replace("internal_query", "query"))
    first = start("serve", folder)
    assert first.call("mutation", "notes:add", text="kept")["status"] == "success"
    assert first.end() == 0

    # No file of this process can get as much as one byte.
    full = start("serve", folder, under=("bash", "-c", 'ulimit -f 0; exec "$@"', "bash"))
    assert full.call("query", "notes:count")["value"] == 1
    assert full.call("mutation", "notes:add", text="refused")["code"] == "DiskFull"
    assert full.call("query", "notes:count")["value"] == 1
    assert "cannot be written" in "".join(full.errors)
    full.end()

    again = start("serve", folder)
    assert again.call("query", "notes:count")["value"] == 1
    assert again.call("mutation", "notes:add", text="with room")["status"] == "success"
    assert again.end() == 0
