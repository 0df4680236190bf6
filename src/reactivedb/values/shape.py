"""How many values does a JSON text hold, told before any of them is made?

A value of the text costs memory and time when it is read, whatever its bytes are: 15 MB of `[],[],...` are
five million lists. So the text is counted first, by the characters that begin values: a comma, `[` and `{`.
A first count takes all of them, also those within strings; it is never too low, and C does it. Only where
it is over the budget, strings are taken out and what is left is counted again.

Cost: some 2 ms for a megabyte, in steps of 256 KiB, linear for every text.
"""

from __future__ import annotations

from collections.abc import Iterator

from reactivedb.errors import ValueLimitError
from reactivedb.limits import Limits

_STEP_BYTES = 256 * 1024


def measured(text: bytes, limits: Limits) -> Iterator[None]:
    """Steps of counting; what is no JSON is counted like any other text.

    Raises: `ValueLimitError` (`TooManyValues`), as soon as a bound is passed.
    """
    # Nothing takes less than a byte.
    if len(text) <= limits.value_containers_max:
        return
    containers = commas = 0
    for start in range(0, len(text), _STEP_BYTES):
        step = text[start : start + _STEP_BYTES]
        containers += step.count(b"[") + step.count(b"{")
        commas += step.count(b",")
        yield
    if containers > limits.value_containers_max or containers + commas >= limits.value_nodes_max:
        yield from _measured_without_strings(text, limits)


def check_shape(text: bytes, limits: Limits) -> None:
    """`measured` in one go. Raises: `ValueLimitError`."""
    for _ in measured(text, limits):
        pass


def _measured_without_strings(text: bytes, limits: Limits) -> Iterator[None]:
    containers = commas = 0
    in_string = is_escaped = False
    for start in range(0, len(text), _STEP_BYTES):
        # The first character may be what the last one of the step before escapes.
        step = text[start + is_escaped : start + _STEP_BYTES].replace(b"\\\\", b"")
        is_escaped = step.endswith(b"\\")
        step = step.replace(b'\\"', b"")
        pieces = step.split(b'"')
        outside = b"".join(pieces[1::2] if in_string else pieces[::2])
        in_string ^= len(pieces) % 2 == 0
        containers += outside.count(b"[") + outside.count(b"{")
        commas += outside.count(b",")
        if containers > limits.value_containers_max:
            raise _too_many("value_containers_max", "arrays and objects", limits.value_containers_max)
        if containers + commas >= limits.value_nodes_max:
            raise _too_many("value_nodes_max", "values", limits.value_nodes_max)
        yield


def _too_many(limit: str, noun: str, maximum: int) -> ValueLimitError:
    return ValueLimitError(
        f"expected at most {maximum} {noun} in the arguments of one call, got more - send them in several "
        "calls, or as a file",
        code="TooManyValues",
        limit=limit,
        maximum=maximum,
        asked=maximum + 1,
    )
