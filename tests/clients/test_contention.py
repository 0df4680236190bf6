"""h.83-h.85: do many clients at once leave the data right?"""

from __future__ import annotations

from .conftest import JsRun, StartsScript
from .server import DevServer


def test_h83_twenty_clients_counting_fifty_times_make_a_thousand(
    node: StartsScript, server: DevServer
) -> None:
    node("contention", "lostUpdate", server.url).finish(timeout_s=60)


def test_h84_two_mutations_that_read_both_rows_and_write_one_cannot_both_pass(js: JsRun) -> None:
    js("contention", "writeSkew")


def test_h85_ten_clients_claiming_one_name_make_one_row(js: JsRun) -> None:
    js("contention", "phantom")


def test_h85_ten_clients_at_a_unique_index_make_one_row_and_its_children_go_with_it(js: JsRun) -> None:
    js("contention", "uniqueIndex")
