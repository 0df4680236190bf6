"""h.1-h.9, h.11-h.18, h.81: does every value keep its type, its bytes and its place in the order?"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from .conftest import JsRun
from .probe import Probe, add, probe
from .server import DevServer

KIB = 1024
MIB = 1024 * KIB
ID_ALPHABET = set("0123456789abcdefghjkmnpqrstvwxyz")


@pytest.fixture
def server(shared_server: DevServer) -> DevServer:
    return shared_server


def test_h01_plain_values_round_trip_through_convex_client(js: JsRun) -> None:
    js("values", "plain")


def test_h01_plain_values_round_trip_through_convex_http_client(js: JsRun) -> None:
    js("values", "plainOverHttp")


def test_h01_plain_values_round_trip_through_pypi(py: JsRun) -> None:
    py("calls", "plain_values")


def test_h02_bigints_round_trip_and_what_does_not_fit_is_refused(js: JsRun) -> None:
    js("values", "bigints")


def test_h03_nan_infinities_and_negative_zero_round_trip(js: JsRun) -> None:
    js("values", "specialNumbers")


def test_h04_all_byte_values_round_trip_through_npm(js: JsRun) -> None:
    js("values", "bytes")


def test_h04_all_byte_values_round_trip_through_pypi(py: JsRun) -> None:
    py("calls", "all_bytes")


def test_h05_the_number_three_comes_back_as_a_number(js: JsRun) -> None:
    js("values", "three")


def test_h05_pypi_gets_floats_for_ints_and_int64_for_int64(py: JsRun) -> None:
    py("calls", "numbers")


def test_h06_a_function_that_returns_nothing_yields_null(js: JsRun) -> None:
    js("values", "nothing")


def test_h07_an_undefined_field_is_absent_on_the_server(js: JsRun) -> None:
    js("values", "undefinedField")


def test_h08_unusual_strings_round_trip_and_a_lone_surrogate_fails_alone(js: JsRun) -> None:
    js("values", "strings")


@pytest.fixture
def wire(server: DevServer) -> Iterator[Probe]:
    with probe(server.url) as opened:
        yield opened


@pytest.mark.parametrize(
    "value",
    [
        {"$x": 1},
        {"$undefined": None},
        {"$set": []},
        {"$integer": 5},
        {"$integer": "KgAA"},
        {"$bytes": "not base64!"},
        {"a": 1, "$b": 2},
        {"a\u0007": 1},
        {"é": 1},
        {"k" * 1025: 1},
    ],
)
def test_h09_what_is_no_value_is_refused_and_the_connection_survives(wire: Probe, value: object) -> None:
    for nested in (value, [{"inner": value}]):
        wire.mutate("echo:fromMutation", value=nested)
        response = wire.until("MutationResponse")
        assert response["success"] is False, response
        assert "errorData" not in response
    wire.modify(add(0, "echo:fromQuery", value=value))
    # The failed mutations are owed a Transition of their own, which may come first.
    while wire.version["querySet"] < wire.query_set:
        answer = wire.until("Transition")
    assert [modification["type"] for modification in answer["modifications"]] == ["QueryFailed"]
    assert wire.done("echo:fromMutation", value="alive")["result"] == "alive"


def refused(server: DevServer, value: object) -> bool:
    answer = server.request("mutation", "big:store", {"value": value})
    assert answer.status_code == 200, answer.text
    return answer.json()["status"] == "error"


def test_h11_bounds_of_documents_arrays_and_objects_are_kept(server: DevServer) -> None:
    assert not refused(server, "x" * (MIB - 200))
    assert refused(server, "x" * MIB)
    assert not refused(server, [None] * 8192)
    assert refused(server, [None] * 8193)
    assert not refused(server, {f"f{number}": None for number in range(1024)})
    assert refused(server, {f"f{number}": None for number in range(1025)})


def test_h12_one_value_of_each_type_stands_in_rank_order_both_ways(js: JsRun) -> None:
    js("values", "rankOrder")


def test_h13_strings_sort_by_code_point(js: JsRun) -> None:
    js("values", "stringOrder")


def test_h14_int64_comes_before_float64_and_zeros_differ(js: JsRun) -> None:
    js("values", "numberOrder")


def test_h15_arrays_and_objects_sort_lexicographically_prefix_first(js: JsRun) -> None:
    js("values", "compoundOrder")


def test_h16_ids_have_the_alphabet_and_a_changed_character_is_refused(server: DevServer) -> None:
    left_id = server.mutation("documents:createLeft", name="ada")
    assert 31 <= len(left_id) <= 37
    assert set(left_id) <= ID_ALPHABET
    assert server.query("documents:getLeft", id=left_id)["name"] == "ada"
    for position in range(len(left_id)):
        changed = left_id[:position] + ("1" if left_id[position] == "0" else "0") + left_id[position + 1 :]
        answer = server.request("query", "documents:getLeft", {"id": changed}).json()
        assert answer["status"] == "error", (position, changed)
        assert "ArgumentValidationError" in answer["errorMessage"]
    for malformed in ("", left_id.upper(), left_id + "0", left_id[:-1], "not-an-id"):
        answer = server.request("query", "documents:getLeft", {"id": malformed}).json()
        assert answer["status"] == "error", malformed


def test_h16_npm_is_refused_every_id_with_one_changed_character(js: JsRun) -> None:
    js("values", "changedIds")


def test_h17_an_id_finds_its_table_and_is_refused_as_another_tables(server: DevServer) -> None:
    left = server.mutation("documents:createLeft", name="ada")
    right = server.mutation("documents:createRight", name="bob")
    assert server.query("documents:find", id=left) == "Left ada"
    assert server.query("documents:find", id=right) == "Right bob"
    answer = server.request("query", "documents:getRight", {"id": left}).json()
    assert answer["status"] == "error"
    assert "ArgumentValidationError" in answer["errorMessage"]


def test_h18_creation_times_increase_within_a_mutation_and_are_near_the_clock(server: DevServer) -> None:
    before_ms = time.time() * 1000
    times = server.mutation("documents:createSeveral", count=100)
    after_ms = time.time() * 1000
    assert all(earlier < later for earlier, later in itertools.pairwise(times))
    assert before_ms - 1000 < times[0]
    assert times[-1] < after_ms + 1000


def test_h81_patch_and_replace_change_everything_but_the_id(js: JsRun) -> None:
    js("values", "changes")
