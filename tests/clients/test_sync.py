"""h.19-h.34: does npm's `ConvexClient` see live queries and mutations as Convex shows them?"""

from __future__ import annotations

from .conftest import JsRun, StartsScript
from .proxy import CuttingProxy


def test_h19_the_first_update_brings_the_current_value_exactly_once(js: JsRun) -> None:
    js("sync", "firstUpdate")


def test_h20_another_clients_mutation_arrives_within_a_second(js: JsRun) -> None:
    js("sync", "othersMutation")


def test_h21_a_mutation_outside_the_read_set_is_not_heard(js: JsRun) -> None:
    js("sync", "untouchedQuery")


def test_h22_an_equal_result_is_not_shown_again(js: JsRun) -> None:
    js("sync", "equalResult")


def test_h23_two_queries_changed_by_one_mutation_change_in_one_step(js: JsRun) -> None:
    js("sync", "oneStep")


def test_h24_a_client_reads_its_own_writes(js: JsRun) -> None:
    js("sync", "readYourWrites")


def test_h25_a_mutation_that_writes_nothing_resolves_with_nothing_subscribed(js: JsRun) -> None:
    js("sync", "writesNothing")


def test_h26_fifty_mutations_take_effect_in_call_order(js: JsRun) -> None:
    js("sync", "callOrder")


def test_h27_a_failing_mutation_rejects_leaves_nothing_and_later_ones_run(js: JsRun) -> None:
    js("sync", "failingMutation")


def test_h28_actions_run_side_by_side_and_do_not_delay_mutations(js: JsRun) -> None:
    js("sync", "concurrentActions")


def test_h29_after_unsubscribing_nothing_is_heard_and_resubscribing_is_fresh(js: JsRun) -> None:
    js("sync", "unsubscribe")


def test_h30_a_query_subscribed_twice_is_added_once(node: StartsScript, proxy: CuttingProxy) -> None:
    node("sync", "subscribedTwice", proxy.url).finish()
    added = [
        modification["udfPath"]
        for passed in proxy.of_type("ModifyQuerySet")
        for modification in passed.message["modifications"]
        if modification["type"] == "Add"
    ]
    assert added == ["counter:value"]


def test_h31_a_failing_query_reports_and_recovers_without_resubscribing(js: JsRun) -> None:
    js("sync", "failingQuery")


def test_h32_error_data_arrives_whole_and_plain_errors_have_none(js: JsRun) -> None:
    js("values", "errorData")


def test_h33_an_optimistic_update_shows_at_once_never_flickers_and_is_undone(js: JsRun) -> None:
    js("sync", "optimistic")


def test_h34_log_lines_of_functions_reach_the_clients_logger(js: JsRun) -> None:
    js("sync", "logLines")
